"""Exact replay: the same again, or the first place where it would not be; and never a call."""

from collections.abc import Callable
from typing import Final

import msgspec
import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.errors import IntegrityError, NotFound
from cattlegrid.core.messages import Message, Role
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import decode, encode
from cattlegrid.journal.store import Row
from cattlegrid.runtime.replay import Difference
from cattlegrid.runtime.texts import encoded
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, World
from tests.unit.runtime.support import (
    LOOK,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Till,
    approve,
    bundle,
    calls,
    disk,
    idle,
    show,
    start,
)

pytestmark = pytest.mark.anyio

OF: Final = bundle(LOOK, PAY_KEYED, PAY_ONCE, approve={"pay_once": "id > 50"})


async def recorded_session(build: Build) -> tuple[World, str]:
    """A session of two runs: reads, an approved effect, words."""
    till = Till()
    world = build(
        OF,
        [
            calls(("look", 1), ("look", 2)),
            calls(("pay_once", 60)),
            answer("Paid 60."),
            calls(("pay_keyed", 3)),
            answer("Paid 3."),
        ],
        functions={"look": lambda id: {"seen": id}, "pay_once": till.pay, "pay_keyed": till.pay},
    )
    run = await world.finished(await start(world, "Pay 60"))
    await approve(world, run)
    assert (await show(world, run.id)).status == "completed"
    await world.ask("Pay 3", session_id=run.session_id)
    return world, run.session_id


async def difference(world: World, session_id: str, of: Bundle | None = None) -> Difference:
    report = await world.replayer.exact(session_id, bundle=of)
    assert not report.identical
    assert report.difference is not None
    assert report.steps < report.steps_total
    return report.difference


async def forge(world: World, session_id: str, change: Callable[[ev.Data], ev.Data]) -> None:
    """Rewrite a session's record event by event, with a chain that verifies again."""
    rows: list[Row] = []
    last = b"\x00" * 32
    for row in await world.store.rows(session_id):
        event = decode(row)
        rows.append(encode(replace(event, data=change(event.data), prev_hash=last)))
        last = rows[-1].hash
    disk(world).forged[session_id] = rows


async def body(world: World, session_id: str, message: Message) -> str:
    """A body of the session's user that no event has referred to."""
    entry = await world.store.entry("session", session_id)
    assert entry is not None
    row = (await world.vault.open_owner(entry.owner)).seal(encoded(message)[1])
    await world.store.put_bodies([row])
    return row.digest


@pytest.mark.requirement("runtime:exact-replay")
async def test_a_replay_is_identical_step_by_step_and_calls_nothing(build: Build) -> None:
    world, session_id = await recorded_session(build)
    asked, called, writes = len(world.model.requests), len(world.tools.requests), disk(world).writes
    report = await world.replayer.exact(session_id)
    assert (report.identical, report.steps, report.steps_total) == (True, 9, 9)
    assert report.bundle == f"support#1 ({OF.digest[:8]})"
    assert (len(world.model.requests), len(world.tools.requests), disk(world).writes) == (
        asked,
        called,
        writes,
    )


@pytest.mark.requirement("runtime:exact-replay")
async def test_a_run_that_is_still_open_replays_as_far_as_it_is(build: Build) -> None:
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    await idle()
    report = await world.replayer.exact(accepted.session_id)
    assert (report.identical, report.steps) == (True, 1)
    await world.engine.cancel(accepted.run_id, ANA)
    await world.finished(accepted)


@pytest.mark.requirement("runtime:replay-difference")
async def test_one_changed_character_of_the_prompt_is_reported_at_the_first_request(build: Build) -> None:
    world, session_id = await recorded_session(build)
    found = await difference(world, session_id, replace(OF, system_prompt=OF.system_prompt + "!"))
    events = await world.events(session_id)
    first = next(event for event in events if isinstance(event.data, ev.StepIntended))
    assert isinstance(first.data, ev.StepIntended)
    assert (found.seq, found.step_id, found.run_id) == (first.seq, first.data.step_id, first.run_id)
    assert found.field == "model.request.appended[0]"
    assert found.recorded != found.replayed


@pytest.mark.requirement("runtime:replay-difference")
@pytest.mark.parametrize("what", ["description", "parameters", "model", "temperature"])
async def test_a_changed_tool_description_or_model_is_reported_at_the_first_request(
    build: Build, what: str
) -> None:
    world, session_id = await recorded_session(build)
    tool, tier = OF.tools["look"], OF.models["default"]
    match what:
        case "description":
            of = replace(
                OF, tools={**OF.tools, "look": replace(tool, spec=replace(tool.spec, description="Looks."))}
            )
        case "parameters":
            spec = replace(tool.spec, parameters=tool.spec.parameters.replace("integer", "number"))
            of = replace(OF, tools={**OF.tools, "look": replace(tool, spec=spec)})
        case "model":
            of = replace(OF, models={"default": replace(tier, model="other")})
        case _:
            of = replace(OF, models={"default": replace(tier, params=replace(tier.params, temperature=0.1))})
    found = await difference(world, session_id, of)
    assert (found.field, found.step_id[-3:]) == ("model.tools_ref", "001")


@pytest.mark.requirement("runtime:replay-difference")
@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_a_changed_tool_result_is_reported_at_the_request_that_held_it(
    build: Build, place: int
) -> None:
    world, session_id = await recorded_session(build)
    events = await world.events(session_id)
    results = [e for e in events if isinstance(e.data, ev.StepDone) and e.data.finish_reason is None]
    changed = results[place].data
    assert isinstance(changed, ev.StepDone)
    ref = await body(
        world, session_id, Message(Role.TOOL, text='{"seen":7}', tool_call_id=f"call_{place % 2}")
    )
    await forge(world, session_id, lambda data: replace(data, content_ref=ref) if data == changed else data)
    found = await difference(world, session_id)
    following = [
        event
        for event in events
        if event.seq > results[place].seq and isinstance(event.data, ev.StepIntended) and event.data.model
    ]
    assert isinstance(following[0].data, ev.StepIntended)
    assert (found.seq, found.step_id) == (following[0].seq, following[0].data.step_id)
    assert found.field.startswith("model.request.appended[")
    assert '"seen\\":7' in found.replayed
    disk(world).forged.clear()


@pytest.mark.requirement("runtime:replay-difference")
async def test_a_changed_answer_of_the_model_is_reported_at_the_call_that_followed(build: Build) -> None:
    world, session_id = await recorded_session(build)
    forged = calls(("look", 1), ("look", 5)).message
    ref = await body(world, session_id, forged)
    first = next(d for d in (e.data for e in await world.events(session_id)) if isinstance(d, ev.StepDone))
    await forge(world, session_id, lambda data: replace(data, content_ref=ref) if data == first else data)
    found = await difference(world, session_id)
    assert (found.field, found.step_id[-3:]) == ("tool.arguments_ref", "003")
    assert (found.recorded, found.replayed) == ('{"id":2}', '{"id":5}')
    disk(world).forged.clear()


@pytest.mark.requirement("runtime:replay-difference")
@pytest.mark.parametrize(
    ("kind", "recorded", "replayed"),
    [
        (ev.ApprovalDecided, "StepIntended", "nothing"),
        (ev.InputChecked, "StepIntended", "InputChecked"),
        (ev.StepHeld, "StepIntended", "StepHeld"),
        (ev.RunFinished, "RunStarted", "RunFinished"),
    ],
)
async def test_an_event_that_was_left_out_is_reported_where_the_loop_would_have_gone_elsewhere(
    build: Build, kind: type, recorded: str, replayed: str
) -> None:
    world, session_id = await recorded_session(build)
    rows: list[Row] = []
    last = b"\x00" * 32
    for row in await world.store.rows(session_id):
        event = decode(row)
        if not isinstance(event.data, kind):
            rows.append(encode(replace(event, seq=len(rows) + 1, prev_hash=last)))
            last = rows[-1].hash
    disk(world).forged[session_id] = rows
    found = await difference(world, session_id)
    assert (found.field, found.recorded, found.replayed) == ("event", recorded, replayed)
    disk(world).forged.clear()


@pytest.mark.requirement("runtime:replay-difference")
async def test_a_changed_limit_or_approve_line_is_reported_where_it_matters(build: Build) -> None:
    world, session_id = await recorded_session(build)
    found = await difference(world, session_id, replace(OF, approve={}))
    assert (found.field, found.recorded, found.replayed) == ("event", "StepHeld", "StepIntended")
    found = await difference(world, session_id, replace(OF, deny={"pay_keyed": "always"}))
    assert (found.field, found.recorded, found.replayed) == ("event", "StepIntended", "StepRefused")
    found = await difference(world, session_id, replace(OF, limits=replace(OF.limits, tool_calls_per_turn=1)))
    assert (found.field, found.recorded, found.replayed) == ("event", "StepIntended", "StepRefused")


@pytest.mark.requirement("runtime:exact-replay")
async def test_a_record_that_does_not_verify_is_no_ground_for_a_replay(build: Build) -> None:
    world, session_id = await recorded_session(build)
    first, second, *rest = await world.store.rows(session_id)
    disk(world).forged[session_id] = [first, replace(second, at_us=second.at_us + 1), *rest]
    with pytest.raises(IntegrityError):
        await world.replayer.exact(session_id)
    disk(world).forged.clear()


async def test_a_session_that_nobody_has_seen_cannot_be_replayed(build: Build) -> None:
    world = build(bundle(), [])
    with pytest.raises(NotFound):
        await world.replayer.exact("ses_unknown")


async def test_long_texts_are_shown_shortened(build: Build) -> None:
    world = build(bundle(), [answer("x" * 5_000), answer("Yes.")])
    run = await world.ask("Hi")
    await world.ask("And?", session_id=run.session_id)
    done = next(d for d in (e.data for e in await world.events(run.session_id)) if isinstance(d, ev.StepDone))
    ref = await body(world, run.session_id, answer("y" * 5_000).message)
    await forge(world, run.session_id, lambda data: replace(data, content_ref=ref) if data == done else data)
    report = await world.replayer.exact(run.session_id)
    assert report.difference is not None
    assert len(report.difference.recorded) < 300
    assert msgspec.json.encode(report.difference)
    disk(world).forged.clear()
