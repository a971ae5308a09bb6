"""Approvals: who may decide, once, on exactly which call, and what becomes of what comes too late."""

import asyncio

import pytest
from msgspec.structs import replace

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.errors import AlreadyDecided, Forbidden, InvalidRequest, NotFound
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import Finding, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import micros
from cattlegrid.journal.store import InboxItem
from cattlegrid.runtime import inbox, loop
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.plan import Desk
from cattlegrid.runtime.planner import Planner
from cattlegrid.runtime.requests import RunView
from cattlegrid.runtime.texts import Texts
from cattlegrid.testing.models import answer
from cattlegrid.testing.world import ANA, BO, STAFF, World
from tests.unit.runtime.support import (
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Till,
    approve,
    bundle,
    calls,
    data_of,
    entries,
    idle,
    kinds,
    show,
    start,
    told,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:hold")]

OTHER_STAFF = replace(STAFF, user="other@example.com")
APPROVE = ev.ApprovalDecision.APPROVE


def held_world(build: Build, till: Till, *, after: str = "Done.") -> World:
    return build(
        bundle(PAY_ONCE, approve={"pay_once": "id > 50"}),
        [calls(("pay_once", 60)), answer(after), answer(after)],
        functions={"pay_once": till.pay},
    )


async def held(world: World) -> RunView:
    run = await world.finished(await start(world))
    assert run.status == "held"
    return run


async def test_only_an_approver_of_the_tenant_decides_and_never_on_a_request_of_their_own(
    build: Build,
) -> None:
    till = Till()
    world = held_world(build, till)
    id = (await held(world)).approvals[0].id
    refused = {
        "no role": (replace(STAFF, roles=frozenset({"operator"})), Forbidden),
        "own request": (replace(ANA, roles=frozenset({"approver"})), Forbidden),
        "own request without the role": (ANA, Forbidden),
        "another user": (BO, NotFound),
        "another tenant": (replace(STAFF, tenant="elsewhere"), NotFound),
    }
    for principal, error in refused.values():
        with pytest.raises(error):
            await world.engine.decide(id, principal, APPROVE)
    with pytest.raises(NotFound):
        await world.engine.decide("apr_unknown", STAFF, APPROVE)
    await world.settled()
    assert (await entries(world, "approval"))[0].status == "pending"
    await world.engine.decide(id, STAFF, APPROVE)
    await world.settled()
    assert till.payments == [60]


async def test_of_two_decisions_at_the_same_moment_one_counts(build: Build) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    id = run.approvals[0].id
    results = await asyncio.gather(
        world.engine.decide(id, STAFF, APPROVE),
        world.engine.decide(id, OTHER_STAFF, ev.ApprovalDecision.REJECT),
        world.engine.decide(id, OTHER_STAFF, APPROVE),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["AlreadyDecided", "AlreadyDecided", "str"]
    await world.settled()
    with pytest.raises(AlreadyDecided):
        await world.engine.decide(id, STAFF, APPROVE)
    assert (await kinds(world, run.session_id)).count("ApprovalDecided") == 1
    assert len(till.payments) <= 1


@pytest.mark.requirement("runtime:approval-reject")
async def test_a_rejected_call_never_runs_and_the_model_is_told_why(build: Build) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.REJECT, note="Not before.")
    await world.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [])
    assert told(world.model.requests[-1]) == [
        "This call was not made: a person decided against it. Their reason: Not before. Tell the user."
    ]


async def test_a_changed_call_runs_with_the_arguments_of_the_person_and_is_recorded_with_them(
    build: Build,
) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    await approve(world, run, "modify", arguments='{"id": 55}')
    assert till.payments == [55]
    run = await show(world, run.id)
    assert [(step.given, step.status) for step in run.steps if step.name == "pay_once"] == [
        ('{"id":55}', "done")
    ]


@pytest.mark.requirement("runtime:approval-exact")
@pytest.mark.parametrize("arguments", ["", '{"id": "many"}', '{"id": 1, "to": "me"}', "{", "[]"])
async def test_changed_arguments_that_the_tool_would_refuse_are_refused_and_the_call_stays_held(
    build: Build, arguments: str
) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    with pytest.raises(InvalidRequest):
        await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.MODIFY, arguments=arguments)
    assert (await show(world, run.id)).approvals[0].status == "pending"
    await approve(world, run)
    assert till.payments == [60]


async def test_an_inbox_item_with_arguments_that_do_not_fit_is_refused_at_execution_too(build: Build) -> None:
    """An item that an older process has posted is checked like every other."""
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    entry = await world.store.entry("approval", run.approvals[0].id)
    assert entry is not None
    body = (await world.vault.open_owner(entry.owner)).seal('{"id": "many"}')
    await world.store.put_bodies([body])
    item = inbox.Decided(
        approval_id=entry.id, decision=ev.ApprovalDecision.MODIFY, by="staff", arguments_ref=body.digest
    )
    await world.engine.post(run.session_id, item)
    await world.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [])
    assert "do not fit" in told(world.model.requests[-1])[0]


@pytest.mark.parametrize("decision", ["done", "expired"])
async def test_a_decision_that_does_not_fit_is_refused(build: Build, decision: str) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    with pytest.raises((Forbidden, InvalidRequest)):
        await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision(decision))
    await approve(world, run)
    assert till.payments == [60]


class Changes:
    """A guard that changes its mind between the hold and the execution."""

    name, version = "changes", 1
    crossings = frozenset({Crossing.TOOL_CALL})

    def __init__(self) -> None:
        self.denies = False

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        return Finding(decision=Decision.DENY if self.denies else Decision.ALLOW, reason="changed")


@pytest.mark.requirement("runtime:approval-exact")
async def test_an_approved_call_is_authorised_again_when_it_is_executed(build: Build) -> None:
    till, guard = Till(), Changes()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "id > 50"}),
        [calls(("pay_once", 60)), answer("Not possible.")],
        functions={"pay_once": till.pay},
        guards=[guard],
        replayed=False,
    )
    run = await held(world)
    guard.denies = True
    await approve(world, run)
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [])
    assert "not permitted" in told(world.model.requests[-1])[0]


@pytest.mark.requirement("runtime:approval-exact")
@pytest.mark.parametrize("what", ["arguments", "tool", "session", "bundle"])
async def test_an_approval_holds_for_the_exact_call_only(build: Build, what: str) -> None:
    """A planner that is given a held call with anything changed refuses it, whatever was decided."""
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    events = await world.events(run.session_id)
    decided = ev.ApprovalDecided(approval_id=run.approvals[0].id, decision=APPROVE, by="staff")
    last = events[-1]
    event = ev.Event(
        stream=last.stream, seq=last.seq + 1, run_id=run.id, at=last.at, data=decided, prev_hash=b""
    )
    session = fold_all(run.session_id, [*events, event])
    [entry] = await entries(world, "session")
    texts = Texts(await world.vault.open_owner(entry.owner), world.store)
    of = await world.bundles.bundle(entry.ref)
    assert session.run is not None
    chat, step = session.run.steps.values()
    assert step.tool is not None
    match what:
        case "arguments":
            step = replace(step, tool=replace(step.tool, arguments_ref=texts.put('{"id":61}')))
        case "tool":
            of = replace(of, tools={**of.tools, "pay_keyed": PAY_KEYED})
            step = replace(step, tool=replace(step.tool, tool="pay_keyed"))
        case "session":
            session = replace(session, id="ses_other")
        case _:
            of = replace(of, digest="0" * 64)
    await texts.load([chat.content.ref if chat.content else "", step.tool.arguments_ref if step.tool else ""])
    desk = Desk(bundle=of, texts=texts, guards=world.guards, schemas=ToolSchemas(), user="ana@example.com")
    plan = Planner(desk).plan(session, loop.RunApproved(step))
    assert plan.launches == ()
    [refused] = [new.data for new in plan.events]
    assert isinstance(refused, ev.StepRefused)
    assert refused.code == "approval_mismatch"
    await world.engine.cancel(run.id, ANA)


@pytest.mark.requirement("fault:during-run")
async def test_a_decision_that_comes_too_late_is_recorded_and_harms_nothing(build: Build) -> None:
    till = Till()
    world = held_world(build, till)
    run = await held(world)
    id = run.approvals[0].id
    item = inbox.Decided(approval_id=id, decision=APPROVE, by="staff")
    await world.engine.cancel(run.id, ANA)
    await world.settled()
    assert (await show(world, run.id)).approvals[0].status == "void"
    with pytest.raises(AlreadyDecided):
        await world.engine.decide(id, STAFF, APPROVE)
    late = InboxItem(
        id="inb_late",
        stream=run.session_id,
        key=item.key,
        data=inbox.encode(item),
        at_us=micros(world.clock.now()),
    )
    assert await world.store.post(late)
    await world.upkeep.attend_inboxes()
    await world.settled()
    acted = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.OperatorActed)]
    assert [(data.action, data.subject) for data in acted] == [("approval_too_late", id)]
    assert till.payments == []
    assert await world.store.inbox(run.session_id) == []


@pytest.mark.requirement("fault:during-run")
async def test_a_thumb_an_approval_and_a_cancel_during_a_run_are_each_recorded_once(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "id > 50"}),
        [calls(("pay_once", 60), ("pay_once", 70)), answer("Done.")],
        functions={"pay_once": till.pay},
    )
    run = await held(world)
    first, second = run.approvals
    await asyncio.gather(
        world.engine.feedback(run.id, ANA, thumb="up"),
        world.engine.decide(first.id, STAFF, APPROVE),
        world.engine.feedback(run.id, ANA, score=0.5, text="So far so good"),
        world.engine.decide(second.id, STAFF, ev.ApprovalDecision.REJECT),
        world.engine.feedback(run.id, STAFF, thumb="down"),
        world.engine.cancel(run.id, ANA),
    )
    await world.settled()
    recorded = await kinds(world, run.session_id)
    assert (recorded.count("FeedbackGiven"), recorded.count("CancelRequested")) == (3, 1)
    # A decision is in the audit first, so that the cancel may overtake it: then the record says that it came too late.
    assert recorded.count("ApprovalDecided") + recorded.count("OperatorActed") == 2
    assert (await show(world, run.id)).status == "cancelled"
    assert len(till.payments) <= 1
    await world.engine.feedback(run.id, ANA, thumb="down", text="In the end")
    await world.settled()
    given = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.FeedbackGiven)]
    assert sorted((data.thumb, data.score or 0.0) for data in given) == [
        ("", 0.5),
        ("down", 0.0),
        ("down", 0.0),
        ("up", 0.0),
    ]
    assert await world.store.inbox(run.session_id) == []


async def test_feedback_on_a_run_of_somebody_else_is_not_possible(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    with pytest.raises(NotFound):
        await world.engine.feedback(run.id, BO, thumb="down")
    with pytest.raises(NotFound):
        await world.engine.feedback("run_unknown", ANA, thumb="down")


async def test_feedback_after_the_session_has_closed_is_recorded(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    await world.engine.close_session(run.session_id, ANA)
    await world.settled()
    await world.engine.feedback(run.id, ANA, thumb="up")
    await world.settled()
    assert (await kinds(world, run.session_id))[-2:] == ["SessionClosed", "FeedbackGiven"]


async def test_what_was_posted_just_before_the_runner_rests_is_not_left_lying(build: Build) -> None:
    """The poke may come at any moment of the runner's last round."""
    for turns in range(30):
        till = Till()
        world = held_world(build, till)
        accepted = await start(world)
        await idle(turns)
        posting = asyncio.ensure_future(world.engine.cancel(accepted.run_id, ANA))
        await idle()
        await posting
        await world.settled()
        assert (await show(world, accepted.run_id)).status == "cancelled"


async def test_both_of_two_held_calls_are_shown_and_decided_one_by_one(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "id > 50"}),
        [calls(("pay_once", 60), ("pay_once", 70)), answer("Done.")],
        functions={"pay_once": till.pay},
    )
    run = await held(world)
    await world.engine.decide(run.approvals[1].id, STAFF, APPROVE)
    await world.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("held", [70])
    await world.engine.decide(run.approvals[0].id, STAFF, APPROVE)
    await world.settled()
    assert ((await show(world, run.id)).status, till.payments) == ("completed", [70, 60])
    assert told(world.model.requests[-1]) == ['{"paid":60}', '{"paid":70}']


async def test_approvals_are_listed_for_staff_with_the_exact_arguments(build: Build) -> None:
    world = held_world(build, Till())
    run = await held(world)
    [view] = await world.engine.reader.approvals(STAFF, statuses=["pending"])
    assert (view.tool, view.arguments, view.condition, view.user) == (
        "pay_once",
        '{"id":60}',
        "id > 50",
        "ana@example.com",
    )
    assert (view.run_id, view.reason) == (run.id, "approval")
    assert await world.engine.reader.approvals(replace(STAFF, tenant="elsewhere")) == []
    assert await world.engine.reader.approvals(BO) == []
    await approve(world, run)
    assert await world.engine.reader.approvals(STAFF, statuses=["pending"]) == []
