"""Calls whose outcome nobody knows: who is asked, when, and what becomes of the answer."""

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import InvalidRequest, ToolFailed
from cattlegrid.core.ports import Clock
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import RunView
from cattlegrid.testing.models import answer
from cattlegrid.testing.tools import FunctionTools
from cattlegrid.testing.world import ANA, STAFF, World, tool_of
from tests.unit.runtime.bank import Bank, by_turn
from tests.unit.runtime.support import (
    PAY_ONCE,
    Build,
    CrashAt,
    Door,
    Till,
    approve,
    bundle,
    calls,
    data_of,
    entries,
    idle,
    kinds,
    passing,
    show,
    start,
    told,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:in-doubt")]

FOUND: Final = tool_of("find_payment", arguments={"id": "integer"})
PAY_FOUND: Final = tool_of(
    "pay_once", effect="write", retry="once", reconcile="find_payment", arguments={"id": "integer"}
)


async def crashed_inside(world: World, door: Door) -> RunView:
    """The run of a request whose effect was under way when the process died, after the recovery."""
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    await world.recover()
    await idle()
    return await show(world, accepted.run_id)


async def test_a_once_call_that_may_have_happened_waits_for_a_person_and_never_runs_again(
    build: Build,
) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        till.pay(id)
        await door.enter()

    world = build(
        bundle(PAY_ONCE), by_turn(calls(("pay_once", 1)), answer("Paid.")), functions={"pay_once": pay}
    )
    run = await crashed_inside(world, door)
    assert (run.status, run.approvals[0].reason, run.approvals[0].status) == ("held", "in_doubt", "in_doubt")
    assert run.approvals[0].expires_at is None
    world.clock.advance(100 * 86_400.0)
    await world.upkeep.expire_approvals()
    await world.settled()
    assert (await show(world, run.id)).status == "held"
    await approve(world, run, "done")
    run = await show(world, run.id)
    assert (run.status, run.output, till.payments) == ("completed", "Paid.", [1])
    assert told(world.model.requests[-1]) == ["A person has checked: this call took effect."]
    settled = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepDone) and d.settled_by]
    assert settled[0].settled_by == world.vault.owner_of(STAFF.tenant, STAFF.user)


@pytest.mark.parametrize(
    ("decision", "payments", "word"),
    [
        ("approve", [1, 1], '{"paid":1}'),
        ("reject", [1], "A person has checked: this call did not take effect."),
    ],
)
async def test_a_person_has_a_call_in_doubt_made_again_or_says_that_it_did_not_happen(
    build: Build, decision: str, payments: list[int], word: str
) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        paid = till.pay(id)
        await door.enter()
        return paid

    world = build(
        bundle(PAY_ONCE), by_turn(calls(("pay_once", 1)), answer("Paid.")), functions={"pay_once": pay}
    )
    run = await crashed_inside(world, door)
    with pytest.raises(InvalidRequest):
        await world.engine.decide(
            run.approvals[0].id, STAFF, ev.ApprovalDecision.MODIFY, arguments='{"id":2}'
        )
    door.open()
    await approve(world, run, decision)
    assert ((await show(world, run.id)).status, till.payments) == ("completed", payments)
    assert told(world.model.requests[-1]) == [word]
    keys = {request.idempotency_key for request in world.tools.requests}
    assert len(keys) == 1


class Late(FunctionTools):
    """Tools whose late calls go on, as threads do, until the door opens; or for ever."""

    def __init__(self, functions: Mapping[str, Callable[..., object]], *, clock: Clock, ever: bool) -> None:
        super().__init__(functions, clock=clock)
        self.door = Door()
        self._ever = ever

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        await self.door.enter()
        return self._ever


@pytest.mark.parametrize("ever", [True, False])
async def test_a_late_call_that_still_runs_is_not_asked_about_before_it_has_come_back(
    build: Build, *, ever: bool
) -> None:
    late, paid = Door(), list[int]()

    async def pay(id: int) -> object:
        await late.enter()
        return {"paid": id}

    world = build(bundle(PAY_FOUND, FOUND), by_turn(calls(("pay_once", 1)), answer("Paid.")))

    def find_payment(id: int) -> object:
        return paid or None

    functions: dict[str, Callable[..., object]] = {"pay_once": pay, "find_payment": find_payment}
    world.tool_client = tools = Late(functions, clock=world.clock, ever=ever)
    world.restart()
    accepted = await start(world)
    await passing(world, tools.door.reached.wait())
    assert [request.tool.name for request in tools.requests] == ["pay_once"]
    paid.append(1)  # the thread does its work after its time
    tools.door.open()
    run = await world.finished(accepted)
    if ever:
        assert (run.status, told(world.model.requests[-1])) == ("completed", ["[1]"])
        assert [request.tool.name for request in tools.requests] == ["pay_once", "find_payment"]
    else:
        assert (run.status, run.approvals[0].reason) == ("held", "in_doubt")
        assert [request.tool.name for request in tools.requests] == ["pay_once"]
        await approve(world, run, "done")


async def test_a_second_doubt_about_the_same_call_is_another_question(build: Build) -> None:
    doors, till = [Door(), Door()], Till()

    async def pay(id: int) -> object:
        till.pay(id)
        await doors[len(till.payments) - 1].enter()

    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": pay},
    )
    accepted = await start(world)
    for number, decision in enumerate(["approve", "approve"]):
        await world.settled()
        run = await show(world, accepted.run_id)
        [waiting] = [view for view in run.approvals if view.status in {"pending", "in_doubt"}]
        await world.engine.decide(waiting.id, STAFF, ev.ApprovalDecision(decision))
        await doors[number].reached.wait()
        await world.crash()
        await world.recover()
    await world.settled()
    run = await show(world, accepted.run_id)
    assert [(view.reason, view.status) for view in run.approvals] == [
        ("approval", "approve"),
        ("in_doubt", "approve"),
        ("in_doubt", "in_doubt"),
    ]
    assert len({view.id for view in run.approvals}) == 3
    await approve(world, run, "done")
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [1, 1])


@pytest.mark.parametrize("happened", [True, False])
async def test_reconcile_answers_only_after_the_time_out_of_the_call_and_no_person_is_asked(
    build: Build, *, happened: bool
) -> None:
    bank, door = Bank(), Door()

    async def pay(id: int) -> object:
        if happened or door.reached.is_set():
            bank.paid["pay_once", id] += 1
        if not door.reached.is_set():
            await door.enter()
        return {"paid": id}

    world = build(
        bundle(PAY_FOUND, FOUND),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": pay, "find_payment": bank.find},
    )
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    await world.recover()
    await idle()
    assert bank.looked_up == 0
    world.clock.advance(10.0 - 6.1 - 0.01)
    await idle()
    assert bank.looked_up == 0
    world.clock.advance(0.02)
    run = await world.finished(accepted)
    assert (run.status, bank.looked_up, bank.paid["pay_once", 1]) == ("completed", 1, 1)
    assert told(world.model.requests[-1]) == ['{"paid":1}']
    assert run.approvals == ()
    again = [request for request in world.tools.requests if request.tool.name == "pay_once"]
    assert len(again) == (1 if happened else 2)
    assert len({request.idempotency_key for request in world.tools.requests}) == 1


async def test_a_call_that_did_not_happen_is_not_made_again_for_a_run_that_was_cancelled(
    build: Build,
) -> None:
    bank = Bank()
    world = build(
        bundle(PAY_FOUND, FOUND),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions=bank.functions(),
        crash=CrashAt("after_intent"),
    )
    accepted = await start(world)
    await idle()
    await world.crash()
    await world.recover()
    await world.engine.cancel(accepted.run_id, ANA)
    run = await passing(world, world.finished(accepted))
    assert (run.status, bank.paid["pay_once", 1], bank.looked_up) == ("cancelled", 0, 1)
    failed = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    assert [(data.executed, data.settled_by) for data in failed] == [
        (ev.Executed.NO, "reconcile"),
        (ev.Executed.NO, "attempts"),
    ]


async def test_a_reconcile_that_raises_leaves_it_to_a_person(build: Build) -> None:
    door = Door()

    async def pay(id: int) -> object:
        await door.enter()

    def find(id: int) -> object:
        raise ToolFailed("The bank is closed.")

    world = build(
        bundle(PAY_FOUND, FOUND),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": pay, "find_payment": find},
    )
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    await world.recover()
    run = await passing(world, world.finished(accepted))
    assert (run.status, run.approvals[0].reason) == ("held", "in_doubt")
    await approve(world, run, "done")
    assert (await show(world, run.id)).status == "completed"


async def test_a_reconcile_call_that_was_cut_by_a_crash_is_made_again(build: Build) -> None:
    bank, door, finding = Bank(), Door(), Door()

    async def pay(id: int) -> object:
        bank.paid["pay_once", id] += 1
        await door.enter()

    async def find(id: int) -> object:
        await finding.enter()
        return bank.find(id)

    world = build(
        bundle(PAY_FOUND, FOUND),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": pay, "find_payment": find},
    )
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    await world.recover()
    await idle()
    world.clock.advance(10.0)
    await finding.reached.wait()
    assert (await show(world, accepted.run_id)).approvals == ()
    await world.crash()
    finding.open()
    await world.recover()
    run = await world.finished(accepted)
    assert (run.status, run.approvals, bank.paid["pay_once", 1]) == ("completed", (), 1)


async def test_the_time_of_the_run_does_not_cut_the_question_what_became_of_a_call(build: Build) -> None:
    """After a long outage the run's time is over, and its doubt is settled all the same."""
    bank, door = Bank(), Door()

    async def pay(id: int) -> object:
        bank.paid["pay_once", id] += 1
        await door.enter()

    async def find(id: int) -> object:
        await world.clock.sleep(1.0)
        return bank.find(id)

    world = build(
        bundle(PAY_FOUND, FOUND),
        by_turn(calls(("pay_once", 1)), answer("Paid.")),
        functions={"pay_once": pay, "find_payment": find},
    )
    accepted = await start(world)
    await door.reached.wait()
    await world.crash()
    world.clock.advance(3_600.0)
    await world.recover()
    run = await passing(world, world.finished(accepted))
    assert (run.status, run.reason, run.approvals) == ("partial", "time", ())
    assert run.output.endswith("Done so far: pay_once.")


async def test_cancelling_a_run_whose_call_is_in_doubt_waits_for_the_answer(build: Build) -> None:
    door = Door()

    async def pay(id: int) -> object:
        await door.enter()

    world = build(
        bundle(PAY_ONCE), by_turn(calls(("pay_once", 1)), answer("Paid.")), functions={"pay_once": pay}
    )
    run = await crashed_inside(world, door)
    await world.engine.cancel(run.id, ANA)
    await world.settled()
    assert (await show(world, run.id)).status == "held"
    await approve(world, run, "reject")
    run = await show(world, run.id)
    assert (run.status, "pay_once" in run.output) == ("cancelled", False)
    assert (await kinds(world, run.session_id))[-2:] == ["StepFailed", "RunFinished"]
    assert [entry.status for entry in await entries(world, "approval")] == ["reject"]
