"""Models and tools that come back with nonsense: it becomes an event, never the end of the session."""

import asyncio
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import ModelTier
from cattlegrid.core.messages import Message, ModelRequest, ModelResponse, ToolCall
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.models import Answer, answer
from cattlegrid.testing.world import ANA, STAFF
from tests.unit.runtime.support import (
    LOOK,
    PAY_ONCE,
    Build,
    Till,
    approve,
    bundle,
    calls,
    data_of,
    disk,
    idle,
    second_process,
    show,
    start,
    told,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("fault:model-down")]


def nonsense(message: object) -> ModelResponse:
    """An answer whose message a client should never have let through."""
    return replace(answer("Hello."), message=cast("Message", message))


async def test_lone_surrogates_of_a_model_are_dropped_wherever_they_stand(build: Build) -> None:
    odd = ToolCall("call_\ud800", "look\udfff", '{"id": 1}')
    said = replace(answer("a\ud800b", calls=[odd]).message, reasoning=("c\udc00d",))
    world = build(
        bundle(LOOK), [nonsense(said), answer("Bye\ud83d.")], functions={"look": lambda id: {"seen": id}}
    )
    run = await world.finished(await start(world))
    assert (run.status, run.output) == ("completed", "Bye.")
    kept = world.model.requests[1].messages[-2]
    assert (kept.text, kept.reasoning, kept.tool_calls) == (
        "ab",
        ("cd",),
        (ToolCall("call_", "look", '{"id": 1}'),),
    )


@pytest.mark.parametrize("part", ["reasoning", "tool_calls", "refusal"])
async def test_an_answer_that_cannot_be_recorded_fails_the_run_and_not_the_session(
    build: Build, part: str
) -> None:
    whatever: Any = {"reasoning": (object(),), "tool_calls": (5,), "refusal": object()}[part]
    message = msgspec.convert({"role": "assistant"}, Message)
    message = replace(message, **{part: whatever})
    world = build(bundle(), [nonsense(message), answer("Hello.")])
    run = await world.finished(await start(world))
    assert (run.status, run.reason) == ("failed", "model_protocol")
    assert (await world.ask("Again", session_id=run.session_id)).output == "Hello."


async def test_a_client_that_breaks_its_contract_fails_the_run_and_its_trace_is_on_record(
    build: Build,
) -> None:
    def model(request: ModelRequest) -> Answer:
        if len(request.messages) == 2:
            raise ZeroDivisionError("a bug in the client")
        return answer("Hello.")

    world = build(bundle(), model)
    run = await world.finished(await start(world))
    assert (run.status, run.reason) == ("failed", "model_unavailable")
    [failed] = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    entry = await world.store.entry("session", run.session_id)
    assert entry is not None
    assert (
        b"ZeroDivisionError" in (await world.vault.read(entry.owner, [failed.detail_ref]))[failed.detail_ref]
    )
    assert "ZeroDivisionError" not in run.output
    assert (await world.ask("Again", session_id=run.session_id)).output == "Hello."


async def test_a_provider_that_is_not_set_up_fails_the_run_with_a_sentence(build: Build) -> None:
    of = replace(bundle(), models={"default": ModelTier(name="small", provider="nowhere", model="fake")})
    world = build(of, [])
    run = await world.finished(await start(world))
    assert (run.status, run.output) == ("failed", "I could not finish this.")


async def test_a_tool_that_returns_what_is_no_json_is_told_to_the_model(build: Build) -> None:
    world = build(bundle(LOOK), [calls(("look", 1)), answer("Odd.")], functions={"look": lambda id: object()})
    run = await world.finished(await start(world))
    assert run.output == "Odd."
    assert told(world.model.requests[1]) == ["The call failed."]


async def test_a_text_as_result_reaches_the_model_as_the_text_itself(build: Build) -> None:
    world = build(
        bundle(LOOK), [calls(("look", 1)), answer("Yes.")], functions={"look": lambda id: 'It "is".'}
    )
    await world.finished(await start(world))
    assert told(world.model.requests[1]) == ['It "is".']


async def test_the_same_tool_call_id_twice_in_one_answer_gets_two_answers(build: Build) -> None:
    twice = answer(calls=[ToolCall("x", "look", '{"id":1}'), ToolCall("x", "look", '{"id":2}')])
    world = build(bundle(LOOK), [twice, answer("Yes.")], functions={"look": lambda id: id})
    await world.finished(await start(world))
    assert told(world.model.requests[1]) == ["1", "2"]


async def test_notes_and_feedback_with_lone_surrogates_are_kept_without_them(build: Build) -> None:
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("No.")],
        functions={"pay_once": Till().pay},
    )
    run = await world.finished(await start(world))
    await world.engine.feedback(run.id, ANA, text="odd \ud800 words")
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.REJECT, note="no \udfff way")
    await world.settled()
    assert "no  way" in told(world.model.requests[-1])[0]


@pytest.mark.requirement("server:idempotency")
async def test_a_request_that_two_processes_admit_at_once_is_answered_once(build: Build) -> None:
    """One begins it, the other can only leave it with the first; who left it is told that it ended."""
    world = build(bundle(), [answer("Hello."), answer("Second.")])
    first = await world.ask("Hi")
    await world.settled()
    other = second_process(world)
    request = RunRequest(text="Second", idempotency_key="k1")
    disk(world).slow()
    begun = asyncio.ensure_future(world.engine.submit(first.session_id, ANA, request))
    await idle()
    left = await other.engine.submit(first.session_id, ANA, request)
    disk(world).hurry()
    run = await world.finished(await begun)
    await world.upkeep.attend_inboxes()
    await world.settled()
    assert (run.output, len(world.model.requests)) == ("Second.", 2)
    repeated = await show(world, left.run_id)
    assert (repeated.status, repeated.reason) == ("cancelled", "cancelled")
    again = await other.engine.submit(first.session_id, ANA, request)
    assert again.run_id == run.id


async def test_a_held_call_with_many_words_is_shown_whole(build: Build) -> None:
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 10**15)), answer("Paid.")],
        functions={"pay_once": Till().pay},
    )
    run = await world.finished(await start(world))
    assert run.approvals[0].arguments == '{"id":1000000000000000}'
    await approve(world, run)
