"""Runs of the native loop, through the engine's public API, with everything in memory."""

from collections.abc import Iterable

import pytest

from cattlegrid.core.bundle import Limits
from cattlegrid.journal import events as ev
from cattlegrid.testing.models import Answer, answer, call
from cattlegrid.testing.world import ANA, STAFF, World, bundle_of, tool_of

pytestmark = pytest.mark.anyio

REFUND = tool_of("refund", effect="write", retry="keyed", arguments={"order": "integer", "amount": "number"})
FIND = tool_of("find_order", arguments={"order": "integer"})


def shop(*, model: Iterable[Answer]) -> World:
    return World(
        bundle_of("support", tools=[FIND, REFUND], approve={"refund": "amount > 50"}),
        model=model,
        functions={
            "find_order": lambda order: {"order": order, "paid": 79.9},
            "refund": lambda order, amount: {"id": 1},
        },
    )


async def test_a_request_is_answered_and_recorded() -> None:
    world = shop(model=[answer("Hello.")])
    run = await world.ask("Hi")
    assert (run.status, run.output, run.model_calls) == ("completed", "Hello.", 1)
    kinds = [type(event.data).__name__ for event in await world.events(run.session_id)]
    assert kinds == ["SessionOpened", "RunStarted", "InputChecked", "StepIntended", "StepDone", "RunFinished"]


async def test_a_tool_call_is_made_and_its_result_reaches_the_model() -> None:
    world = shop(model=[answer(calls=[call("find_order", order=17)]), answer("It cost 79.90.")])
    run = await world.ask("What did order 17 cost?")
    assert run.output == "It cost 79.90."
    assert world.model.requests[1].messages[-1].text == '{"order":17,"paid":79.9}'
    report = await world.replayer.exact(run.session_id)
    assert (report.identical, report.steps, report.steps_total) == (True, 3, 3)


async def test_a_call_above_the_line_waits_for_a_person_and_goes_on_once_approved() -> None:
    world = shop(model=[answer(calls=[call("refund", order=17, amount=79.9)]), answer("Refunded.")])
    run = await world.ask("I want my money back")
    assert run.status == "held"
    [approval] = run.approvals
    assert (approval.tool, approval.condition, approval.status) == ("refund", "amount > 50", "pending")
    assert world.tools.requests == []
    await world.engine.decide(approval.id, STAFF, ev.ApprovalDecision.APPROVE)
    await world.settled()
    run = await world.engine.reader.run(run.id, ANA)
    assert (run.status, run.output) == ("completed", "Refunded.")
    assert len(world.tools.requests) == 1
    assert (await world.replayer.exact(run.session_id)).identical


async def test_an_approval_survives_a_crash() -> None:
    world = shop(model=[answer(calls=[call("refund", order=17, amount=79.9)]), answer("Refunded.")])
    run = await world.ask("I want my money back")
    await world.crash()
    await world.recover()
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    await world.settled()
    run = await world.engine.reader.run(run.id, ANA)
    assert (run.status, run.output) == ("completed", "Refunded.")


async def test_a_looping_model_ends_with_an_honest_partial_answer() -> None:
    world = World(
        bundle_of("support", tools=[FIND], limits=Limits(model_turns=3)),
        model=lambda request: answer("Still looking.", calls=[call("find_order", order=1)]),
        functions={"find_order": lambda order: {"order": order}},
    )
    run = await world.ask("Look")
    assert (run.status, run.reason, run.model_calls) == ("partial", "turns", 3)
    assert "number of steps" in run.output
    assert world.model.requests[-1].tools_allowed is False
    assert (await world.replayer.exact(run.session_id)).identical
