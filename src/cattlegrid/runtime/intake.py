"""Turns what others have put into a session's inbox into the events that record it. Pure."""

from collections.abc import Collection

from cattlegrid.core.bundle import Bundle
from cattlegrid.journal import events as ev
from cattlegrid.runtime import inbox
from cattlegrid.runtime.state import Phase, Session

Folded = inbox.Decided | inbox.Cancelled | inbox.Retry | inbox.Feedback | inbox.Close
"""What becomes an event when it is folded in; a waiting request becomes a run, later."""


def event_of(
    item: Folded, session: Session, bundle: Bundle, *, waiting: Collection[str]
) -> ev.NewEvent | None:
    """The event that an item becomes; None leaves it for later.

    Args:
        item: what was posted.
        session: the session as it is now.
        bundle: the session's bundle.
        waiting: ids of the runs that wait for the open one.
    """
    match item:
        case inbox.Decided():
            return _decided(item, session)
        case inbox.Cancelled():
            return _cancelled(item, session, waiting)
        case inbox.Retry():
            return _retried(item, session)
        case inbox.Feedback():
            return _feedback(item)
        case inbox.Close():
            return _close(item, session, bundle, waiting)


def outcome_of(session: Session, bundle: Bundle) -> str:
    """How a session ended, by the bundle's rule: escalated, completed, failed or abandoned."""
    if session.used & frozenset(bundle.outcome.escalated_by):
        return "escalated"
    if session.last_status in {ev.RunStatus.FAILED, ev.RunStatus.DENIED}:
        return "failed"
    return "completed" if session.completed else "abandoned"


def _decided(item: inbox.Decided, session: Session) -> ev.NewEvent:
    run = session.run
    held = run is not None and any(
        step.approval_id == item.approval_id and step.phase is Phase.HELD for step in run.steps.values()
    )
    if run is None or not held:
        late = ev.OperatorActed(action="approval_too_late", by=item.by, subject=item.approval_id)
        return ev.NewEvent(late)
    decided = ev.ApprovalDecided(
        approval_id=item.approval_id,
        decision=item.decision,
        by=item.by,
        note_ref=item.note_ref,
        arguments_ref=item.arguments_ref,
    )
    return ev.NewEvent(decided, run.id)


def _cancelled(item: inbox.Cancelled, session: Session, waiting: Collection[str]) -> ev.NewEvent | None:
    if session.run is not None and session.run.id == item.run_id:
        return ev.NewEvent(ev.CancelRequested(by=item.by, reason=item.reason), item.run_id)
    if item.run_id in waiting:
        return None
    return ev.NewEvent(ev.OperatorActed(action="cancel_too_late", by=item.by, subject=item.run_id))


def _retried(item: inbox.Retry, session: Session) -> ev.NewEvent:
    run = session.run
    if run is not None and run.id == item.run_id and run.parked:
        return ev.NewEvent(ev.RunRetried(by=item.by), run.id)
    return ev.NewEvent(ev.OperatorActed(action="retry_too_late", by=item.by, subject=item.run_id))


def _feedback(item: inbox.Feedback) -> ev.NewEvent:
    given = ev.FeedbackGiven(
        run_id=item.run_id, by=item.by, thumb=item.thumb, score=item.score, text_ref=item.text_ref
    )
    return ev.NewEvent(given)


def _close(
    item: inbox.Close, session: Session, bundle: Bundle, waiting: Collection[str]
) -> ev.NewEvent | None:
    if session.run is not None or waiting:
        # Who asked for the end gets it after what was accepted before; a session that is at work again is not idle.
        again = ev.OperatorActed(action="close_not_idle", by=item.by)
        return ev.NewEvent(again) if item.since else None
    if session.outcome:
        return ev.NewEvent(ev.OperatorActed(action="close_again", by=item.by))
    return ev.NewEvent(ev.SessionClosed(outcome=outcome_of(session, bundle), reason=item.reason))
