"""One full example of every event type; `write_missing` keeps the stored form of each new one for ever."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.messages import FinishReason, Usage
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.core.verdicts import Decision, Verdict
from cattlegrid.journal import events as e
from cattlegrid.journal import parts
from cattlegrid.journal.codec import encode_data, type_of

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "events"
AT: Final = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)

STEP: Final = "stp_01J8ZQ0000000000000000000A_002"
APPROVAL: Final = "apr_01J8ZQ0000000000000000000A_002"
RUN: Final = "run_01J8ZQ0000000000000000000A"
SESSION: Final = "ses_01J8ZQ0000000000000000000B"
OWNER: Final = "usr_" + "ab" * 16


def ref(number: int) -> str:
    """Something of the shape of a body's digest."""
    return f"{number:032x}"


VERDICTS: Final = (
    Verdict(guard="size", version=1, decision=Decision.ALLOW),
    Verdict(guard="pii", version=3, decision=Decision.MODIFY, reason="email", score=0.75),
)
USAGE: Final = Usage(
    input_tokens=1200,
    output_tokens=80,
    cache_read_tokens=1000,
    cache_write_tokens=20,
    reasoning_tokens=16,
    estimated=True,
)
TOOL: Final = parts.ToolIntent(
    tool="refund",
    arguments_ref=ref(7),
    asked_by="stp_01J8ZQ0000000000000000000A_001",
    call_index=1,
    effect=Effect.WRITE,
    retry=Retry.KEYED,
    idempotency_key="idk_1",
    undoes="stp_01J8ZQ0000000000000000000A_000",
)
MODEL: Final = parts.ModelIntent(
    tier="default",
    model="example-large",
    request=parts.RequestDelta(
        base="stp_01J8ZQ0000000000000000000A_001", kept=4, appended=("b:" + "0f" * 32, ref(5))
    ),
    tools_ref="1e" * 32,
    tools_allowed=False,
)

EXAMPLES: Final[tuple[e.Data, ...]] = (
    e.SessionOpened(
        tenant="acme", owner=OWNER, agent="support", bundle="3f" * 32, bundle_number=17, principal_ref=ref(1)
    ),
    e.SessionClosed(outcome="escalated", reason="handed over"),
    e.RunStarted(
        input_ref=ref(2),
        seed=2**62,
        flags={"tone": "warm", "fast": "on"},
        memory=(ref(3),),
        features=("returns",),
        snapshot="kb-4",
        roles=("customer",),
        idempotency=ref(4),
        request_digest=ref(5),
    ),
    e.InputChecked(decision=Decision.MODIFY, input_ref=ref(6), input_bytes=512, verdicts=VERDICTS),
    e.RunResumed(epoch=4, attempt=2),
    e.RunParked(attempts=6),
    e.RunRetried(by=OWNER),
    e.CancelRequested(by=OWNER, reason="user"),
    e.RunFinished(
        status=parts.RunStatus.PARTIAL,
        reason="model_turns",
        output_ref=ref(8),
        decision=Decision.MODIFY,
        verdicts=VERDICTS,
        error_code="limited",
    ),
    e.StepIntended(
        step_id=STEP,
        kind=parts.StepKind.CHAT,
        model=MODEL,
        tool=TOOL,
        attempt=2,
        approval_id=APPROVAL,
        verdicts=VERDICTS,
    ),
    e.StepDone(
        step_id=STEP,
        content_ref=ref(9),
        content_bytes=2048,
        value_ref=ref(10),
        calls=("refund", ""),
        finish_reason=FinishReason.TOOL_CALLS,
        usage=USAGE,
        cost_nano_usd=1_234_567,
        provider="scripted",
        model="example-large-2026",
        duration_s=0.25,
        first_delta_s=0.125,
        attempts=2,
        settled_by="reconcile",
        decision=Decision.MODIFY,
        verdicts=VERDICTS,
    ),
    e.StepFailed(
        step_id=STEP,
        code="tool_timeout",
        executed=parts.Executed.UNKNOWN,
        content_ref=ref(11),
        content_bytes=64,
        detail_ref=ref(12),
        duration_s=10.5,
        attempts=3,
        usage=USAGE,
        cost_nano_usd=5,
        settled_by=OWNER,
        verdicts=VERDICTS,
    ),
    e.StepRefused(
        step_id=STEP,
        code="denied",
        tool="refund",
        content_ref=ref(13),
        content_bytes=99,
        asked_by="stp_01J8ZQ0000000000000000000A_001",
        call_index=2,
        approval_id=APPROVAL,
        detail_ref=ref(14),
        verdicts=VERDICTS,
    ),
    e.StepHeld(
        step_id=STEP,
        approval_id=APPROVAL,
        hold=parts.HoldReason.APPROVAL,
        tool=TOOL,
        call_digest=ref(15),
        expires_at=AT,
        verdicts=VERDICTS,
    ),
    e.ApprovalDecided(
        approval_id=APPROVAL,
        decision=parts.ApprovalDecision.MODIFY,
        by=OWNER,
        note_ref=ref(16),
        arguments_ref=ref(17),
    ),
    e.ContextCompacted(strategy="summarise", start=1, stop=9, summary_ref=ref(18), summary_bytes=300),
    e.FeedbackGiven(run_id=RUN, by=OWNER, thumb="up", score=0.5, text_ref=ref(19)),
    e.BundleRegistered(
        agent="support", number=17, bundle="3f" * 32, manifest_ref="4e" * 32, commit="5d" * 20, dirty=True
    ),
    e.KeyCreated(key_id="key_1", tenant="acme", owner=OWNER, act_as=True, roles=("operator",), by="cli"),
    e.KeyRevoked(key_id="key_1", by="cli"),
    e.UserErased(owner=OWNER, by="cli"),
    e.SessionRetired(session=SESSION, last_seq=120, last_hash="6c" * 32),
    e.OperatorActed(action="replay", by=OWNER, subject=SESSION),
)


def event(data: e.Data, *, seq: int = 1, stream: str = SESSION, prev_hash: bytes = bytes(32)) -> e.Event:
    """An event around some data."""
    return e.Event(stream=stream, seq=seq, run_id=RUN, at=AT, data=data, prev_hash=prev_hash)


def write_missing(folder: Path = FIXTURES) -> list[str]:
    """Store the form of every type that has none yet; what is stored is never changed."""
    written: list[str] = []
    for data in EXAMPLES:
        path = folder / f"{type_of(data)}.json"
        if not path.exists():
            stored = {"data": encode_data(data).hex(), "value": msgspec.to_builtins(data)}
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
            written.append(path.name)
    return written


if __name__ == "__main__":
    print("\n".join(write_missing()))  # noqa: T201
