"""The load: runs of five steps with 2 KB each, as the writes that a session's runner makes of them.

Seven writes of two events, the bodies with the event that refers to them first. Three of them are awaited, as in a
real run: the request is accepted, a side effect is about to leave, the answer is told.
"""

from collections.abc import Sequence

import msgspec

from benchmarks.common import texts
from cattlegrid.core.ids import step_id
from cattlegrid.core.messages import FinishReason, Usage
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.core.verdicts import Decision, Verdict
from cattlegrid.journal import events as ev
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.parts import ModelIntent, RequestDelta, RunStatus, StepKind, ToolIntent
from cattlegrid.journal.store import BodyRow

STEPS = 5
STEP_BYTES = 2_048
INPUT_BYTES = 200
ROUNDS = {1: 400, 8: 60, 100: 20}
"""Runs of each session, by the number of sessions."""

_STEP_TEXTS = texts(997, STEP_BYTES)
_INPUT_TEXTS = texts(997, INPUT_BYTES, seed=2)
_ALLOWED = (Verdict(guard="size", version=1, decision=Decision.ALLOW),)
_TOOL_STEPS = frozenset({2, 4})
_WRITE_STEP = 4


def rounds_of(sessions: int, share: float = 1.0) -> int:
    """How many runs each session makes."""
    return max(2, round(ROUNDS[sessions] * share))


class Write(msgspec.Struct, frozen=True):
    """One write of a run, and whether it is waited for."""

    events: tuple[ev.NewEvent, ...]
    bodies: tuple[BodyRow, ...]
    awaited: bool


def opened(owner: str, bundle: str) -> ev.SessionOpened:
    """The first event of a session."""
    return ev.SessionOpened(
        tenant="acme", owner=owner, agent="support", bundle=bundle, bundle_number=1, principal_ref=""
    )


def run_writes(box: OwnerBox, run_id: str, number: int, base: str) -> list[Write]:
    """The writes of one run; each is to be made before the next one is computed, as texts come one by one."""
    question = box.seal(f"{number} {_INPUT_TEXTS[number % len(_INPUT_TEXTS)]}")
    started = ev.RunStarted(
        input_ref=question.digest, seed=number, idempotency=f"{run_id}-key", request_digest="d"
    )
    checked = ev.InputChecked(
        decision=Decision.ALLOW, input_ref=question.digest, input_bytes=INPUT_BYTES, verdicts=_ALLOWED
    )
    writes = [Write((ev.NewEvent(started, run_id),), (question,), awaited=True)]
    refs: tuple[str, ...] = (question.digest,)
    bodies: tuple[BodyRow, ...] = ()
    before: ev.Data = checked
    for step in range(1, STEPS + 1):
        id = step_id(run_id, step)
        intended = _intended(id, step, base, refs)
        events = (ev.NewEvent(before, run_id), ev.NewEvent(intended, run_id))
        writes.append(Write(events, bodies, awaited=step == _WRITE_STEP))
        body = box.seal(f"{number} {step} {_STEP_TEXTS[(number + step * 31) % len(_STEP_TEXTS)]}")
        before, bodies = _done(id, step, body.digest), (body,)
        if step not in _TOOL_STEPS:
            base, refs = id, ()
        refs = (*refs, body.digest)
    finished = ev.RunFinished(status=RunStatus.COMPLETED, output_ref=refs[-1], verdicts=_ALLOWED)
    writes.append(Write((ev.NewEvent(before, run_id), ev.NewEvent(finished, run_id)), bodies, awaited=True))
    return writes


def _intended(id: str, step: int, base: str, refs: Sequence[str]) -> ev.StepIntended:
    if step in _TOOL_STEPS:
        writes = step == _WRITE_STEP
        tool = ToolIntent(
            tool="refund" if writes else "find_order",
            arguments_ref=refs[-1],
            asked_by=base,
            effect=Effect.WRITE if writes else Effect.READ,
            retry=Retry.KEYED if writes else Retry.FREE,
            idempotency_key=f"idk_{id}" if writes else "",
        )
        return ev.StepIntended(step_id=id, kind=StepKind.EXECUTE_TOOL, tool=tool, verdicts=_ALLOWED)
    request = RequestDelta(base=base, kept=2 * step, appended=tuple(refs))
    model = ModelIntent(tier="default", model="example-large", request=request, tools_ref="1e" * 32)
    return ev.StepIntended(step_id=id, kind=StepKind.CHAT, model=model, verdicts=_ALLOWED)


def _done(id: str, step: int, ref: str) -> ev.StepDone:
    if step in _TOOL_STEPS:
        return ev.StepDone(
            step_id=id, content_ref=ref, content_bytes=STEP_BYTES, duration_s=0.05, verdicts=_ALLOWED
        )
    return ev.StepDone(
        step_id=id,
        content_ref=ref,
        content_bytes=STEP_BYTES,
        calls=("find_order",) if step < STEPS else (),
        finish_reason=FinishReason.TOOL_CALLS if step < STEPS else FinishReason.STOP,
        usage=Usage(input_tokens=900, output_tokens=120),
        cost_nano_usd=1_234_000,
        provider="scripted",
        model="example-large",
        duration_s=0.8,
        first_delta_s=0.2,
        verdicts=_ALLOWED,
    )
