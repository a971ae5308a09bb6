"""Sessions: how they end, who may see them, retention, and being let go and found again."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import OutcomeRule
from cattlegrid.core.errors import ModelRejected, NotFound
from cattlegrid.journal import events as ev
from cattlegrid.runtime import inbox
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.models import Answer, Stall, answer
from cattlegrid.testing.world import ANA, BO, STAFF
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
    entries,
    idle,
    kinds,
    show,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:outcome")]

RULE = OutcomeRule(idle_s=1_800.0, escalated_by=("hand_over",))
HAND_OVER = replace(LOOK, spec=replace(LOOK.spec, name="hand_over"))
REJECTED = ModelRejected("The model did not accept the request.")


@pytest.mark.parametrize(
    ("turns", "outcome"),
    [
        ([[answer("Hello.")]], "completed"),
        ([[calls(("hand_over", 1)), answer("A colleague will call you.")]], "escalated"),
        ([[calls(("hand_over", 1)), REJECTED]], "escalated"),
        ([[answer("Hello.")], [REJECTED]], "failed"),
        ([[REJECTED], [answer("Hello.")]], "completed"),
        ([[REJECTED]], "failed"),
        ([], "abandoned"),
    ],
)
async def test_an_idle_session_closes_with_the_outcome_of_its_rule(
    build: Build, turns: list[list[Answer]], outcome: str
) -> None:
    script = [given for turn in turns for given in turn]
    world = build(bundle(HAND_OVER, outcome=RULE), script, functions={"hand_over": lambda id: "ok"})
    session_id = await world.engine.open_session("support", ANA)
    for number in range(len(turns)):
        await world.ask(f"Turn {number}", session_id=session_id)
    world.clock.advance(1_799.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await entries(world, "session"))[0].status == "open"
    world.clock.advance(2.0)
    await world.upkeep.close_idle_sessions()
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await entries(world, "session"))[0].status == outcome
    [closed] = [d for d in await data_of(world, session_id) if isinstance(d, ev.SessionClosed)]
    assert closed.reason == "idle"


async def test_a_cancelled_first_request_leaves_an_abandoned_session(build: Build) -> None:
    world = build(bundle(outcome=RULE), [Stall()])
    accepted = await start(world)
    await world.engine.cancel(accepted.run_id, ANA)
    await world.finished(accepted)
    world.clock.advance(2_000.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await entries(world, "session"))[0].status == "abandoned"


async def test_a_session_whose_run_waits_for_a_person_does_not_close(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}, outcome=RULE),
        [calls(("pay_once", 1)), answer("Paid.")],
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    world.clock.advance(100_000.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await show(world, run.id)).status == "held"
    await approve(world, run)
    assert till.payments == [1]
    await world.upkeep.close_idle_sessions()
    assert (await entries(world, "session"))[0].status == "open"
    world.clock.advance(2_000.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await entries(world, "session"))[0].status == "completed"


async def test_a_session_that_was_asked_again_just_before_it_would_close_closes_when_it_is_idle_again(
    build: Build,
) -> None:
    world = build(bundle(outcome=RULE), [answer("Hello."), Stall(), answer("More.")])
    run = await world.ask("Hi")
    world.clock.advance(1_801.0)
    [entry] = await entries(world, "session")
    second = await world.engine.submit(run.session_id, ANA, RunRequest(text="Still there?"))
    await idle()
    await world.engine.post(
        run.session_id, inbox.Close(by="clock", reason="idle", since=str(entry.updated_us))
    )
    await idle()
    await world.engine.cancel(second.run_id, ANA)
    await world.finished(second)
    await world.settled()
    assert (await entries(world, "session"))[0].status == "open"
    world.clock.advance(2_000.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    assert (await entries(world, "session"))[0].status == "completed"


async def test_a_session_closes_when_its_user_asks_for_it_and_only_once(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    with pytest.raises(NotFound):
        await world.engine.close_session(run.session_id, BO)
    for _ in range(3):
        await world.engine.close_session(run.session_id, ANA)
        await world.settled()
    assert (await kinds(world, run.session_id)).count("SessionClosed") == 1


async def test_one_session_that_cannot_be_read_keeps_no_other_from_its_turn(build: Build) -> None:
    world = build(bundle(outcome=RULE), lambda request: answer("Hello."))
    runs = [await world.ask(f"Hi {n}") for n in range(3)]
    for run in runs:
        await world.engine.let_go(run.session_id)
    broken = runs[1].session_id
    first, second, *rest = await world.store.rows(broken)
    disk(world).forged[broken] = [first, replace(second, data=second.data + b"x"), *rest]
    world.clock.advance(2_000.0)
    await world.upkeep.close_idle_sessions()
    await world.settled()
    statuses = {entry.stream: entry.status for entry in await entries(world, "session")}
    assert [statuses[run.session_id] for run in runs] == ["completed", "open", "completed"]
    disk(world).forged.clear()


@pytest.mark.requirement("journal:retention")
async def test_sessions_that_ended_long_ago_are_deleted_and_each_deletion_is_on_record(build: Build) -> None:
    world = build(bundle(), lambda request: answer("Hello."))
    old, young = await world.ask("Hi"), await world.ask("Ho")
    kept = await world.ask("Open")
    head = await world.store.head(old.session_id)
    assert head is not None
    await world.engine.close_session(old.session_id, ANA)
    await world.settled()
    world.clock.advance(86_400.0)
    await world.engine.close_session(young.session_id, ANA)
    await world.settled()
    before = world.clock.now() - timedelta(hours=1)
    assert await world.upkeep.retire(before=before) == 1
    assert await world.upkeep.retire(before=before) == 0
    assert {entry.stream for entry in await entries(world, "session")} == {young.session_id, kept.session_id}
    assert await world.store.rows(old.session_id) == []
    with pytest.raises(NotFound):
        await world.engine.reader.run(old.id, ANA)
    [gone] = [d for d in await data_of(world, ev.CONTROL_STREAM) if isinstance(d, ev.SessionRetired)]
    assert (gone.session, gone.last_seq) == (old.session_id, head.seq + 1)


async def test_a_session_that_was_let_go_goes_on_where_it_was(build: Build) -> None:
    world = build(bundle(), lambda request: answer(f"I know {len(request.messages)} messages."))
    run = await world.ask("Hi")
    await world.settled()
    world.clock.advance(5.1)
    await world.upkeep.renew_leases()
    assert world.engine.runners == {}
    head = await world.store.head(run.session_id)
    assert head is not None
    assert head.lease_until is None
    again = await world.ask("Again", session_id=run.session_id)
    assert again.output == "I know 4 messages."
    assert "RunResumed" not in await kinds(world, run.session_id)


async def test_runs_and_sessions_are_seen_by_their_user_and_by_staff_only(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    for principal in (ANA, STAFF):
        assert (await world.engine.reader.run(run.id, principal)).output == "Hello."
        assert [view.id for view in await world.engine.reader.sessions(principal)] == [run.session_id]
        assert [view.id for view in await world.engine.reader.runs(principal)] == [run.id]
    for principal in (BO, replace(STAFF, tenant="elsewhere"), replace(ANA, tenant="elsewhere")):
        with pytest.raises(NotFound):
            await world.engine.reader.run(run.id, principal)
        with pytest.raises(NotFound):
            await world.engine.reader.session(run.session_id, principal)
        assert await world.engine.reader.sessions(principal) == []
        assert await world.engine.reader.runs(principal) == []


async def test_an_agent_that_nobody_knows_opens_nothing(build: Build) -> None:
    world = build(bundle(), [])
    with pytest.raises(NotFound):
        await world.engine.open_session("nobody", ANA)
    assert await entries(world, "session") == []
    assert disk(world).writes == 0


async def test_a_session_keeps_its_version_and_a_new_one_gets_the_new_version(build: Build) -> None:
    of = bundle()
    world = build(of, lambda request: answer(request.messages[0].text))
    first = await world.ask("Hi")
    newer = replace(of, system_prompt="You help better.", digest="1" * 64)
    world.bundles.add(newer)
    assert (await world.ask("Again", session_id=first.session_id)).output == "You help."
    await world.crash()
    await world.recover()
    assert (await world.ask("Again!", session_id=first.session_id)).output == "You help."
    assert (await world.ask("Hi")).output == "You help better."
