"""Calls that failed or were cut off: which are made again, how often, with which key."""

import pytest

from cattlegrid.core.errors import Conflict, Forbidden, ToolFailed, ToolTimeout
from cattlegrid.core.tools import NotExecuted
from cattlegrid.journal import events as ev
from cattlegrid.runtime import loop
from cattlegrid.runtime.requests import RunView
from cattlegrid.runtime.state import MAX_KEYED_ATTEMPTS
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, STAFF, World
from tests.unit.runtime.bank import Bank, by_turn
from tests.unit.runtime.support import (
    PAY_FREE,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Door,
    approve,
    bundle,
    calls,
    data_of,
    idle,
    passing,
    show,
    start,
    told,
)

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("runtime:retry")
@pytest.mark.parametrize(
    ("error", "attempts", "status"),
    [
        (
            ToolFailed("No."),
            {"free": 6, "keyed": 3, "once": 1},
            {"free": "completed", "keyed": "held", "once": "held"},
        ),
        (
            ToolTimeout("Late."),
            {"free": 6, "keyed": 3, "once": 1},
            {"free": "completed", "keyed": "held", "once": "held"},
        ),
        (
            NotExecuted("Closed."),
            {"free": 2, "keyed": 2, "once": 2},
            {"free": "completed", "keyed": "completed", "once": "completed"},
        ),
    ],
    ids=["failed", "timed out", "not executed"],
)
@pytest.mark.parametrize("retry", ["free", "keyed", "once"])
async def test_a_call_that_fails_is_made_again_as_its_promise_allows(
    build: Build, retry: str, error: Exception, attempts: dict[str, int], status: dict[str, str]
) -> None:
    tool = {"free": PAY_FREE, "keyed": PAY_KEYED, "once": PAY_ONCE}[retry]
    made: list[int] = []

    def pay(id: int) -> object:
        made.append(id)
        raise error

    world = build(
        bundle(tool), by_turn(calls((tool.name, 1)), answer("It failed.")), functions={tool.name: pay}
    )
    accepted = await start(world)
    run = await passing(world, world.finished(accepted))
    assert (len(made), run.status) == (attempts[retry], status[retry])
    assert len({request.idempotency_key for request in world.tools.requests}) == 1
    if run.status == "completed" and isinstance(error, NotExecuted):
        assert told(world.model.requests[-1]) == ["Closed."]


@pytest.mark.requirement("runtime:retry")
async def test_a_free_call_that_a_person_approved_and_that_gave_up_is_not_said_to_be_checked(
    build: Build,
) -> None:
    def pay(id: int) -> object:
        raise ToolFailed("The bank did not answer.")

    world = build(
        bundle(PAY_FREE, approve={"pay_free": "always"}),
        by_turn(calls(("pay_free", 1)), answer("Unknown.")),
        functions={"pay_free": pay},
    )
    run = await world.finished(await start(world))
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    run = await passing(world, _ended(world, run.id))
    assert "A person has checked" not in told(world.model.requests[-1])[0]
    failed = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    assert failed[-1].executed is ev.Executed.UNKNOWN


@pytest.mark.requirement("runtime:retry")
async def test_a_keyed_call_runs_again_with_the_same_key_after_each_crash_and_then_a_person_is_asked(
    build: Build,
) -> None:
    bank = Bank()
    doors: list[Door] = []

    async def pay(id: int) -> object:
        bank.paid["pay_keyed", id] += 1
        doors.append(Door())
        await doors[-1].enter()

    world = build(
        bundle(PAY_KEYED), by_turn(calls(("pay_keyed", 1)), answer("Paid.")), functions={"pay_keyed": pay}
    )
    accepted = await start(world)
    for number in range(MAX_KEYED_ATTEMPTS):
        await idle()
        assert len(doors) == number + 1
        await world.crash()
        await world.recover()
    run = await world.finished(accepted)
    assert (run.status, run.approvals[0].reason, len(doors)) == ("held", "in_doubt", MAX_KEYED_ATTEMPTS)
    assert len({request.idempotency_key for request in world.tools.requests}) == 1
    assert world.tools.requests[0].idempotency_key.startswith("stp_")
    await approve(world, run, "done")


@pytest.mark.requirement("replica:dead-letter")
async def test_a_run_that_costs_process_after_process_its_life_is_dead_until_somebody_retries_it(
    build: Build,
) -> None:
    healed = False
    world = build(bundle(), lambda request: answer("Done.") if healed else Stall())
    accepted = await start(world)
    for _ in range(loop.MAX_RUN_ATTEMPTS + 1):
        await idle()
        assert (await show(world, accepted.run_id)).status == "running"
        await world.crash()
        await world.recover()
    run = await world.finished(accepted)
    assert (run.status, run.finished_at) == ("dead", None)
    assert len(world.model.requests) == 1 + loop.MAX_RUN_ATTEMPTS
    await world.recover()
    assert [run.id for run in await world.engine.reader.runs(STAFF, statuses=["dead"])] == [accepted.run_id]
    with pytest.raises(Forbidden):
        await world.engine.retry(accepted.run_id, ANA)
    healed = True
    await world.engine.retry(accepted.run_id, STAFF)
    run = await world.finished(accepted)
    assert (run.status, run.output) == ("completed", "Done.")
    with pytest.raises(Conflict):
        await world.engine.retry(accepted.run_id, STAFF)
    lines = await world.engine.audit.lines("shop")
    assert [(line.action, line.subject, line.who) for line in lines] == [
        ("retry", accepted.run_id, "staff@example.com")
    ]


async def test_a_dead_run_can_be_cancelled_and_dies_again_if_it_is_retried_in_vain(build: Build) -> None:
    world = build(bundle(), lambda request: Stall())
    accepted = await start(world)
    for _ in range(2):
        for _ in range(loop.MAX_RUN_ATTEMPTS + 1):
            await idle()
            await world.crash()
            await world.recover()
        assert (await world.finished(accepted)).status == "dead"
        await world.engine.retry(accepted.run_id, STAFF)
    for _ in range(loop.MAX_RUN_ATTEMPTS + 1):
        await idle()
        await world.crash()
        await world.recover()
    await world.engine.cancel(accepted.run_id, ANA)
    assert (await world.finished(accepted)).status == "cancelled"


async def _ended(world: World, run_id: str) -> RunView:
    while (await show(world, run_id)).finished_at is None:
        await world.clock.sleep(0.1)
    return await show(world, run_id)
