"""Turns a session's state and its next event into the next state. Pure; the same events always give the same state.

Everything that the loop may look at comes from here, live and in recovery and replay alike.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import reduce
from typing import Any, Final

from msgspec.structs import replace

from cattlegrid.core.tools import Retry
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal import events as ev
from cattlegrid.runtime.state import (
    MAX_KEYED_ATTEMPTS,
    RECONCILED_BY,
    Asked,
    MessageRef,
    Part,
    Phase,
    Run,
    Session,
    Step,
)


def fold(session: Session, event: ev.Event) -> Session:
    """The state after one more event of the session's stream."""
    run = session.run
    if run is not None:
        run = replace(run, last_at=event.at)
        session = replace(session, run=run)
    session = _FOLDS[type(event.data)](session, event, event.data)
    return replace(session, last_at=event.at)


def fold_all(session_id: str, recorded: "list[ev.Event] | tuple[ev.Event, ...]") -> Session:
    """The state after all of a stream's events."""
    return reduce(fold, recorded, Session(id=session_id))


def _running(session: Session) -> Run:
    if session.run is None:
        raise ValueError(f"an event of a run stands outside every run of {session.id}")
    return session.run


def _with_step(session: Session, step: Step, *, cost_nano_usd: int = 0) -> Session:
    """The session with a step as it is now, and with what it has cost since."""
    run = _running(session)
    cost_nano_usd += run.cost_nano_usd
    run = replace(run, steps={**run.steps, step.id: step}, cost_nano_usd=cost_nano_usd)
    return replace(session, run=_hold_clock(run))


def _hold_clock(run: Run) -> Run:
    """Stop the run's clock while it is parked, or all that is left to do waits for a person."""
    open_steps = [
        step for step in run.steps.values() if step.phase not in {Phase.DONE, Phase.FAILED, Phase.REFUSED}
    ]
    held = bool(open_steps) and all(step.phase is Phase.HELD for step in open_steps)
    waiting = run.parked or held
    if waiting and run.held_since is None:
        return replace(run, held_since=run.last_at)
    if not waiting and run.held_since is not None:
        held_s = run.held_s + (run.last_at - run.held_since) / timedelta(seconds=1)
        return replace(run, held_s=held_s, held_since=None)
    return run


# --- session and run --------------------------------------------------------------------------------------------------


def _opened(session: Session, _event: ev.Event, data: ev.SessionOpened) -> Session:
    return replace(session, opened=data)


def _closed(session: Session, _event: ev.Event, data: ev.SessionClosed) -> Session:
    return replace(session, outcome=data.outcome)


def _run_started(session: Session, event: ev.Event, data: ev.RunStarted) -> Session:
    run = Run(
        id=event.run_id,
        started_at=event.at,
        last_at=event.at,
        input=MessageRef(data.input_ref, 0, Part.INPUT),
        request_ref=data.input_ref,
        idempotency=data.idempotency,
        request_digest=data.request_digest,
        roles=data.roles,
    )
    return replace(session, run=run, runs=session.runs + 1)


def _input_checked(session: Session, _event: ev.Event, data: ev.InputChecked) -> Session:
    checked = MessageRef(data.input_ref, data.input_bytes, Part.INPUT)
    run = replace(_running(session), checked=data.decision, input=checked)
    passes = data.decision in {Decision.ALLOW, Decision.MODIFY}
    return replace(session, run=run, pending=(*session.pending, checked) if passes else session.pending)


def _resumed(session: Session, _event: ev.Event, data: ev.RunResumed) -> Session:
    run = _running(session)
    steps = {
        id: replace(step, phase=Phase.ORPHANED) if step.phase is Phase.INTENDED else step
        for id, step in run.steps.items()
    }
    return replace(session, run=replace(run, steps=steps, attempts=data.attempt))


def _parked(session: Session, _event: ev.Event, _data: ev.RunParked) -> Session:
    return replace(session, run=_hold_clock(replace(_running(session), parked=True)))


def _retried(session: Session, _event: ev.Event, _data: ev.RunRetried) -> Session:
    run = _hold_clock(replace(_running(session), parked=False, attempts=0))
    return replace(session, run=replace(run, held_s=run.held_s + run.active_s))


def _cancel_requested(session: Session, _event: ev.Event, data: ev.CancelRequested) -> Session:
    run = replace(_running(session), cancelled_by=data.by)
    if run.parked:
        run = _hold_clock(replace(run, parked=False, attempts=0))
    return replace(session, run=run)


def _run_finished(session: Session, _event: ev.Event, data: ev.RunFinished) -> Session:
    completed = session.completed + (data.status in {ev.RunStatus.COMPLETED, ev.RunStatus.PARTIAL})
    return replace(session, run=None, last_status=data.status, completed=completed)


# --- steps ------------------------------------------------------------------------------------------------------------


def _intended(session: Session, event: ev.Event, data: ev.StepIntended) -> Session:
    run = _running(session)
    known = run.steps.get(data.step_id)
    step = Step(id=data.step_id, kind=data.kind, phase=Phase.INTENDED) if known is None else known
    step = replace(
        step,
        phase=Phase.INTENDED,
        tool=data.tool,
        model=data.model,
        attempt=data.attempt,
        intended_at=event.at,
        reconciled=False,
        # A decision is used up by the call that it lets out.
        decision=None,
        decided_by="",
        note_ref="",
        arguments_ref="",
    )
    session = _started(_with_step(session, step), data.tool)
    if data.kind is ev.StepKind.CHAT:
        run = replace(_running(session), turns=run.turns + (known is None), chat_failed="")
        # The first request of a session begins with the system prompt, which no event before it holds.
        system = () if session.context or data.model is None else data.model.request.appended[:1]
        prompt = tuple(MessageRef(ref, 0, Part.SYSTEM) for ref in system)
        context = (*prompt, *session.context, *session.pending)
        return replace(session, run=run, context=context, pending=(), base_step=data.step_id)
    if data.kind in {ev.StepKind.UNDO, ev.StepKind.RECONCILE} and data.tool is not None:
        subject = run.steps[data.tool.undoes]
        flags = {"undone": True} if data.kind is ev.StepKind.UNDO else {"reconciled": True}
        return _with_step(session, replace(subject, **flags))
    return session


def _started(session: Session, tool: ev.ToolIntent | None) -> Session:
    """Note which of the asked calls has become a step."""
    run = _running(session)
    if tool is None or run.asked is None or tool.asked_by != run.asked.step_id:
        return session
    asked = replace(run.asked, started=run.asked.started | {tool.call_index})
    return replace(session, run=replace(run, asked=asked))


def _done(session: Session, event: ev.Event, data: ev.StepDone) -> Session:
    run = _running(session)
    step = run.steps[data.step_id]
    chat = step.kind in {ev.StepKind.CHAT, ev.StepKind.SUMMARY}
    content = MessageRef(data.content_ref, data.content_bytes, Part.ASSISTANT if chat else Part.ANSWER)
    step = replace(
        step,
        phase=Phase.DONE,
        content=content,
        value_ref=data.value_ref,
        settled_at=event.at,
        cost_nano_usd=data.cost_nano_usd,
    )
    session = _with_step(session, step, cost_nano_usd=data.cost_nano_usd)
    if step.kind is ev.StepKind.CHAT:
        return _answered(session, step, content, data)
    if step.kind is ev.StepKind.SUMMARY and data.decision is Decision.DENY:
        return replace(session, run=replace(_running(session), summary_failed=True))
    if step.kind is ev.StepKind.SUMMARY:
        summary = replace(content, part=Part.SUMMARY)
        return replace(session, run=replace(_running(session), summary=summary))
    if step.kind is ev.StepKind.EXECUTE_TOOL:
        return _call_answered(_used(session, step), step.tool, content)
    return session


def _used(session: Session, step: Step) -> Session:
    """Remember which tools have succeeded in this session: its outcome may depend on it."""
    name = step.tool.tool if step.tool is not None else ""
    return session if name in session.used else replace(session, used=session.used | {name})


def _answered(session: Session, step: Step, content: MessageRef, data: ev.StepDone) -> Session:
    run = _running(session)
    if data.decision is Decision.DENY:
        return replace(session, run=replace(run, chat_refused=True))
    usage = data.usage
    tokens = usage.input_tokens if usage is not None and not usage.estimated else 0
    pending = (*session.pending, content)
    if data.calls:
        asked = Asked(step_id=step.id, tools=data.calls, answers=(None,) * len(data.calls))
        run = replace(run, asked=asked)
    else:
        run = replace(run, answer=content)
    return replace(session, run=run, pending=pending, context_tokens=tokens)


def _call_answered(session: Session, tool: ev.ToolIntent | None, content: MessageRef) -> Session:
    """Give the conversation its answers once every call of the turn has one, in the order of the calls."""
    run = _running(session)
    asked = run.asked
    if tool is None or asked is None or tool.asked_by != asked.step_id:
        return session
    answers = tuple(
        content if place == tool.call_index else known for place, known in enumerate(asked.answers)
    )
    asked = replace(asked, answers=answers, started=asked.started | {tool.call_index})
    settled = tuple(answer for answer in answers if answer is not None)
    if len(settled) < len(answers):
        return replace(session, run=replace(run, asked=asked))
    return replace(session, run=replace(run, asked=None), pending=(*session.pending, *settled))


def _failed(session: Session, event: ev.Event, data: ev.StepFailed) -> Session:
    run = _running(session)
    step = run.steps[data.step_id]
    content = MessageRef(data.content_ref, data.content_bytes, Part.ANSWER) if data.content_ref else None
    step = replace(
        step,
        phase=Phase.FAILED,
        code=data.code,
        content=content,
        executed=data.executed,
        settled_at=event.at,
        cost_nano_usd=step.cost_nano_usd + data.cost_nano_usd,
    )
    if not data.settled_by and _in_doubt(step):
        step = replace(step, phase=Phase.DOUBTED)
    elif data.settled_by == RECONCILED_BY and not data.content_ref:
        step = replace(step, phase=Phase.ABSENT)
    session = _with_step(session, step, cost_nano_usd=data.cost_nano_usd)
    if step.phase is not Phase.FAILED:
        return session
    if step.kind is ev.StepKind.CHAT:
        return replace(session, run=replace(_running(session), chat_failed=data.code))
    if step.kind is ev.StepKind.SUMMARY:
        return replace(session, run=replace(_running(session), summary_failed=True))
    if step.kind is ev.StepKind.EXECUTE_TOOL and content is not None:
        return _call_answered(session, step.tool, content)
    return session


def _in_doubt(step: Step) -> bool:
    """Whether a failed call must be settled before anybody is told that it failed."""
    if step.executed is not ev.Executed.UNKNOWN or step.tool is None or not step.has_effect:
        return False
    return step.tool.retry is not Retry.FREE or step.attempt < MAX_KEYED_ATTEMPTS


def _refused(session: Session, event: ev.Event, data: ev.StepRefused) -> Session:
    run = _running(session)
    known = run.steps.get(data.step_id)
    content = MessageRef(data.content_ref, data.content_bytes, Part.ANSWER)
    kind = ev.StepKind.EXECUTE_TOOL if data.asked_by else ev.StepKind.CHAT
    step = Step(id=data.step_id, kind=kind, phase=Phase.REFUSED) if known is None else known
    step = replace(step, phase=Phase.REFUSED, code=data.code, content=content, settled_at=event.at)
    session = _with_step(session, step)
    if not data.asked_by:
        return replace(session, run=replace(_running(session), chat_refused=True))
    place = ev.ToolIntent(tool="", arguments_ref="", asked_by=data.asked_by, call_index=data.call_index)
    return _call_answered(session, place, content)


# --- holds and the rest -----------------------------------------------------------------------------------------------


def _held(session: Session, _event: ev.Event, data: ev.StepHeld) -> Session:
    run = _running(session)
    known = run.steps.get(data.step_id)
    step = Step(id=data.step_id, kind=ev.StepKind.EXECUTE_TOOL, phase=Phase.HELD) if known is None else known
    step = replace(
        step,
        phase=Phase.HELD,
        tool=data.tool,
        hold=data.hold,
        approval_id=data.approval_id,
        call_digest=data.call_digest,
        expires_at=data.expires_at,
        decision=None,
        arguments_ref="",
        holds=step.holds + 1,
    )
    session = _with_step(session, step)
    return _started(session, data.tool)


def _decided(session: Session, _event: ev.Event, data: ev.ApprovalDecided) -> Session:
    run = _running(session)
    step = next((step for step in run.steps.values() if step.approval_id == data.approval_id), None)
    if step is None or step.phase is not Phase.HELD:
        return session
    step = replace(
        step,
        phase=Phase.DECIDED,
        decision=data.decision,
        decided_by=data.by,
        note_ref=data.note_ref,
        arguments_ref=data.arguments_ref,
    )
    return _with_step(session, step)


def _compacted(session: Session, _event: ev.Event, data: ev.ContextCompacted) -> Session:
    summary = (MessageRef(data.summary_ref, data.summary_bytes, Part.SUMMARY),) if data.summary_ref else ()
    run, sent = _running(session), len(session.context)
    if data.start >= sent:
        pending = (*session.pending[: data.start - sent], *summary, *session.pending[data.stop - sent :])
        return replace(session, pending=pending, run=replace(run, overflowed=True))
    context = (*session.context[: data.start], *summary, *session.context[data.stop :])
    run = replace(run, summary=None, summary_failed=False)
    return replace(session, context=context, context_tokens=0, run=run)


def _unchanged(session: Session, _event: ev.Event, _data: object) -> Session:
    return session


_FOLDS: Final[Mapping[type, Callable[[Session, ev.Event, Any], Session]]] = {
    ev.SessionOpened: _opened,
    ev.SessionClosed: _closed,
    ev.RunStarted: _run_started,
    ev.InputChecked: _input_checked,
    ev.RunResumed: _resumed,
    ev.RunParked: _parked,
    ev.RunRetried: _retried,
    ev.CancelRequested: _cancel_requested,
    ev.RunFinished: _run_finished,
    ev.StepIntended: _intended,
    ev.StepDone: _done,
    ev.StepFailed: _failed,
    ev.StepRefused: _refused,
    ev.StepHeld: _held,
    ev.ApprovalDecided: _decided,
    ev.ContextCompacted: _compacted,
    ev.FeedbackGiven: _unchanged,
    ev.OperatorActed: _unchanged,
}
