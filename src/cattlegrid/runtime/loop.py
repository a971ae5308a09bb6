"""The native loop: a pure function from a session's state and its bundle to the one thing to do next.

The same state gives the same action, live, in recovery and in replay. Whoever carries the action out (`runner.py`)
records what it did as events, folds them, and asks again.
"""

import msgspec

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal.events import ApprovalDecision, HoldReason, RunStatus, StepKind
from cattlegrid.runtime.context import Span, estimated_tokens, holds_turns, span_to_drop
from cattlegrid.runtime.state import MAX_KEYED_ATTEMPTS, SETTLED, Asked, Phase, Run, Session, Step

LEAST_CALL_S = 0.05
"""A run with less time left than this asks nobody any more: its time is over."""
MAX_RUN_ATTEMPTS = 5
"""Writers that may lose their life over one run, before a person looks at it."""


class Rest(msgspec.Struct, frozen=True):
    """No run is open."""


class Wait(msgspec.Struct, frozen=True):
    """Calls are under way, or a person is asked."""


class CheckInput(msgspec.Struct, frozen=True):
    """Let the guards judge the user's message."""


class Chat(msgspec.Struct, frozen=True):
    """Ask the model; in the last turn without tools, so that it must answer with what it has."""

    tools_allowed: bool


class Summarise(msgspec.Struct, frozen=True):
    """Ask the model for a summary of a part of the history."""

    span: Span


class Compact(msgspec.Struct, frozen=True):
    """Drop a part of the history, in favour of a summary if there is one."""

    span: Span
    strategy: str


class DropUnsent(msgspec.Struct, frozen=True):
    """Drop what this run would send next: it does not fit, and neither would it in the next run."""


class StartCalls(msgspec.Struct, frozen=True):
    """Let these of the asked calls out: some reads together, or one call with an effect."""

    places: tuple[int, ...]


class RunApproved(msgspec.Struct, frozen=True):
    """Execute a held call that a person has agreed to."""

    step: Step


class RefuseHeld(msgspec.Struct, frozen=True):
    """Tell the model that a person said no, or nobody answered in time."""

    step: Step


class RefuseRest(msgspec.Struct, frozen=True):
    """Refuse every call that has not left yet, since the run ends."""

    code: str


class Repeat(msgspec.Struct, frozen=True):
    """Make a call again that is promised to be harmless, or that a person says to repeat."""

    step: Step


class Reconcile(msgspec.Struct, frozen=True):
    """Ask the tool's `reconcile` whether a call in doubt happened."""

    step: Step


class HoldDoubt(msgspec.Struct, frozen=True):
    """Ask a person whether a call in doubt happened."""

    step: Step


class Settle(msgspec.Struct, frozen=True):
    """Record what a person said of a call in doubt, or that it was tried often enough."""

    step: Step


class Undo(msgspec.Struct, frozen=True):
    """Take back the effect of an earlier step of this failing run."""

    step: Step


class Park(msgspec.Struct, frozen=True):
    """Leave a run that kills its writers until somebody retries or cancels it."""


class Finish(msgspec.Struct, frozen=True):
    """End the run."""

    status: RunStatus
    reason: str = ""


Action = (
    Rest
    | Wait
    | CheckInput
    | Chat
    | Summarise
    | Compact
    | DropUnsent
    | StartCalls
    | RunApproved
    | RefuseHeld
    | RefuseRest
    | Repeat
    | Reconcile
    | HoldDoubt
    | Settle
    | Undo
    | Park
    | Finish
)


def next_action(session: Session, bundle: Bundle) -> Action:
    """What the open run of a session needs next."""
    run = session.run
    if run is None:
        return Rest()
    if session.outcome:
        return Finish(RunStatus.CANCELLED, "session_ended")
    if run.parked:
        return Wait()
    if run.attempts > MAX_RUN_ATTEMPTS:
        return Park()
    return _enter(run) or _go_on_with_steps(run, bundle) or _go_on_with_run(session, run, bundle)


def _enter(run: Run) -> Action | None:
    """The input crossing; None once it is behind the run."""
    if run.checked is None:
        return CheckInput()
    passed = run.checked in {Decision.ALLOW, Decision.MODIFY}
    return None if passed else Finish(RunStatus.DENIED, "input")


def _go_on_with_steps(run: Run, bundle: Bundle) -> Action | None:
    """What a step that has begun needs; None when none needs anything, and none is under way."""
    for step in run.steps.values():
        action = _go_on(step, run, bundle)
        if action is not None:
            return action
    return Wait() if any(step.phase is Phase.INTENDED for step in run.steps.values()) else None


def _go_on_with_run(session: Session, run: Run, bundle: Bundle) -> Action:
    ending = _ending(run, bundle)
    if ending is not None:
        return _wind_up(run, bundle, ending)
    if run.asked is not None and len(run.asked.started) < len(run.asked.tools):
        return StartCalls(_batch(run.asked, bundle))
    if any(step.phase is Phase.HELD for step in run.steps.values()):
        return Wait()
    if run.answer is not None:
        return Finish(RunStatus.COMPLETED)
    return _next_turn(session, run, bundle)


def _go_on(step: Step, run: Run, bundle: Bundle) -> Action | None:
    """What a single step needs, if anything."""
    match step.phase:
        case Phase.DECIDED if step.hold is HoldReason.APPROVAL:
            if run.cancelled_by:
                return None
            agreed = step.decision in {ApprovalDecision.APPROVE, ApprovalDecision.MODIFY}
            return _once_alone(RunApproved(step), run) if agreed else RefuseHeld(step)
        case Phase.DECIDED:
            again = step.decision is ApprovalDecision.APPROVE
            return _once_alone(Repeat(step), run) if again else Settle(step)
        case Phase.ABSENT:
            over = _ending(run, bundle) is not None or step.attempt >= MAX_KEYED_ATTEMPTS
            return Settle(step) if over else _once_alone(Repeat(step), run)
        case Phase.ORPHANED | Phase.DOUBTED:
            return _resolve(step, run, bundle)
        case _:
            return None


def _once_alone(action: RunApproved | Repeat, run: Run) -> Action | None:
    """The action, unless it is an effect and another one is under way: effects come one at a time."""
    others = (step for step in run.steps.values() if step.phase is Phase.INTENDED and step.has_effect)
    return None if action.step.has_effect and any(others) else action


def _resolve(step: Step, run: Run, bundle: Bundle) -> Action | None:
    """What to do about a call whose outcome nobody knows."""
    if _being_reconciled(step, run):
        return None
    if not step.has_effect and step.kind is not StepKind.RECONCILE and _ending(run, bundle) is not None:
        return Settle(step)
    if step.repeatable:
        return _once_alone(Repeat(step), run)
    if not step.has_effect or (step.tool is not None and step.tool.retry is Retry.FREE):
        return Settle(step)
    manifest = bundle.tools.get(step.tool.tool) if step.tool is not None else None
    if manifest is not None and manifest.reconcile and not step.reconciled:
        return Reconcile(step)
    return HoldDoubt(step)


def _being_reconciled(subject: Step, run: Run) -> bool:
    """Whether the question what became of a call is still open."""
    return any(
        step.kind is StepKind.RECONCILE
        and step.phase not in SETTLED
        and step.tool is not None
        and step.tool.undoes == subject.id
        for step in run.steps.values()
    )


def _ending(run: Run, bundle: Bundle) -> Finish | None:
    """Why the run must end now, whatever the model still wants."""
    if run.cancelled_by:
        return Finish(RunStatus.CANCELLED, "cancelled")
    if run.chat_refused:
        return Finish(RunStatus.DENIED, "guard")
    if run.answer is None and run.active_s > bundle.limits.run_s - LEAST_CALL_S:
        return Finish(RunStatus.PARTIAL, "time")
    if run.overflowed:
        return Finish(RunStatus.PARTIAL, "context")
    if run.asked is not None and run.turns >= bundle.limits.model_turns:
        return Finish(RunStatus.PARTIAL, "turns")
    if run.chat_failed:
        return Finish(RunStatus.FAILED, run.chat_failed)
    return None


def _wind_up(run: Run, bundle: Bundle, ending: Finish) -> Action:
    """Close what is open, take back what a failing run did, then end it."""
    if any(step.phase is Phase.HELD and step.hold is HoldReason.IN_DOUBT for step in run.steps.values()):
        return Wait()
    waiting = any(step.phase in {Phase.HELD, Phase.DECIDED} for step in run.steps.values())
    if waiting or (run.asked is not None and not run.asked.settled):
        return RefuseRest(ending.reason)
    if ending.status is RunStatus.FAILED:
        undoable = [step for step in run.steps.values() if _undoable(step, bundle)]
        if undoable:
            return Undo(
                max(undoable, key=lambda step: (step.settled_at is not None, step.settled_at, step.id))
            )
    return ending


def _undoable(step: Step, bundle: Bundle) -> bool:
    done = step.kind is StepKind.EXECUTE_TOOL and step.phase is Phase.DONE and not step.undone
    manifest = bundle.tools.get(step.tool.tool) if done and step.tool is not None else None
    return manifest is not None and manifest.undo is not None


def _batch(asked: Asked, bundle: Bundle) -> tuple[int, ...]:
    """The next calls to let out: reads side by side, a call with an effect alone."""
    places: list[int] = []
    for place, name in enumerate(asked.tools):
        if place in asked.started:
            continue
        tool = bundle.tools.get(name)
        if tool is not None and tool.effect is not Effect.READ:
            return tuple(places) or (place,)
        places.append(place)
    return tuple(places)


def _next_turn(session: Session, run: Run, bundle: Bundle) -> Action:
    limits = bundle.limits
    if run.turns >= limits.model_turns:
        return Finish(RunStatus.PARTIAL, "turns")
    if estimated_tokens(session, bundle) > bundle.context.max_tokens:
        span = span_to_drop(session, bundle)
        if span is None:
            return DropUnsent()
        worth_it = bundle.context.strategy == "summarise" and holds_turns(session, span)
        if worth_it and run.summary is None and not run.summary_failed:
            return Summarise(span)
        return Compact(span, bundle.context.strategy if run.summary is not None else "window")
    return Chat(tools_allowed=run.turns < limits.model_turns - 1)
