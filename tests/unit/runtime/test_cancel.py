"""Cancelling: while the model is asked, a read or an effect runs, a person is asked, a request waits."""

import asyncio

import pytest

from cattlegrid.core.errors import NotFound
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, BO, STAFF, tool_of
from tests.unit.runtime.support import (
    LOOK,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Door,
    Till,
    bundle,
    calls,
    data_of,
    idle,
    kinds,
    show,
    start,
    told,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:cancel")]


async def test_a_run_cancelled_while_the_model_is_asked_ends_at_once(build: Build) -> None:
    world = build(bundle(), [Stall(("Well",)), answer("Hello.")])
    accepted = await start(world)
    await idle()
    assert world.model.open_calls == 1
    await world.engine.cancel(accepted.run_id, ANA, reason="changed my mind")
    run = await world.finished(accepted)
    assert (run.status, run.reason, world.model.open_calls) == ("cancelled", "cancelled", 0)
    assert run.output == "I could not finish this. I had to stop: the request was cancelled."
    assert world.clock.monotonic_s() == 0.0
    assert (await world.ask("Again", session_id=run.session_id)).output == "Hello."


async def test_a_run_cancelled_while_a_read_runs_stops_the_read(build: Build) -> None:
    door, stopped = Door(), asyncio.Event()

    async def look(id: int) -> object:
        try:
            await door.enter()
        finally:
            stopped.set()
        return id

    world = build(bundle(LOOK), [calls(("look", 1), ("look", 2)), answer("Hello.")], functions={"look": look})
    accepted = await start(world)
    await door.reached.wait()
    await world.engine.cancel(accepted.run_id, ANA)
    run = await world.finished(accepted)
    assert (run.status, stopped.is_set()) == ("cancelled", True)
    again = await world.ask("Again", session_id=run.session_id)
    assert again.output == "Hello."
    assert told(world.model.requests[-1]) == ["This call was cancelled."] * 2


async def test_a_run_cancelled_while_an_effect_runs_lets_it_end_and_says_that_it_was_done(
    build: Build,
) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        await door.enter()
        return till.pay(id)

    script = [calls(("pay_once", 1), ("pay_once", 2)), answer("Never asked.")]
    world = build(bundle(PAY_ONCE), script, functions={"pay_once": pay})
    accepted = await start(world)
    await door.reached.wait()
    await world.engine.cancel(accepted.run_id, ANA)
    await idle()
    assert (await show(world, accepted.run_id)).status == "running"
    door.open()
    run = await world.finished(accepted)
    assert (run.status, till.payments) == ("cancelled", [1])
    assert run.output.endswith("Done so far: pay_once.")
    outcomes = [(step.name, step.status, step.why) for step in (await show(world, run.id)).steps[1:]]
    assert outcomes == [("pay_once", "done", ""), ("pay_once", "refused", "cancelled")]


async def test_a_run_cancelled_while_it_waits_for_a_person_ends_and_the_approval_is_void(
    build: Build,
) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1))],
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    await world.engine.cancel(run.id, ANA)
    await world.settled()
    run = await show(world, run.id)
    assert (run.status, run.approvals[0].status, till.payments) == ("cancelled", "void", [])


async def test_a_cancel_that_comes_with_the_approval_keeps_the_call_from_leaving(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1))],
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    await world.engine.let_go(run.session_id)
    await asyncio.gather(
        world.engine.cancel(run.id, ANA),
        world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE),
    )
    await world.settled()
    assert (await show(world, run.id)).status == "cancelled"
    assert till.payments == []


async def test_a_request_cancelled_while_it_waits_never_asks_the_model(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("First."), answer("Third.")])
    first = await start(world, "First")
    second = await world.engine.submit(first.session_id, ANA, RunRequest(text="Second"))
    third = await world.engine.submit(first.session_id, ANA, RunRequest(text="Third"))
    await world.engine.cancel(second.run_id, ANA)
    await world.engine.cancel(first.run_id, ANA)
    assert (await world.finished(second)).status == "cancelled"
    assert (await world.finished(third)).status == "completed"
    assert [request.messages[-1].text for request in world.model.requests] == ["First", "Third"]


async def test_only_the_user_and_staff_may_cancel(build: Build) -> None:
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    with pytest.raises(NotFound):
        await world.engine.cancel(accepted.run_id, BO)
    await world.engine.cancel(accepted.run_id, STAFF)
    assert (await world.finished(accepted)).status == "cancelled"


async def test_cancelling_twice_or_too_late_changes_nothing(build: Build) -> None:
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    await asyncio.gather(*(world.engine.cancel(accepted.run_id, ANA) for _ in range(3)))
    run = await world.finished(accepted)
    await world.engine.cancel(run.id, ANA)
    await world.settled()
    assert (await kinds(world, run.session_id)).count("CancelRequested") == 1


async def test_a_cancelled_run_takes_nothing_back(build: Build) -> None:
    till = Till()
    book = tool_of("book", effect="write", undo="unbook", arguments={"id": "integer"})
    unbook = tool_of("unbook", effect="write", retry="keyed", arguments={"id": "integer"})
    world = build(
        bundle(book, unbook), [calls(("book", 1)), Stall()], functions={"book": till.pay, "unbook": till.pay}
    )
    accepted = await start(world)
    await idle()
    await world.engine.cancel(accepted.run_id, ANA)
    assert (await world.finished(accepted)).status == "cancelled"
    assert till.payments == [1]


async def test_a_model_client_that_ignores_being_cancelled_changes_nothing_any_more(build: Build) -> None:
    """What comes back of a call that was stopped is dropped: its step has its outcome."""

    async def look(id: int) -> object:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"late": id}

    world = build(bundle(LOOK), [calls(("look", 1)), answer("Hello.")], functions={"look": look})
    accepted = await start(world)
    await idle()
    await world.engine.cancel(accepted.run_id, ANA)
    assert (await world.finished(accepted)).status == "cancelled"
    await idle()
    failed = [
        d for d in await data_of(world, accepted.session_id) if isinstance(d, ev.StepFailed | ev.StepDone)
    ]
    assert [data.step_id[-3:] for data in failed] == ["001", "002"]


async def test_a_keyed_effect_under_way_ends_before_the_run_does(build: Build) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        await door.enter()
        return till.pay(id)

    world = build(bundle(PAY_KEYED), [calls(("pay_keyed", 1))], functions={"pay_keyed": pay})
    accepted = await start(world)
    await door.reached.wait()
    await world.engine.cancel(accepted.run_id, ANA)
    door.open()
    run = await world.finished(accepted)
    assert (run.status, till.payments) == ("cancelled", [1])
