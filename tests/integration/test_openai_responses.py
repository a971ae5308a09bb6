"""Responses, as the official openai client asks for them and reads them, over real connections."""

import asyncio
from typing import Any, cast

import openai
import pytest
from openai.types.responses import ResponseOutputMessage

from cattlegrid.core.errors import ModelUnavailable
from cattlegrid.core.messages import Role, Usage
from cattlegrid.testing.models import Answer, Break, Stall, answer, call
from tests.integration.openai_client import client_of, events_of, ours, snapshot
from tests.unit.server.site import open_site, until

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("door:responses")]

HELD = answer(calls=[call("refund", order=17, amount=79.9)])
SPENT = Usage(input_tokens=120, output_tokens=30, cache_read_tokens=100, reasoning_tokens=12)


@pytest.mark.requirement("door:usage")
async def test_an_answer_comes_with_its_usage_its_cost_and_where_it_is() -> None:
    site = await open_site(model=[answer("Hello Ana.", usage=SPENT)])
    async with client_of(site) as client:
        made = await client.responses.create(model="support", input="Hi", temperature=0.2)
        assert (made.status, made.output_text, made.error) == ("completed", "Hello Ana.", None)
        assert made.usage is not None
        assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (120, 30, 150)
        assert made.usage.input_tokens_details.cached_tokens == 100
        assert made.usage.output_tokens_details.reasoning_tokens == 12
        run = (await site.get(f"/runs/{ours(made)['run_id']}")).json()
        names = ("session_id", "agent", "bundle", "status", "reason", "cost_nano_usd", "cost_usd")
        assert {name: ours(made)[name] for name in names} == {name: run[name] for name in names}
        assert (run["cost_nano_usd"] > 0, ours(made)["ignored"]) == (True, ["temperature"])
        read = await client.responses.retrieve(made.id)
        assert ours(read) == {**ours(made), "ignored": []}
        assert (read.output_text, read.usage, read.model) == (made.output_text, made.usage, "support")


async def test_a_stream_has_the_events_of_the_protocol_in_their_order() -> None:
    site = await open_site(model=[answer("Hello Ana.")])
    async with client_of(site) as client:
        stream = await client.responses.create(model="support", input="Hi", stream=True)
        events = await events_of(stream)
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == [
        "Hello ",
        "Ana.",
    ]
    assert {getattr(event, "output_index", 0) for event in events} == {0}
    last = snapshot(events[-1])
    [message] = last.output
    assert isinstance(message, ResponseOutputMessage)
    assert (last.output_text, message.status) == ("Hello Ana.", "completed")
    assert {getattr(event, "item_id", message.id) for event in events} == {message.id}


async def test_the_clients_own_accumulator_follows_a_stream() -> None:
    script = [answer("Let me look.", calls=[call("find_order", order=17)]), answer("It is paid.")]
    site = await open_site(model=script)
    async with client_of(site) as client, client.responses.stream(model="support", input="Hi") as stream:
        texts = [event.text async for event in stream if event.type == "response.output_text.done"]
        final = await stream.get_final_response()
    assert texts == ["Let me look.", "It is paid."]
    assert (final.status, final.output_text) == ("completed", "It is paid.")


@pytest.mark.requirement("door:provisional")
async def test_words_of_a_failed_attempt_end_as_an_incomplete_item_and_are_not_in_the_answer() -> None:
    broken = Break(("Hel",), ModelUnavailable("The model did not answer."))
    site = await open_site(model=[broken, answer("Hello.")])
    async with client_of(site) as client:
        stream = await client.responses.create(model="support", input="Hi", stream=True)
        reading = asyncio.create_task(events_of(stream))
        async with asyncio.timeout(5):
            await site.world.clock.asleep(2)
        site.world.clock.advance(10)
        events = await reading
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [getattr(item, "status", "") for item in done] == ["incomplete", "completed"]
    assert len({getattr(item, "id", "") for item in done}) == 2
    assert snapshot(events[-1]).output_text == "Hello."


@pytest.mark.requirement("door:threads")
async def test_a_conversation_goes_on_by_its_last_response_by_itself_and_by_a_name_of_ones_own() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    async with client_of(site) as client:
        first = await client.responses.create(model="support", input="One")
        second = await client.responses.create(model="support", input="Two", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        assert second.conversation is not None
        third = await client.responses.create(
            model="support", input="Three", conversation=second.conversation.id
        )
        fourth = await client.responses.create(
            model="support", input="Four", conversation={"id": ours(third)["session_id"]}
        )
        assert {ours(one)["session_id"] for one in (first, second, third, fourth)} == {
            ours(first)["session_id"]
        }
        told = [
            message.text for message in site.world.model.requests[-1].messages if message.role is Role.USER
        ]
        assert told == ["One", "Two", "Three", "Four"]
        with pytest.raises(openai.ConflictError, match="gone on since"):
            await client.responses.create(model="support", input="Or", previous_response_id=first.id)
        named = [
            await client.responses.create(model="support", input=text, conversation="web-4711")
            for text in ("One", "Two")
        ]
        assert len({ours(one)["session_id"] for one in named}) == 1
        assert ours(named[0])["session_id"] != ours(first)["session_id"]


@pytest.mark.requirement("door:idempotency")
async def test_the_same_key_gives_the_same_response_and_another_request_with_it_is_refused() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    key = {"Idempotency-Key": "k-1"}
    async with client_of(site) as client:
        made = [
            await client.responses.create(model="support", input="Hi", extra_headers=key) for _ in range(3)
        ]
        assert len({one.id for one in made}) == 1
        assert len(site.world.model.requests) == 1
        stream = await client.responses.create(model="support", input="Hi", extra_headers=key, stream=True)
        assert snapshot((await events_of(stream))[-1]).id == made[0].id
        for other in ({"input": "Ho"}, {"input": "Hi", "conversation": "web-1"}):
            with pytest.raises(openai.ConflictError) as refused:
                await client.responses.create(model="support", extra_headers=key, **cast("Any", other))
            assert refused.value.code == "idempotency_mismatch"


async def test_a_response_in_the_background_is_cancelled_and_read() -> None:
    site = await open_site(model=[Stall()])
    async with client_of(site) as client:
        begun = await client.responses.create(model="support", input="Hi", background=True)
        assert (begun.status, begun.output) == ("in_progress", [])
        cancelled = await client.responses.cancel(begun.id)
        assert (cancelled.id, cancelled.status) == (begun.id, "cancelled")
        assert (await client.responses.retrieve(begun.id)).status == "cancelled"
        assert (await client.responses.cancel(begun.id)).status == "cancelled"


async def test_a_queued_response_says_so_and_its_stream_begins_with_that() -> None:
    def model(request: Any) -> Answer:  # noqa: ANN401
        return Stall() if request.messages[-1].text == "One" else answer("Two.")

    site = await open_site(model=model)
    async with client_of(site) as client:
        first = await client.responses.create(model="support", input="One", background=True)
        second = await client.responses.create(
            model="support", input="Two", previous_response_id=first.id, background=True
        )
        assert (second.status, second.usage) == ("queued", None)
        stream = await client.responses.retrieve(second.id, stream=True)
        reading = asyncio.create_task(events_of(stream))
        await client.responses.cancel(first.id)
        events = await reading
    assert [event.type for event in events][:3] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert snapshot(events[-1]).output_text == "Two."


async def test_a_run_that_fails_or_meets_a_limit_is_no_error_of_http() -> None:
    site = await open_site(model=[])
    async with client_of(site) as client:
        failed = await client.responses.create(model="support", input="Hi")
        stream = await client.responses.create(model="support", input="Ho", stream=True)
        events = await events_of(stream)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("server_error", "I could not finish this.")
    assert events[-1].type == "response.failed"


@pytest.mark.requirement("door:models")
async def test_agents_are_models() -> None:
    site = await open_site()
    async with client_of(site) as client:
        [model] = [model async for model in await client.models.list()]
        assert (model.id, model.object, model.owned_by) == ("support", "model", "cattlegrid")
        assert await client.models.retrieve("support") == model
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")


async def test_a_client_that_leaves_a_stream_leaves_the_run_alone() -> None:
    release = asyncio.Event()

    async def find(order: int) -> int:
        await release.wait()
        return order

    script = [answer("Wait.", calls=[call("find_order", order=1)]), answer("Found.")]
    site = await open_site(model=script, functions={"find_order": find})
    async with client_of(site) as client:
        stream = await client.responses.create(model="support", input="Hi", stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        response_id = "resp_" + (await site.get("/runs")).json()["items"][0]["id"].removeprefix("run_")
        await stream.close()
        release.set()
        await site.world.settled()
        assert (await client.responses.retrieve(response_id)).output_text == "Found."
        await until(lambda: not site.world.engine.open_streams)
