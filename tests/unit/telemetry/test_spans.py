"""The trace of a run: one span for it and one for each of its steps, with nothing that anybody said."""

import msgspec
import pytest

from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import micros
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.telemetry import names
from cattlegrid.telemetry.spans import Span, content_refs, span_id, trace_id, trace_of
from cattlegrid.testing.models import answer, call
from cattlegrid.testing.world import STAFF
from tests.unit.server.site import while_time_passes
from tests.unit.telemetry.busy import SECRET, held_world, traced

pytestmark = pytest.mark.anyio


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


@pytest.mark.requirement("telemetry:trace")
async def test_a_run_s_trace_is_its_journal_s_steps() -> None:
    world = held_world()
    run = await while_time_passes(world.clock, world.ask("Refund order 1, then look"))
    approval = run.approvals[0]
    world.clock.advance(90)
    await world.engine.decide(approval.id, STAFF, ev.ApprovalDecision.APPROVE)
    await world.settled()
    shown = await world.engine.reader.run(run.id, STAFF)
    root, *steps = await traced(world, run.id)
    assert (root.name, root.parent_id, root.span_id) == ("invoke_agent support", b"", span_id(run.id))
    assert {span.trace_id for span in (root, *steps)} == {trace_id(run.id)}
    assert {span.parent_id for span in steps} == {root.span_id}
    assert [span.span_id for span in steps] == [span_id(step.id) for step in shown.steps]
    assert [span.name for span in steps] == [
        "chat fake" if step.kind == "chat" else f"execute_tool {step.name}" for step in shown.steps
    ]
    assert (root.start_us, root.end_us) == (
        micros(shown.started_at),
        micros(shown.finished_at or shown.started_at),
    )
    for span, step in zip(steps, shown.steps, strict=True):
        assert span.start_us == micros(step.started_at or shown.started_at)
        assert span.end_us - span.start_us >= 0
        assert span.attributes[names.STEP_ID] == step.id
        if step.usage is not None:
            assert span.attributes[names.USAGE_INPUT_TOKENS] == step.usage.input_tokens
            assert span.attributes[names.USAGE_OUTPUT_TOKENS] == step.usage.output_tokens
            assert span.attributes[names.USAGE_CACHE_READ_INPUT_TOKENS] == step.usage.cache_read_tokens
            assert span.attributes[names.COST_NANO_USD] == step.cost_nano_usd
    assert root.attributes[names.COST_NANO_USD] == shown.cost_nano_usd
    assert root.attributes[names.RUN_STATUS] == "completed"
    notes = [(event.name, event.attributes.get(names.APPROVAL_ID)) for event in root.events]
    assert (names.HELD_EVENT, approval.id) in notes
    assert (names.DECIDED_EVENT, approval.id) in notes
    held_at, decided_at = [
        event.at_us for event in root.events if event.name in {names.HELD_EVENT, names.DECIDED_EVENT}
    ]
    assert decided_at - held_at >= 90_000_000
    assert any(
        event.attributes.get(names.GUARD_REASON) == "amount > 50"
        for event in root.events
        if event.name == names.GUARD_EVENT
    )


@pytest.mark.requirement("telemetry:trace")
async def test_who_and_what_come_first_and_kinds_are_those_of_the_convention() -> None:
    world = held_world()
    run = await while_time_passes(world.clock, world.ask("look"))
    root, *steps = await traced(world, run.id)
    chat = steps[0]
    assert list(chat.attributes)[:3] == [names.OPERATION_NAME, names.CONVERSATION_ID, names.AGENT_NAME]
    assert chat.client
    assert not root.client
    assert chat.attributes[names.OPERATION_NAME] == "chat"
    assert chat.attributes[names.REQUEST_MODEL] == "fake"
    assert chat.attributes[names.PROVIDER_NAME] == "memory"
    assert chat.attributes[names.RESPONSE_FINISH_REASONS] == ("tool_calls",)
    assert root.attributes[names.AGENT_VERSION] == run.bundle
    tool = by_name(steps)["execute_tool look"]
    assert (tool.attributes[names.TOOL_NAME], tool.attributes[names.TOOL_TYPE]) == ("look", "function")
    assert not tool.client


@pytest.mark.requirement("telemetry:trace")
async def test_what_failed_or_was_refused_says_so_by_its_code() -> None:
    world = held_world(
        model=[
            answer(
                calls=[
                    call("look", word="x"),
                    call("nothing", call_id="2"),
                    call("look", call_id="3", word=5),
                ]
            ),
            answer("Sorry."),
        ],
        functions={"look": lambda word: {}[word]},
    )
    run = await while_time_passes(world.clock, world.ask("look"))
    shown = await world.engine.reader.run(run.id, STAFF)
    _, *steps = await traced(world, run.id)
    failing = {span.attributes[names.STEP_ID]: span for span in steps if span.error}
    assert {step.id: step.why for step in shown.steps if step.status in {"failed", "refused"}} == {
        id: span.error for id, span in failing.items()
    }
    assert all(span.attributes[names.ERROR_TYPE] == span.error for span in failing.values())
    assert all(
        span.start_us == span.end_us
        for span, step in zip(steps, shown.steps, strict=True)
        if step.status == "refused"
    )


@pytest.mark.requirement("telemetry:trace")
async def test_a_step_that_a_crash_cut_off_is_one_span_with_its_second_attempt() -> None:
    world = held_world(model=[answer("Never heard."), answer("Hello.")])
    accepted = await world.engine.start("support", STAFF, RunRequest(text="Hi"))
    await world.crash()
    await world.recover()
    await world.finished(accepted, principal=STAFF)
    root, *steps = await traced(world, accepted.run_id)
    assert root.attributes[names.RUN_STATUS] == "completed"
    assert len({span.span_id for span in steps}) == len(steps) == 1


@pytest.mark.requirement("telemetry:privacy")
async def test_no_span_holds_a_word_that_anybody_said_unless_one_asks_for_it() -> None:
    world = held_world()
    run = await while_time_passes(world.clock, world.ask(f"look for {SECRET}"))
    plain = msgspec.json.encode(await traced(world, run.id))
    assert SECRET.encode() not in plain
    assert b"ana@example.com" not in plain
    root, chat, tool, last = await traced(world, run.id, content=True)
    assert SECRET in str(root.attributes[names.INPUT_MESSAGES])
    assert str(root.attributes[names.OUTPUT_MESSAGES]) == str(last.attributes[names.OUTPUT_MESSAGES])
    [said] = msgspec.json.decode(str(chat.attributes[names.OUTPUT_MESSAGES]))
    assert said["role"] == "assistant"
    assert said["parts"][0]["name"] == "look"
    assert SECRET in str(tool.attributes[names.TOOL_CALL_ARGUMENTS])
    assert SECRET in str(tool.attributes[names.TOOL_CALL_RESULT])


async def test_the_trace_of_a_run_is_the_same_each_time() -> None:
    world = held_world()
    run = await while_time_passes(world.clock, world.ask("look"))
    assert await traced(world, run.id) == await traced(world, run.id)


async def test_texts_that_are_gone_leave_no_attribute() -> None:
    world = held_world()
    run = await while_time_passes(world.clock, world.ask("look"))
    events = [event for event in await world.events(run.session_id) if event.run_id == run.id]
    opened = (await world.events(run.session_id))[0].data
    assert isinstance(opened, ev.SessionOpened)
    assert content_refs(events)
    assert trace_of(opened, events, texts={}) == await traced(world, run.id)
