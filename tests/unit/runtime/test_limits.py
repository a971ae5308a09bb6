"""Limits of a run: time without the time on hold, turns, and an answer that says honestly how far it came."""

import pytest

from cattlegrid.core.bundle import Limits
from cattlegrid.core.errors import ModelUnavailable
from cattlegrid.journal import events as ev
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, STAFF
from tests.unit.runtime.support import (
    LOOK,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Till,
    approve,
    asked,
    bundle,
    calls,
    data_of,
    idle,
    passing,
    show,
    start,
    told,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:limits")]


async def test_a_silent_model_ends_the_run_when_its_time_is_over_and_the_answer_says_what_was_done(
    build: Build,
) -> None:
    till = Till()
    script = [calls(("pay_keyed", 1)), Stall(("Almost",))]
    world = build(bundle(PAY_KEYED, limits=Limits(run_s=20.0)), script, functions={"pay_keyed": till.pay})
    accepted = await start(world)
    run = await passing(world, world.finished(accepted))
    assert (run.status, run.reason) == ("partial", "time")
    assert run.output == (
        "I could not finish this. I had to stop: the time for one request was used up. Done so far: pay_keyed."
    )
    assert world.clock.monotonic_s() == 20.0
    assert run.active_s == 20.0


async def test_a_model_call_has_a_limit_of_its_own_after_which_the_run_fails(build: Build) -> None:
    world = build(bundle(limits=Limits(model_call_s=5.0)), [Stall(), Stall(), Stall()])
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.reason, world.clock.monotonic_s()) == ("failed", "model_timeout", 5.0)
    assert run.output == "I could not finish this."


async def test_a_slow_read_is_cut_by_the_time_of_the_run_and_the_run_ends(build: Build) -> None:
    async def look(id: int) -> object:
        await world.clock.sleep(9.0)
        return id

    script = [calls(("look", 1)), answer("Too late.")]
    world = build(bundle(LOOK, limits=Limits(run_s=4.0)), script, functions={"look": look})
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.reason, run.active_s) == ("partial", "time", 4.0)


async def test_an_effect_is_not_cut_by_the_time_of_the_run(build: Build) -> None:
    till = Till()

    async def pay(id: int) -> object:
        await world.clock.sleep(9.0)
        return till.pay(id)

    script = [calls(("pay_once", 1)), answer("Too late.")]
    world = build(bundle(PAY_ONCE, limits=Limits(run_s=4.0)), script, functions={"pay_once": pay})
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.reason, till.payments) == ("partial", "time", [1])
    assert "Done so far: pay_once." in run.output


@pytest.mark.requirement("runtime:hold-time")
async def test_time_on_hold_counts_against_no_limit(build: Build) -> None:
    till = Till()
    script = [calls(("pay_once", 60)), answer("Paid.")]
    world = build(
        bundle(PAY_ONCE, limits=Limits(run_s=4.0), approve={"pay_once": "always"}),
        script,
        functions={"pay_once": till.pay},
    )
    accepted = await start(world)
    run = await world.finished(accepted)
    world.clock.advance(3 * 3_600.0)
    assert (await show(world, run.id)).active_s == 0.0
    await approve(world, run)
    run = await show(world, run.id)
    assert (run.status, run.output, run.active_s) == ("completed", "Paid.", 0.0)


@pytest.mark.requirement("runtime:hold-time")
async def test_two_holds_side_by_side_count_as_hold_until_the_second_is_decided(build: Build) -> None:
    till = Till()
    script = [calls(("pay_once", 1), ("pay_once", 2)), answer("Paid.")]
    world = build(
        bundle(PAY_ONCE, limits=Limits(run_s=4.0), approve={"pay_once": "always"}),
        script,
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    assert [approval.status for approval in run.approvals] == ["pending", "pending"]
    world.clock.advance(100.0)
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    await world.settled()
    world.clock.advance(100.0)
    await world.engine.decide(run.approvals[1].id, STAFF, ev.ApprovalDecision.REJECT)
    await world.settled()
    run = await show(world, run.id)
    assert (run.status, run.active_s, till.payments) == ("completed", 0.0, [1])


async def test_time_before_and_after_a_hold_adds_up(build: Build) -> None:
    async def pay(id: int) -> object:
        await world.clock.sleep(2.0)
        return id

    script = [calls(("pay_once", 60)), Stall()]
    world = build(
        bundle(PAY_ONCE, limits=Limits(run_s=5.0), approve={"pay_once": "always"}),
        script,
        functions={"pay_once": pay},
    )
    accepted = await start(world)
    run = await world.finished(accepted)
    world.clock.advance(1_000.0)
    [waiting] = run.approvals
    await world.engine.decide(waiting.id, STAFF, ev.ApprovalDecision.APPROVE)
    run = await passing(world, world.finished(accepted))
    await idle()
    assert (run.status, run.reason) == ("partial", "time")
    assert (await show(world, run.id)).active_s == 5.0
    assert world.clock.monotonic_s() == 1_005.0


async def test_the_last_turn_offers_no_tools_and_a_model_that_asks_on_is_refused(build: Build) -> None:
    script = [calls(("look", 1)), calls(("look", 2)), calls(("look", 3))]
    world = build(bundle(LOOK, limits=Limits(model_turns=2)), script, functions={"look": lambda id: id})
    run = await world.finished(await start(world))
    assert (run.status, run.reason, len(world.model.requests)) == ("partial", "turns", 2)
    assert [request.tools_allowed for request in world.model.requests] == [True, False]
    refused = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepRefused)]
    assert [data.code for data in refused] == ["turns"]
    assert [request.arguments for request in world.tools.requests] == ['{"id":1}']


async def test_after_a_partial_answer_the_conversation_goes_on_with_every_call_answered(build: Build) -> None:
    script = [calls(("look", 1)), calls(("look", 2), ("look", 3)), answer("Hello again.")]
    world = build(bundle(LOOK, limits=Limits(model_turns=2)), script, functions={"look": lambda id: id})
    first = await world.finished(await start(world))
    assert first.status == "partial"
    second = await world.ask("And now?", session_id=first.session_id)
    assert second.output == "Hello again."
    assert (
        told(world.model.requests[-1]) == ["1"] + ["This call was not made: the request ended before it."] * 2
    )


async def test_a_partial_answer_holds_what_the_model_had_found(build: Build) -> None:
    found = answer("The order is on its way.", calls=[asked("look", 1)])
    world = build(bundle(LOOK, limits=Limits(model_turns=1)), [found], functions={"look": lambda id: id})
    run = await world.finished(await start(world))
    assert run.output.endswith("What I had found: The order is on its way.")


@pytest.mark.requirement("fault:model-down")
async def test_a_model_that_is_down_is_asked_again_and_then_leads_to_an_honest_sentence(build: Build) -> None:
    down = ModelUnavailable("The model is not available.")
    world = build(bundle(), [down, answer("Back."), down, down, down])
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.output) == ("completed", "Back.")
    run = await passing(world, world.ask("Again?", session_id=run.session_id))
    assert (run.status, run.reason, run.output) == (
        "failed",
        "model_unavailable",
        "I could not finish this.",
    )


@pytest.mark.requirement("runtime:approval-reject")
async def test_an_approval_that_nobody_decides_expires_and_the_model_is_told(build: Build) -> None:
    till = Till()
    script = [calls(("pay_once", 60)), answer("Nobody agreed.")]
    world = build(
        bundle(PAY_ONCE, limits=Limits(approval_s=3_600.0), approve={"pay_once": "always"}),
        script,
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    world.clock.advance(3_599.0)
    await world.upkeep.expire_approvals()
    await world.settled()
    assert (await show(world, run.id)).status == "held"
    world.clock.advance(2.0)
    await world.upkeep.expire_approvals()
    await world.upkeep.expire_approvals()
    await world.settled()
    run = await show(world, run.id)
    assert (run.status, run.approvals[0].status, till.payments) == ("completed", "expired", [])
    assert told(world.model.requests[-1]) == [
        "This call was not made: nobody approved it in time. Say so; do not call it again by yourself."
    ]
    decided = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.ApprovalDecided)]
    assert len(decided) == 1


async def test_the_time_of_an_answer_is_the_users_to_see(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.finished(await start(world))
    view = await world.engine.reader.run(run.id, ANA)
    assert (view.active_s, view.finished_at) == (0.0, world.clock.now())
