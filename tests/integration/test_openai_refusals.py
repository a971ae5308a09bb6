"""Responses that wait for a person, are denied or refused, as the official openai client reads them."""

from typing import Any, cast

import openai
import pytest
from openai.types.responses import Response, ResponseOutputMessage
from openai.types.responses.response_output_item import McpApprovalRequest

from cattlegrid.core.messages import Usage
from cattlegrid.testing.models import answer, call
from tests.integration.openai_client import NoPasswords, client_of, events_of, ours, snapshot
from tests.unit.server.site import open_site

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("door:responses")]

HELD = answer(calls=[call("refund", order=17, amount=79.9)])
SPENT = Usage(input_tokens=120, output_tokens=30, cache_read_tokens=100, reasoning_tokens=12)


@pytest.mark.requirement("door:holds")
async def test_a_hold_is_a_typed_item_and_the_response_goes_on_once_it_is_decided() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    async with client_of(site) as client:
        held = await client.responses.create(model="support", input="Refund 17")
        assert (held.status, held.output_text, held.usage) == ("in_progress", "", None)
        [item] = held.output
        assert isinstance(item, McpApprovalRequest)
        assert (item.name, item.server_label, item.arguments) == ("refund", "support", "null")
        assert ours(item)["status"] == "pending"
        await site.post(f"/approvals/{item.id}/decision", {"decision": "approve"}, "staff")
        done = await client.responses.retrieve(held.id)
    assert (done.id, done.status, done.output_text) == (held.id, "completed", "Refunded.")
    assert [one.type for one in done.output] == ["mcp_approval_request", "message"]
    assert ours(done.output[0])["status"] == "approve"


@pytest.mark.requirement("door:holds")
async def test_those_who_may_decide_do_so_in_the_clients_own_words_and_see_the_arguments() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    async with client_of(site) as client:
        held = await client.responses.create(model="support", input="Refund 17")
        staff = client.with_options(api_key=site.keys["staff"])
        [item] = (await staff.responses.retrieve(held.id)).output
        assert isinstance(item, McpApprovalRequest)
        assert item.arguments == '{"amount":79.9,"order":17}'
        decision: Any = {"type": "mcp_approval_response", "approval_request_id": item.id, "approve": True}
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.responses.create(model="support", input=[decision], previous_response_id=held.id)
        assert refused.value.code == "forbidden"
        done = await staff.responses.create(model="support", input=[decision])
        assert (done.id, done.status, done.output_text) == (held.id, "completed", "Refunded.")
        with pytest.raises(openai.ConflictError) as late:
            await staff.responses.create(model="support", input=[decision])
        assert late.value.code == "already_decided"


@pytest.mark.requirement("door:holds")
async def test_a_stream_tells_of_a_hold_stays_and_brings_the_answer() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    async with client_of(site) as client:
        stream = await client.responses.create(model="support", input="Refund 17", stream=True)
        types: list[str] = []
        last: Response | None = None
        async for event in stream:
            types.append(event.type)
            if event.type == "response.output_item.done" and isinstance(event.item, McpApprovalRequest):
                path = f"/approvals/{event.item.id}/decision"
                await site.post(path, {"decision": "reject", "note": "no photo"}, "staff")
            if event.type == "response.completed":
                last = event.response
    assert last is not None
    assert [item.type for item in last.output] == ["mcp_approval_request", "message"]
    assert types.count("response.completed") == 1


@pytest.mark.requirement("door:errors")
async def test_refusals_are_the_clients_own_errors_with_our_code() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    async with client_of(site) as client:
        create = client.responses.create
        cases: list[tuple[type[openai.APIStatusError], str, str | None, dict[str, Any]]] = [
            (openai.NotFoundError, "not_found", None, {"model": "nobody", "input": "Hi"}),
            (
                openai.BadRequestError,
                "invalid_request",
                "tools",
                {"input": "Hi", "tools": [{"type": "web_search"}]},
            ),
            (openai.BadRequestError, "invalid_request", "store", {"input": "Hi", "store": False}),
            (
                openai.BadRequestError,
                "invalid_request",
                "input",
                {"input": [{"role": "system", "content": "x"}]},
            ),
            (openai.APIStatusError, "too_large", None, {"input": "x" * 40_000}),
            (openai.APIStatusError, "too_large", None, {"input": "x" * 2_000_000}),
        ]
        for kind, code, param, body in cases:
            with pytest.raises(kind) as refused:
                await create(**cast("Any", {"model": "support", **body}))
            assert (refused.value.code, refused.value.param) == (code, param)
            assert refused.value.request_id == refused.value.response.json()["error"]["correlation_id"]
        wrong = client.with_options(api_key="cg_no_such")
        with pytest.raises(openai.AuthenticationError) as unknown:
            await wrong.responses.create(model="support", input="Hi")
        assert (unknown.value.code, unknown.value.type) == ("unauthenticated", "authentication_error")


@pytest.mark.requirement("door:errors")
async def test_a_service_that_stops_is_an_error_that_clients_try_again_and_a_conflict_is_not() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    async with client_of(site, retries=2) as client:
        first = await client.responses.create(model="support", input="One")
        await client.responses.create(model="support", input="Two", previous_response_id=first.id)
        with pytest.raises(openai.ConflictError) as refused:
            await client.responses.create(model="support", input="Or", previous_response_id=first.id)
        assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"
        site.world.engine.begin_draining()
        with pytest.raises(openai.InternalServerError) as stopping:
            await client.with_options(max_retries=0).responses.create(model="support", input="Hi")
        assert stopping.value.code == "store_unavailable"
        assert stopping.value.response.headers["retry-after"] == "2"


@pytest.mark.requirement("door:foreign")
async def test_other_peoples_responses_conversations_and_approvals_do_not_exist() -> None:
    site = await open_site(model=[HELD, answer("Yes.")])
    nobody = "01KF3Q1V9Q4Z8M2N6T7R5W3XYC"
    async with client_of(site) as client:
        hers = await client.responses.create(model="support", input="Refund 17")
        assert hers.conversation is not None
        bo = client.with_options(api_key=site.keys["bo"])
        decision = {"type": "mcp_approval_response", "approve": True}
        asked: list[tuple[Any, Any]] = []
        for response, conversation, approval in (
            (hers.id, hers.conversation.id, hers.output[0].id),
            (f"resp_{nobody}", f"conv_{nobody}", f"apr_{nobody}_004"),
        ):
            decide = [{**decision, "approval_request_id": approval}]
            asked.append(
                (
                    await refused_by(bo.responses.retrieve(response)),
                    [
                        await refused_by(bo.responses.cancel(response)),
                        await refused_by(bo.responses.retrieve(response, stream=True)),
                        await refused_by(
                            bo.responses.create(model="support", input="x", previous_response_id=response)
                        ),
                        await refused_by(
                            bo.responses.create(model="support", input="x", conversation=conversation)
                        ),
                        await refused_by(bo.responses.create(model="support", input=cast("Any", decide))),
                    ],
                )
            )
        assert asked[0] == asked[1]
        run = (await site.get(f"/runs/{ours(hers)['run_id']}")).json()
        assert run["status"] == "held"
        assert len(site.world.model.requests) == 1
        await client.responses.cancel(hers.id)


async def refused_by(asking: Any) -> tuple[int, str, str]:  # noqa: ANN401
    with pytest.raises(openai.NotFoundError) as refused:
        await asking
    return (
        refused.value.status_code,
        refused.value.code or "",
        refused.value.message.split("'correlation_id'")[0],
    )


@pytest.mark.requirement("door:provisional")
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_guard_denies_is_an_incomplete_response_with_a_refusal(*, streamed: bool) -> None:
    site = await open_site(model=[answer("The password is 1234.")], guards=[NoPasswords()])
    async with client_of(site) as client:
        if streamed:
            events = await events_of(await client.responses.create(model="support", input="Hi", stream=True))
            assert events[-1].type == "response.incomplete"
            refused = [event.refusal for event in events if event.type == "response.refusal.done"]
            made = snapshot(events[-1])
        else:
            made = await client.responses.create(model="support", input="Hi")
            [message] = made.output
            assert isinstance(message, ResponseOutputMessage)
            [part] = message.content
            refused = [part.refusal if part.type == "refusal" else ""]
    assert (made.status, made.output_text, refused) == (
        "incomplete",
        "",
        ["I cannot help with this request."],
    )
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "content_filter"
