"""Runs that fail after steps that can be undone: these are undone, the last one first."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from cattlegrid.core.errors import ModelUnavailable, ToolFailed
from cattlegrid.core.messages import ModelRequest
from cattlegrid.core.tools import NotExecuted
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import Finding, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.testing.models import Answer, answer
from cattlegrid.testing.world import STAFF, tool_of
from tests.unit.runtime.bank import by_turn
from tests.unit.runtime.support import PAY_ONCE, Build, Till, bundle, calls, data_of, passing, show, start

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:undo")]

BOOK: Final = tool_of("book", effect="write", undo="unbook", arguments={"id": "integer"})
UNBOOK: Final = tool_of("unbook", effect="write", retry="keyed", arguments={"id": "integer"})
UNBOOK_ONCE: Final = tool_of("unbook", effect="write", retry="once", arguments={"id": "integer"})
GONE: Final = ModelUnavailable("The model is not available.")


def until_gone(*answers: Answer) -> Callable[[ModelRequest], Answer]:
    """A model that gives these answers, and is gone then."""
    return by_turn(*answers, GONE)


async def test_effects_are_taken_back_in_reverse_order_with_their_own_arguments_and_results(
    build: Build,
) -> None:
    booked, unbooked = Till(), list[tuple[int, object]]()

    def unbook(id: int, result: object) -> object:
        unbooked.append((id, result))
        return None

    script = until_gone(calls(("book", 1), ("book", 2)), calls(("book", 3)))
    world = build(bundle(BOOK, UNBOOK), script, functions={"book": booked.pay, "unbook": unbook})
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.reason) == ("failed", "model_unavailable")
    assert unbooked == [(3, {"paid": 3}), (2, {"paid": 2}), (1, {"paid": 1})]
    assert run.output.endswith("Done so far: book (taken back), book (taken back), book (taken back).")
    undone = [
        d.tool for d in await data_of(world, run.session_id) if isinstance(d, ev.StepIntended) and d.tool
    ]
    keys = [tool.idempotency_key for tool in undone if tool.undoes]
    assert len(set(keys)) == 3
    assert all(key.startswith("stp_") for key in keys)


async def test_what_cannot_be_undone_stays_and_is_said(build: Build) -> None:
    till = Till()
    script = until_gone(calls(("book", 1), ("pay_once", 2)))
    functions = {"book": till.pay, "pay_once": till.pay, "unbook": Till().pay}
    world = build(bundle(BOOK, UNBOOK, PAY_ONCE), script, functions=functions)
    run = await passing(world, world.finished(await start(world)))
    assert run.output.endswith("Done so far: book (taken back), pay_once.")


async def test_an_undo_that_fails_does_not_keep_the_others_from_being_tried(build: Build) -> None:
    tried: list[int] = []

    def unbook(id: int) -> object:
        tried.append(id)
        if id == 2:
            raise NotExecuted("It has left already.")
        return None

    script = until_gone(calls(("book", 1), ("book", 2)))
    world = build(bundle(BOOK, UNBOOK), script, functions={"book": Till().pay, "unbook": unbook})
    run = await passing(world, world.finished(await start(world)))
    assert tried == [2, 2, 1]
    assert run.output.endswith("Done so far: book (taken back), book.")


async def test_an_undo_that_leaves_doubt_waits_for_a_person_before_the_run_ends(build: Build) -> None:
    tried: list[int] = []

    def unbook(id: int) -> object:
        tried.append(id)
        raise ToolFailed("The line went dead.")

    script = until_gone(calls(("book", 1)))
    world = build(bundle(BOOK, UNBOOK_ONCE), script, functions={"book": Till().pay, "unbook": unbook})
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, run.approvals[0].tool, run.approvals[0].reason) == ("held", "unbook", "in_doubt")
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.DONE, note="I saw it.")
    await world.settled()
    run = await show(world, run.id)
    assert (run.status, tried) == ("failed", [1])
    assert run.output.endswith("Done so far: book (taken back).")


class Denies:
    """A guard that lets nothing be unbooked."""

    name, version = "denies", 1
    crossings = frozenset({Crossing.TOOL_CALL})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        denied = getattr(getattr(content, "tool", None), "name", "") == "unbook"
        return Finding(decision=Decision.DENY if denied else Decision.ALLOW, reason="fixed")


async def test_an_undo_that_a_guard_denies_is_on_record_and_the_run_ends(build: Build) -> None:
    unbooked = Till()
    script = until_gone(calls(("book", 1), ("book", 2)))
    functions = {"book": Till().pay, "unbook": unbooked.pay}
    world = build(bundle(BOOK, UNBOOK), script, functions=functions, guards=[Denies()])
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, unbooked.payments) == ("failed", [])
    steps = [(step.kind, step.status, step.why) for step in (await show(world, run.id)).steps]
    assert steps.count(("undo", "failed", "denied")) == 2


async def test_an_undo_needs_no_second_approval(build: Build) -> None:
    unbooked = Till()
    script = until_gone(calls(("book", 1)))
    functions = {"book": Till().pay, "unbook": unbooked.pay}
    world = build(bundle(BOOK, UNBOOK, approve={"unbook": "always"}), script, functions=functions)
    run = await passing(world, world.finished(await start(world)))
    assert (run.status, unbooked.payments) == ("failed", [1])


async def test_a_crash_inside_an_undo_repeats_it_with_its_key(build: Build) -> None:
    reached = asyncio.Event()

    async def unbook(id: int) -> object:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        return None

    script = until_gone(calls(("book", 1)))
    world = build(bundle(BOOK, UNBOOK), script, functions={"book": Till().pay, "unbook": unbook})
    accepted = await start(world)
    waiting = asyncio.ensure_future(passing(world, world.finished(accepted)))
    await reached.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await world.crash()
    await world.recover()
    run = await passing(world, world.finished(accepted))
    assert (run.status, run.output.endswith("Done so far: book (taken back).")) == ("failed", True)
    undos = [request for request in world.tools.requests if request.tool.name == "unbook"]
    assert len(undos) == 2
    assert len({request.idempotency_key for request in undos}) == 1


async def test_a_run_that_completes_undoes_nothing(build: Build) -> None:
    unbooked = Till()
    script = by_turn(calls(("book", 1)), answer("Booked."))
    world = build(bundle(BOOK, UNBOOK), script, functions={"book": Till().pay, "unbook": unbooked.pay})
    assert (await world.finished(await start(world))).status == "completed"
    assert unbooked.payments == []
