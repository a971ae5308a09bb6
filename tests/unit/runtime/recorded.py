"""Short ways to write down what is recorded of a run, and to fold it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.messages import Usage
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal import events as ev
from cattlegrid.journal.parts import RequestDelta
from cattlegrid.runtime import loop
from cattlegrid.runtime.fold import fold
from cattlegrid.runtime.state import Session
from cattlegrid.testing.world import tool_of
from tests.unit.runtime.support import LOOK, PAY_FREE, PAY_KEYED, PAY_ONCE, bundle

RUN: Final = "run_1"
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
UNBOOK: Final = tool_of("unbook", effect="write", retry="keyed", arguments={"id": "integer"})
BOOKED: Final = tool_of("booked", arguments={"id": "integer"})
BOOK: Final = tool_of(
    "book", effect="write", retry="once", undo="unbook", reconcile="booked", arguments={"id": "integer"}
)
BUNDLE: Final = bundle(LOOK, PAY_FREE, PAY_KEYED, PAY_ONCE, BOOK, UNBOOK, BOOKED)

STARTED: Final = ev.RunStarted(input_ref="in", seed=1)
CHECKED: Final = ev.InputChecked(decision=Decision.ALLOW, input_ref="in", input_bytes=30)


def chat(step: str = "s1", *, attempt: int = 1) -> ev.StepIntended:
    delta = RequestDelta(appended=("b:system", "in"))
    model = ev.ModelIntent(tier="default", model="small", request=delta, tools_ref="b:tools")
    return ev.StepIntended(step_id=step, kind=ev.StepKind.CHAT, model=model, attempt=attempt)


def said(step: str = "s1", *, calls: Sequence[str] = (), usage: Usage | None = None) -> ev.StepDone:
    return ev.StepDone(
        step_id=step, content_ref=f"{step}-out", content_bytes=30, calls=tuple(calls), usage=usage
    )


def intent(tool: str, place: int, asked_by: str = "s1", *, undoes: str = "") -> ev.ToolIntent:
    manifest = BUNDLE.tools[tool]
    return ev.ToolIntent(
        tool=tool,
        arguments_ref="args",
        asked_by="" if undoes else asked_by,
        call_index=place,
        effect=manifest.effect,
        retry=manifest.retry,
        idempotency_key="key",
        undoes=undoes,
    )


def tool(step: str, name: str, place: int = 0, *, attempt: int = 1) -> ev.StepIntended:
    return ev.StepIntended(
        step_id=step, kind=ev.StepKind.EXECUTE_TOOL, tool=intent(name, place), attempt=attempt
    )


def about(step: str, kind: ev.StepKind, name: str, subject: str) -> ev.StepIntended:
    return ev.StepIntended(step_id=step, kind=kind, tool=intent(name, 0, undoes=subject))


def held(
    step: str, name: str, place: int = 0, *, hold: ev.HoldReason = ev.HoldReason.APPROVAL
) -> ev.StepHeld:
    return ev.StepHeld(
        step_id=step,
        approval_id=f"a-{step}",
        hold=hold,
        tool=intent(name, place),
        call_digest="d",
        expires_at=None,
    )


def decided(step: str, decision: str) -> ev.ApprovalDecided:
    return ev.ApprovalDecided(approval_id=f"a-{step}", decision=ev.ApprovalDecision(decision), by="staff")


def done(step: str) -> ev.StepDone:
    return ev.StepDone(step_id=step, content_ref=f"{step}-out", content_bytes=30)


def failed(
    step: str, code: str = "tool_failed", *, unknown: bool = False, settled_by: str = ""
) -> ev.StepFailed:
    executed = ev.Executed.UNKNOWN if unknown else ev.Executed.NO
    return ev.StepFailed(
        step_id=step,
        code=code,
        executed=executed,
        content_ref=f"{step}-out",
        content_bytes=30,
        settled_by=settled_by,
    )


def resumed(attempt: int = 1) -> ev.RunResumed:
    return ev.RunResumed(epoch=attempt + 1, attempt=attempt)


def folded(*recorded: ev.Data, every_s: float = 0.0) -> Session:
    session = Session(id="ses_1")
    for number, data in enumerate(recorded):
        at = AT + timedelta(seconds=number * every_s)
        event = ev.Event(stream="ses_1", seq=number + 1, run_id=RUN, at=at, data=data, prev_hash=b"")
        session = fold(session, event)
    return session


def following(*recorded: ev.Data, of: Bundle = BUNDLE, every_s: float = 0.0) -> loop.Action:
    return loop.next_action(folded(STARTED, CHECKED, *recorded, every_s=every_s), of)
