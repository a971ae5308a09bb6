"""Turns each event of a session into changes of the directory: what can be listed and looked up without streams.

    session      open, then its outcome (completed, escalated, abandoned, failed, erased)
    run          running, held, dead (parked until somebody retries it), then how it ended (`RunStatus`)
    approval     pending or in_doubt, then its decision (`ApprovalDecision`), or `void` when its run ended before it
    idempotency  from the keyed digest of a client's key to the run
    audit        what an operator did, in the control stream; its status is how it failed, if it did
    thread       from the keyed digest of a client's name for a conversation to the session that bears it now

`index` is pure: the writer keeps the `StreamContext` that it returns and hands it back with the next event. Other
streams have no entries but the audit's. A session's `updated_us` moves when a run starts or ends, and when it closes.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import msgspec

from cattlegrid.core.ids import audit_id
from cattlegrid.journal.codec import micros
from cattlegrid.journal.events import (
    CONTROL_STREAM,
    ApprovalDecided,
    CancelRequested,
    Event,
    OperatorActed,
    RunFinished,
    RunParked,
    RunRetried,
    RunStarted,
    SessionClosed,
    SessionOpened,
    StepHeld,
)
from cattlegrid.journal.parts import HoldReason
from cattlegrid.journal.store import Entry, EntryChange

SESSION: Final = "session"
RUN: Final = "run"
APPROVAL: Final = "approval"
IDEMPOTENCY: Final = "idempotency"
AUDIT: Final = "audit"
THREAD: Final = "thread"

OPEN: Final = "open"
RUNNING: Final = "running"
HELD: Final = "held"
DEAD: Final = "dead"
PENDING: Final = "pending"
IN_DOUBT: Final = "in_doubt"
VOID: Final = "void"

LIVE_STATUSES: Final = (OPEN, RUNNING, HELD, DEAD, PENDING, IN_DOUBT)
"""What still waits for something; stores keep a small index of these."""


class StreamContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries of a session have in common, and which of its approvals wait for a person."""

    stream: str
    tenant: str = ""
    owner: str = ""
    agent: str = ""
    waiting: tuple[tuple[str, str], ...] = ()
    """Pairs of run id and approval id."""
    parked: str = ""
    """Id of the run that is parked."""


Change = tuple[StreamContext, tuple[EntryChange, ...]]


def index(context: StreamContext, event: Event) -> Change:
    """The context after an event, and what the event does to the directory."""
    handler = _HANDLERS.get(type(event.data))
    return (context, ()) if handler is None else handler(context, event, event.data)


def context_of(context: StreamContext, event: Event) -> StreamContext:
    """The context after an event whose changes are written already."""
    return index(context, event)[0]


def _entry(
    context: StreamContext, event: Event, *, kind: str, id: str, status: str = "", ref: str = ""
) -> Entry:
    at_us = micros(event.at)
    return Entry(
        kind=kind,
        id=id,
        stream=context.stream,
        tenant=context.tenant,
        owner=context.owner,
        agent=context.agent,
        status=status,
        ref=ref,
        created_us=at_us,
        updated_us=at_us,
    )


def _touched(context: StreamContext, event: Event, *, status: str = "") -> EntryChange:
    return EntryChange(entry=_entry(context, event, kind=SESSION, id=context.stream, status=status))


def _run(context: StreamContext, event: Event, *, status: str) -> EntryChange:
    return EntryChange(entry=_entry(context, event, kind=RUN, id=event.run_id, status=status))


def _opened(context: StreamContext, event: Event, data: SessionOpened) -> Change:
    now = StreamContext(stream=context.stream, tenant=data.tenant, owner=data.owner, agent=data.agent)
    entry = _entry(now, event, kind=SESSION, id=now.stream, status=OPEN, ref=data.bundle)
    changes = (EntryChange(entry=entry, create=True),)
    if not data.thread:
        return now, changes
    named = _entry(now, event, kind=THREAD, id=data.thread, ref=now.stream)
    # Of two that open a session under a new name at once, one is refused, and finds the other's.
    return now, (EntryChange(entry=named, create=not data.follows), *changes)


def _closed(context: StreamContext, event: Event, data: SessionClosed) -> Change:
    return context, (_touched(context, event, status=data.outcome),)


def _started(context: StreamContext, event: Event, data: RunStarted) -> Change:
    run = _entry(context, event, kind=RUN, id=event.run_id, status=RUNNING, ref=str(event.seq))
    changes = (EntryChange(entry=run, create=True), _touched(context, event))
    if not data.idempotency:
        return context, changes
    plain = _entry(context, event, kind=IDEMPOTENCY, id=data.idempotency, ref=event.run_id)
    entry = msgspec.structs.replace(plain, digest=data.request_digest)
    return context, (EntryChange(entry=entry, create=True), *changes)


def _held(context: StreamContext, event: Event, data: StepHeld) -> Change:
    status = IN_DOUBT if data.hold is HoldReason.IN_DOUBT else PENDING
    entry = _entry(context, event, kind=APPROVAL, id=data.approval_id, status=status, ref=event.run_id)
    if data.expires_at is not None:
        entry = msgspec.structs.replace(entry, due_us=micros(data.expires_at))
    mark = (event.run_id, data.approval_id)
    others = tuple(pair for pair in context.waiting if pair != mark)
    now = msgspec.structs.replace(context, waiting=(*others, mark))
    return now, (EntryChange(entry=entry), _run(now, event, status=HELD))


def _decided(context: StreamContext, event: Event, data: ApprovalDecided) -> Change:
    waiting = tuple(pair for pair in context.waiting if pair[1] != data.approval_id)
    now = msgspec.structs.replace(context, waiting=waiting)
    entry = _entry(
        now, event, kind=APPROVAL, id=data.approval_id, status=data.decision.value, ref=event.run_id
    )
    still_held = any(run == event.run_id for run, _ in waiting)
    return now, (EntryChange(entry=entry), _run(now, event, status=HELD if still_held else RUNNING))


def _parked(context: StreamContext, event: Event, _data: RunParked) -> Change:
    now = msgspec.structs.replace(context, parked=event.run_id)
    return now, (_run(now, event, status=DEAD),)


def _goes_on(context: StreamContext, event: Event, _data: RunRetried | CancelRequested) -> Change:
    """A parked run that somebody wants to go on, or to end."""
    if context.parked != event.run_id:
        return context, ()
    now = msgspec.structs.replace(context, parked="")
    return now, (_run(now, event, status=RUNNING),)


def _finished(context: StreamContext, event: Event, data: RunFinished) -> Change:
    left = [approval for run, approval in context.waiting if run == event.run_id]
    waiting = tuple(pair for pair in context.waiting if pair[0] != event.run_id)
    now = msgspec.structs.replace(context, waiting=waiting) if left else context
    voided = (_entry(now, event, kind=APPROVAL, id=id, status=VOID, ref=event.run_id) for id in left)
    return now, (
        _run(now, event, status=data.status.value),
        _touched(now, event),
        *(EntryChange(entry=entry) for entry in voided),
    )


def _acted(context: StreamContext, event: Event, data: OperatorActed) -> Change:
    if not data.tenant or event.stream != CONTROL_STREAM:
        return context, ()
    plain = _entry(
        context, event, kind=AUDIT, id=audit_id(event.seq), status=data.outcome, ref=str(event.seq)
    )
    # Without an owner: that somebody is erased must not fence the control stream.
    entry = msgspec.structs.replace(plain, tenant=data.tenant, owner="", agent="")
    return context, (EntryChange(entry=entry, create=True),)


_HANDLERS: Final[MappingProxyType[type, Callable[[StreamContext, Event, Any], Change]]] = MappingProxyType(
    {
        SessionOpened: _opened,
        SessionClosed: _closed,
        RunStarted: _started,
        StepHeld: _held,
        ApprovalDecided: _decided,
        RunParked: _parked,
        RunRetried: _goes_on,
        CancelRequested: _goes_on,
        RunFinished: _finished,
        OperatorActed: _acted,
    }
)
