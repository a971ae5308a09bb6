"""Makes one call that a plan has let out, and turns whatever comes of it into the events that record it."""

import traceback
from datetime import timedelta
from typing import Final

from cattlegrid.calls.perform import Calls
from cattlegrid.calls.ports import OnDelta
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import (
    CattlegridError,
    ModelProtocolError,
    ModelUnavailable,
    ToolFailed,
    ToolResultInvalid,
    ToolTimeout,
)
from cattlegrid.core.ports import Clock, CrashPoints
from cattlegrid.core.requests import ModelOutcome, ToolOutcome, ToolRequest
from cattlegrid.journal import events as ev
from cattlegrid.runtime.loop import LEAST_CALL_S
from cattlegrid.runtime.outcomes import Recorder
from cattlegrid.runtime.plan import Desk, Launch
from cattlegrid.runtime.state import Run, Session

_LATE_S: Final = 10.0
"""How long a call in doubt may take to come back, at least, before a person is asked about it."""
_MODEL_KINDS: Final = frozenset({ev.StepKind.CHAT, ev.StepKind.SUMMARY})


class Caller:
    """Makes the calls of one session."""

    def __init__(self, calls: Calls, *, clock: Clock, crash: CrashPoints, desk: Desk) -> None:
        self._calls = calls
        self._clock = clock
        self._crash = crash
        self._desk = desk
        self._recorder = Recorder(bundle=desk.bundle, texts=desk.texts, guards=desk.guards)

    async def make(self, launch: Launch, session: Session, *, on_delta: OnDelta) -> tuple[ev.Data, ...]:
        """What came of a call. `session` is as it was when the call was let out."""
        run = session.run
        if run is None:
            raise ValueError("a call without a run")
        started_s = self._clock.monotonic_s()
        if launch.kind is ev.StepKind.RECONCILE and not await self._is_over(launch, run):
            late = ToolTimeout("The call in doubt has not come back, and may yet have its effect.")
            return (self._failed(launch, late, started_s),)
        try:
            outcome = await self._calls.perform(
                launch.request,
                deadline=self._deadline(launch, run),
                result_bytes=self._desk.bundle.limits.tool_result_bytes,
                # A summary is for the model alone, and is told to nobody.
                on_delta=on_delta if launch.kind is ev.StepKind.CHAT else None,
            )
        except CattlegridError as error:
            return (self._failed(launch, error, started_s),)
        except Exception as error:  # noqa: BLE001 - the top of a call: whatever it is becomes an event
            kind = ModelUnavailable if launch.kind in _MODEL_KINDS else ToolFailed
            failure = kind("The call failed.", detail="".join(traceback.format_exception(error)))
            return (self._failed(launch, failure, started_s),)
        if launch.has_effect:
            self._crash.reach("after_effect")
        try:
            return self._outcome(launch, outcome, session, run)
        except Exception as error:  # noqa: BLE001 - it came back, as something that cannot be kept
            kind = ModelProtocolError if launch.kind in _MODEL_KINDS else ToolResultInvalid
            failure = kind(
                "What came back cannot be used.", detail="".join(traceback.format_exception(error))
            )
            return (self._failed(launch, failure, started_s),)

    def _failed(self, launch: Launch, error: CattlegridError, started_s: float) -> ev.StepFailed:
        return self._recorder.failed(launch, error, duration_s=self._clock.monotonic_s() - started_s)

    def _outcome(
        self, launch: Launch, outcome: ModelOutcome | ToolOutcome, session: Session, run: Run
    ) -> tuple[ev.Data, ...]:
        context = self._desk.context(session, run)
        if isinstance(outcome, ModelOutcome):
            return (self._recorder.answered(launch, outcome, context),)
        tool = run.steps[launch.step_id].tool
        returned = self._recorder.returned(launch, outcome, context, tool=tool.tool if tool else "")
        if launch.kind is not ev.StepKind.RECONCILE:
            return (returned,)
        subject = run.steps[launch.subject]
        answer = self._desk.answer_to(run, subject, "")
        return (returned, self._recorder.reconciled(subject.id, outcome.value, answer))

    def _deadline(self, launch: Launch, run: Run) -> Deadline:
        """The call's own time-out; what has no effect is also bounded by the time that the run has left."""
        limit_s = launch.timeout_s
        if not launch.has_effect and launch.kind is not ev.StepKind.RECONCILE:
            since_s = (self._clock.now() - run.last_at) / timedelta(seconds=1)
            left_s = self._desk.bundle.limits.run_s - run.active_s - since_s
            limit_s = max(LEAST_CALL_S, min(limit_s, left_s))
        return Deadline.after(self._clock, limit_s)

    async def _is_over(self, launch: Launch, run: Run) -> bool:
        """Wait until the call in doubt can no longer be under way: its time-out is over, and its thread has come back.

        False when it does not come back: then only a person can tell what becomes of it.
        """
        step = run.steps[launch.subject]
        if (
            step.tool is None
            or step.intended_at is None
            or not isinstance(launch.request.request, ToolRequest)
        ):
            return True
        timeout_s = self._desk.bundle.tools[step.tool.tool].timeout_s
        over_at = step.intended_at + timedelta(seconds=timeout_s)
        wait_s = (over_at - self._clock.now()) / timedelta(seconds=1)
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        last = Deadline.after(self._clock, max(timeout_s, _LATE_S))
        return await self._calls.over(launch.request.request.idempotency_key, deadline=last)
