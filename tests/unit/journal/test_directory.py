"""What each event does to the directory of sessions, runs, approvals and idempotency keys."""

from datetime import timedelta

import msgspec

from cattlegrid.journal import directory, parts
from cattlegrid.journal import events as e
from cattlegrid.journal.codec import micros
from cattlegrid.journal.directory import StreamContext, index
from cattlegrid.journal.store import Entry, EntryChange
from tests.unit.journal.examples import AT, EXAMPLES, OWNER, RUN, SESSION, TOOL, event

OPENED = e.SessionOpened(
    tenant="acme", owner=OWNER, agent="support", bundle="3f", bundle_number=17, principal_ref="p"
)
STARTED = e.RunStarted(input_ref="i", seed=1)


def held(number: int, reason: parts.HoldReason = parts.HoldReason.APPROVAL) -> e.StepHeld:
    expires_at = AT + timedelta(hours=1) if reason is parts.HoldReason.APPROVAL else None
    return e.StepHeld(
        step_id=f"stp_{number}",
        approval_id=f"apr_{number}",
        hold=reason,
        tool=TOOL,
        call_digest="d",
        expires_at=expires_at,
    )


def decided(
    number: int, decision: parts.ApprovalDecision = parts.ApprovalDecision.APPROVE
) -> e.ApprovalDecided:
    return e.ApprovalDecided(approval_id=f"apr_{number}", decision=decision, by=OWNER)


def play(*data: e.Data) -> tuple[EntryChange, ...]:
    """The changes of the last of some events."""
    context, changes = StreamContext(stream=SESSION), ()
    for one in data:
        context, changes = index(context, event(one))
    return changes


def statuses(changes: tuple[EntryChange, ...]) -> dict[tuple[str, str], str]:
    return {(change.entry.kind, change.entry.id): change.entry.status for change in changes}


def test_a_session_is_listed_as_open_with_its_bundle_and_then_with_its_outcome() -> None:
    (change,) = play(OPENED)
    assert change == EntryChange(
        create=True,
        entry=Entry(
            kind="session",
            id=SESSION,
            stream=SESSION,
            tenant="acme",
            owner=OWNER,
            agent="support",
            status="open",
            ref="3f",
            created_us=micros(AT),
            updated_us=micros(AT),
        ),
    )
    assert statuses(play(OPENED, e.SessionClosed(outcome="escalated"))) == {("session", SESSION): "escalated"}


def test_a_run_is_made_once_and_moves_its_session_forward() -> None:
    run, session = play(OPENED, STARTED)
    assert (run.create, run.entry.id, run.entry.status, run.entry.tenant) == (True, RUN, "running", "acme")
    assert (session.create, session.entry.kind, session.entry.status) == (False, "session", "")


def test_the_idempotency_key_leads_to_the_run_and_is_made_once() -> None:
    started = e.RunStarted(input_ref="i", seed=1, idempotency="key digest", request_digest="body digest")
    key = play(OPENED, started)[0]
    assert key.create
    assert (key.entry.kind, key.entry.id) == ("idempotency", "key digest")
    assert (key.entry.ref, key.entry.digest, key.entry.owner) == (RUN, "body digest", OWNER)


def test_a_hold_lists_an_approval_with_its_expiry_and_holds_the_run() -> None:
    approval, run = play(OPENED, STARTED, held(1))
    assert approval.entry.due_us == micros(AT + timedelta(hours=1))
    assert (approval.entry.ref, approval.entry.owner, approval.entry.agent) == (RUN, OWNER, "support")
    assert statuses((approval, run)) == {("approval", "apr_1"): "pending", ("run", RUN): "held"}


def test_a_call_in_doubt_never_expires() -> None:
    approval = play(OPENED, STARTED, held(1, parts.HoldReason.IN_DOUBT))[0].entry
    assert (approval.status, approval.due_us) == ("in_doubt", 0)


def test_a_run_goes_on_only_when_its_last_approval_is_decided() -> None:
    assert statuses(play(OPENED, STARTED, held(1), held(2), decided(1)))[("run", RUN)] == "held"
    last = play(OPENED, STARTED, held(1), held(2), decided(1), decided(2, parts.ApprovalDecision.REJECT))
    assert statuses(last) == {("approval", "apr_2"): "reject", ("run", RUN): "running"}


def test_the_same_step_held_again_waits_once() -> None:
    again = play(
        OPENED, STARTED, held(1), held(1, parts.HoldReason.IN_DOUBT), decided(1, parts.ApprovalDecision.DONE)
    )
    assert statuses(again) == {("approval", "apr_1"): "done", ("run", RUN): "running"}


def test_the_end_of_a_run_voids_the_approvals_that_nobody_decided() -> None:
    finished = play(OPENED, STARTED, held(1), e.RunFinished(status=parts.RunStatus.CANCELLED))
    assert statuses(finished) == {
        ("run", RUN): "cancelled",
        ("session", SESSION): "",
        ("approval", "apr_1"): "void",
    }
    later = play(
        OPENED,
        STARTED,
        held(1),
        e.RunFinished(status=parts.RunStatus.CANCELLED),
        STARTED,
        held(2),
        decided(2),
    )
    assert statuses(later)[("run", RUN)] == "running"


def test_a_parked_run_is_dead_until_it_is_retried_or_cancelled() -> None:
    parked = play(OPENED, STARTED, e.RunParked(attempts=6))
    assert statuses(parked)[("run", RUN)] == "dead"
    for goes_on in (e.RunRetried(by="usr_2"), e.CancelRequested(by="usr_2")):
        assert statuses(play(OPENED, STARTED, e.RunParked(attempts=6), goes_on))[("run", RUN)] == "running"
    assert play(OPENED, STARTED, held(1), e.CancelRequested(by="usr_2")) == ()


def test_every_live_status_is_one_that_a_list_of_open_things_asks_for() -> None:
    seen = {"open", "running", "held", "dead", "pending", "in_doubt"}
    assert set(directory.LIVE_STATUSES) == seen


def test_other_events_leave_the_directory_alone() -> None:
    changing = (e.SessionOpened, e.SessionClosed, e.RunStarted, e.StepHeld, e.ApprovalDecided, e.RunFinished)
    kinds = (*changing, e.RunParked)
    context = StreamContext(stream=SESSION)
    for data in EXAMPLES:
        if not isinstance(data, kinds):
            assert index(context, event(data)) == (context, ())


def test_a_name_leads_to_the_session_that_bears_it_and_only_a_new_name_is_created() -> None:
    named, session = play(msgspec.structs.replace(OPENED, thread="t"))
    assert (named.entry.kind, named.entry.id, named.entry.ref, named.create) == ("thread", "t", SESSION, True)
    assert session.create
    again, session = play(msgspec.structs.replace(OPENED, thread="t", follows="ses_before"))
    assert (again.entry.ref, again.create, session.create) == (SESSION, False, True)
