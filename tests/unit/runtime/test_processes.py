"""Processes that stop, stall, lose their store or their lease: what they may still do, and who goes on."""

import asyncio

import pytest

from cattlegrid.core.errors import NotFound, StoreUnavailable
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import Accepted, RunRequest
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, STAFF, FixedBundles
from tests.unit.runtime.bank import by_turn
from tests.unit.runtime.support import (
    LOOK,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    CrashAt,
    Door,
    Till,
    bundle,
    calls,
    data_of,
    disk,
    entries,
    idle,
    kinds,
    second_process,
    show,
    start,
)

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("fault:zombie")
async def test_a_process_that_was_paused_beyond_its_lease_runs_no_effect_and_writes_nothing(
    build: Build,
) -> None:
    """The pause falls between the answer of a read and the effect that follows."""
    door, till = Door(), Till()

    async def look(id: int) -> object:
        await door.enter()
        return {"seen": id}

    script = by_turn(calls(("look", 1), ("pay_once", 1)), answer("Paid."))
    world = build(bundle(LOOK, PAY_ONCE), script, functions={"look": look, "pay_once": till.pay})
    accepted = await start(world)
    await door.reached.wait()
    world.clock.advance(6.1)
    other = second_process(world)
    await other.upkeep.recover()
    await idle()
    seqs = [event.seq for event in await world.events(accepted.session_id)]
    assert till.payments == []
    door.open()
    run = await other.finished(accepted)
    await idle()
    await world.settled()
    assert (run.status, till.payments) == ("completed", [1])
    events = await world.events(accepted.session_id)
    assert [event.seq for event in events[: len(seqs)]] == seqs
    assert [type(event.data).__name__ for event in events].count("RunFinished") == 1
    await world.upkeep.renew_leases()
    assert world.engine.runners == {}


@pytest.mark.requirement("fault:zombie")
async def test_a_process_that_wakes_up_inside_a_held_call_does_not_make_it(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    world.clock.advance(6.1)
    other = second_process(world)
    await other.engine.attend(run.session_id)
    await idle()
    # The first process still has its runner, and is told of the decision.
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    await idle()
    await world.settled()
    await other.upkeep.attend_inboxes()
    await other.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [1])
    assert len(world.tools.requests) == 1


@pytest.mark.requirement("journal:lease")
async def test_a_lease_that_ran_out_unnoticed_is_taken_up_again_before_an_effect(build: Build) -> None:
    """Nobody else wanted the session: a stalled loop must not fail a run."""
    door, till = Door(), Till()

    async def look(id: int) -> object:
        await door.enter()
        return {"seen": id}

    script = by_turn(calls(("look", 1), ("pay_once", 1)), answer("Paid."))
    world = build(bundle(LOOK, PAY_ONCE), script, functions={"look": look, "pay_once": till.pay})
    accepted = await start(world)
    await door.reached.wait()
    world.clock.advance(7.0)
    door.open()
    run = await world.finished(accepted)
    assert (run.status, till.payments) == ("completed", [1])
    assert "RunResumed" not in await kinds(world, run.session_id)


@pytest.mark.requirement("journal:lease")
async def test_leases_of_sessions_at_work_are_renewed_and_nobody_takes_them_over(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Hello.")])
    accepted = await start(world)
    await idle()
    other = second_process(world)
    for _ in range(10):
        world.clock.advance(2.0)
        await world.upkeep.renew_leases()
        await other.upkeep.recover()
    assert other.engine.runners == {}
    assert len(world.model.requests) == 1
    await world.engine.cancel(accepted.run_id, ANA)
    assert (await world.finished(accepted)).status == "cancelled"


async def test_a_renewal_that_meets_a_store_that_is_away_for_a_moment_costs_nothing(build: Build) -> None:
    door = Door()

    async def look(id: int) -> object:
        await door.enter()
        return id

    world = build(bundle(LOOK), [calls(("look", 1)), answer("Seen.")], functions={"look": look})
    accepted = await start(world)
    await door.reached.wait()
    disk(world).available = False
    await world.upkeep.renew_leases()
    disk(world).available = True
    door.open()
    assert (await world.finished(accepted)).output == "Seen."
    assert "RunResumed" not in await kinds(world, accepted.session_id)


@pytest.mark.requirement("fault:database")
async def test_a_run_whose_store_goes_away_and_comes_back_is_recovered_for_the_client_that_waits(
    build: Build,
) -> None:
    door, till = Door(), Till()

    async def look(id: int) -> object:
        await door.enter()
        return id

    script = by_turn(calls(("look", 1)), calls(("pay_once", 1)), answer("Paid."))
    world = build(bundle(LOOK, PAY_ONCE), script, functions={"look": look, "pay_once": till.pay})
    accepted = await start(world)
    waiting = asyncio.ensure_future(world.finished(accepted))
    await door.reached.wait()
    disk(world).available = False
    door.open()
    await idle()
    assert till.payments == []
    with pytest.raises(StoreUnavailable):
        await start(world, "Another")
    with pytest.raises(StoreUnavailable):
        await world.upkeep.recover()
    assert not waiting.done()
    disk(world).available = True
    await world.upkeep.renew_leases()
    await world.upkeep.recover()
    run = await waiting
    assert (run.status, run.output, till.payments) == ("completed", "Paid.", [1])
    assert (await kinds(world, run.session_id)).count("RunResumed") == 1


@pytest.mark.requirement("fault:database")
async def test_a_store_that_goes_away_while_an_effect_runs_leaves_the_effect_in_doubt_and_unrepeated(
    build: Build,
) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        till.pay(id)
        await door.enter()
        return id

    world = build(
        bundle(PAY_ONCE), by_turn(calls(("pay_once", 1)), answer("Paid.")), functions={"pay_once": pay}
    )
    accepted = await start(world)
    await door.reached.wait()
    disk(world).available = False
    door.open()
    await idle()
    disk(world).available = True
    await world.upkeep.renew_leases()
    await world.upkeep.recover()
    run = await world.finished(accepted)
    assert (run.status, run.approvals[0].reason, till.payments) == ("held", "in_doubt", [1])


@pytest.mark.requirement("runtime:recovery")
async def test_a_run_that_counts_as_held_is_recovered_when_its_process_died_with_more_to_do(
    build: Build,
) -> None:
    """Cancelled while a person is asked: the process dies before it can end the run."""
    crash = CrashAt()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1))],
        functions={"pay_once": Till().pay},
        crash=crash,
    )
    run = await world.finished(await start(world))
    crash.arm("before_finish")
    await world.engine.cancel(run.id, ANA)
    await idle()
    assert (await show(world, run.id)).status == "held"
    await world.crash()
    await world.recover()
    assert (await world.finished(Accepted(session_id=run.session_id, run_id=run.id))).status == "cancelled"


@pytest.mark.requirement("runtime:recovery")
async def test_an_effect_beside_a_held_call_is_recovered_before_anybody_decides(build: Build) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        till.pay(id)
        if not door.reached.is_set():
            await door.enter()
        return id

    world = build(
        bundle(PAY_KEYED, PAY_ONCE, approve={"pay_once": "always"}),
        by_turn(calls(("pay_once", 1), ("pay_keyed", 2)), answer("Paid.")),
        functions={"pay_once": pay, "pay_keyed": pay},
    )
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    await world.recover()
    await idle()
    run = await show(world, accepted.run_id)
    assert (run.status, till.payments) == ("held", [2, 2])
    assert [step.status for step in run.steps] == ["done", "held", "done"]
    await world.engine.cancel(run.id, ANA)


@pytest.mark.requirement("runtime:recovery")
async def test_a_held_run_that_only_waits_is_left_alone(build: Build) -> None:
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1))],
        functions={"pay_once": Till().pay},
    )
    run = await world.finished(await start(world))
    await world.engine.let_go(run.session_id)
    for _ in range(3):
        world.clock.advance(20.0)
        await world.upkeep.recover()
    assert world.engine.runners == {}


async def test_a_session_that_fails_again_and_again_is_tried_less_and_less(build: Build) -> None:
    crash = CrashAt()
    world = build(bundle(), lambda request: Stall(), crash=crash, replayed=False)
    accepted = await start(world)
    for _ in range(600):
        crash.arm("before_finish")
        await idle(10)
        world.clock.advance(1.0)
        await world.upkeep.renew_leases()
        await world.upkeep.recover()
    resumed = (await kinds(world, accepted.session_id)).count("RunResumed")
    assert 6 <= resumed <= 16
    crash.arm("")
    for _ in range(400):
        world.clock.advance(1.0)
        await world.upkeep.renew_leases()
        await world.upkeep.recover()
        await idle(10)
    assert (await show(world, accepted.run_id)).status in {"dead", "partial"}


@pytest.mark.requirement("fault:sigterm")
async def test_draining_lets_open_runs_end_and_gives_every_lease_back(build: Build) -> None:
    door = Door()

    async def look(id: int) -> object:
        await door.enter()
        return id

    world = build(
        bundle(LOOK),
        by_turn(calls(("look", 1)), answer("Seen."), answer("Second.")),
        functions={"look": look},
    )
    accepted = await start(world)
    queued = await world.engine.submit(accepted.session_id, ANA, RunRequest(text="Second"))
    await door.reached.wait()
    draining = asyncio.ensure_future(world.upkeep.drain(5.0))
    await idle()
    door.open()
    assert await draining == 0
    assert (await show(world, accepted.run_id)).status == "completed"
    assert (await show(world, queued.run_id)).status == "queued"
    head = await world.store.head(accepted.session_id)
    assert head is not None
    assert head.lease_until is None
    world.restart()
    await world.upkeep.attend_inboxes()
    assert (await world.finished(queued)).output == "Second."
    assert "RunResumed" not in await kinds(world, accepted.session_id)


@pytest.mark.requirement("fault:sigterm")
async def test_draining_cuts_short_what_takes_too_long_and_the_next_process_goes_on_at_once(
    build: Build,
) -> None:
    world = build(bundle(), [Stall(), answer("Hello.")])
    accepted = await start(world)
    await idle()
    assert await world.upkeep.drain(0.01) == 1
    assert world.model.open_calls == 0
    world.restart()
    await world.upkeep.recover()
    assert (await world.finished(accepted)).output == "Hello."


async def test_what_a_stopping_process_has_handed_over_does_not_come_back_to_it(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Hello.")])
    accepted = await start(world)
    await idle()
    assert await world.upkeep.drain(0.01) == 1
    await world.upkeep.recover()
    await world.upkeep.attend_inboxes()
    assert world.engine.runners == {}
    assert await world.upkeep.drain(0.01) == 0
    world.restart()
    await world.upkeep.recover()
    assert (await world.finished(accepted)).output == "Hello."


async def test_a_held_run_does_not_hold_up_draining_and_survives_it(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("Paid.")],
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    assert await world.upkeep.drain(5.0) == 0
    world.restart()
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    await world.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [1])


async def test_sessions_that_are_taken_and_let_go_at_the_same_time_stay_whole(build: Build) -> None:
    world = build(bundle(), lambda request: answer("Hello."))
    run = await world.ask("Hi")
    for number in range(20):
        await world.settled()
        results = await asyncio.gather(
            world.engine.let_go(run.session_id),
            world.engine.submit(run.session_id, ANA, RunRequest(text=f"Turn {number}")),
            world.engine.let_go(run.session_id),
            world.engine.feedback(run.id, ANA, thumb="up"),
            world.engine.let_go(run.session_id),
        )
        assert (await world.finished(results[1])).output == "Hello."
    await world.settled()
    await world.upkeep.attend_inboxes()
    await world.settled()
    recorded = await data_of(world, run.session_id)
    assert sum(isinstance(data, ev.FeedbackGiven) for data in recorded) == 20
    assert not any(isinstance(data, ev.RunResumed) for data in recorded)
    assert {entry.status for entry in await entries(world, "run")} == {"completed"}


async def test_a_session_that_cannot_be_taken_over_is_not_kept_locked(build: Build) -> None:
    """A bundle that is not to be found fails the request, and its lease is given back."""
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    await world.settled()
    await world.engine.let_go(run.session_id)
    other = second_process(world)
    other.bundles = FixedBundles()
    other.restart()
    with pytest.raises(NotFound):
        await other.engine.attend(run.session_id)
    head = await world.store.head(run.session_id)
    assert head is not None
    assert head.lease_until is None
