"""The frozen values that a session's events fold into: what the loop decides on, and nothing else.

`fold.py` makes them from events; `loop.py` reads them. They hold references and numbers, never text.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from cattlegrid.core.tools import Effect, Retry
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal.events import (
    ApprovalDecision,
    Executed,
    HoldReason,
    ModelIntent,
    RunStatus,
    SessionOpened,
    StepKind,
    ToolIntent,
)

MAX_KEYED_ATTEMPTS = 3
"""How often a call that may be repeated is made, before it counts as in doubt (keyed) or failed (free)."""


RECONCILED_BY = "reconcile"
"""Who has settled a call in doubt when its reconcile tool has."""


class Part(StrEnum):
    """What a message is in the conversation."""

    SYSTEM = "system"
    SUMMARY = "summary"
    INPUT = "input"
    ASSISTANT = "assistant"
    ANSWER = "answer"
    """The answer to a tool call."""


class MessageRef(msgspec.Struct, frozen=True):
    """A message of the conversation by its body."""

    ref: str
    size_bytes: int
    part: Part


class Phase(StrEnum):
    """Where a step is."""

    HELD = "held"
    DECIDED = "decided"
    """A person has decided; the step has not yet gone on."""
    INTENDED = "intended"
    ORPHANED = "orphaned"
    """The call left, its writer is gone, no outcome is known."""
    DOUBTED = "doubted"
    """The call failed in a way that leaves open whether its effect happened."""
    ABSENT = "absent"
    """Its reconcile tool says that it did not happen: it is called again, as long as the run goes on."""
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


SETTLED = frozenset({Phase.DONE, Phase.FAILED, Phase.REFUSED})


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One outbound call."""

    id: str
    kind: StepKind
    phase: Phase
    tool: ToolIntent | None = None
    model: ModelIntent | None = None
    attempt: int = 0
    intended_at: datetime | None = None
    settled_at: datetime | None = None
    hold: HoldReason | None = None
    approval_id: str = ""
    call_digest: str = ""
    expires_at: datetime | None = None
    decision: ApprovalDecision | None = None
    decided_by: str = ""
    note_ref: str = ""
    arguments_ref: str = ""
    """Arguments that a person put in the place of the model's."""
    holds: int = 0
    """How often a person was asked."""
    code: str = ""
    content: MessageRef | None = None
    value_ref: str = ""
    executed: Executed = Executed.NO
    reconciled: bool = False
    """Whether its reconcile tool was asked about the last attempt."""
    undone: bool = False
    """Whether its effect was taken back, or taking it back was tried."""
    cost_nano_usd: int = 0

    @property
    def repeatable(self) -> bool:
        """Whether calling again is promised to be harmless, and has not been tried too often."""
        if self.tool is None:
            return True
        return self.tool.retry in {Retry.FREE, Retry.KEYED} and self.attempt < MAX_KEYED_ATTEMPTS

    @property
    def has_effect(self) -> bool:
        return self.tool is not None and self.tool.effect is not Effect.READ


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The tool calls of one answer, and what became of each, in their order."""

    step_id: str
    tools: tuple[str, ...]
    started: frozenset[int] = frozenset()
    answers: tuple[MessageRef | None, ...]

    @property
    def settled(self) -> bool:
        return None not in self.answers


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One request on its way to its final answer."""

    id: str
    started_at: datetime
    last_at: datetime
    input: MessageRef
    request_ref: str = ""
    """The user's message before any guard saw it."""
    idempotency: str = ""
    request_digest: str = ""
    roles: tuple[str, ...] = ()
    checked: Decision | None = None
    turns: int = 0
    attempts: int = 0
    """Writers that took this run over, since the start or since somebody retried it."""
    parked: bool = False
    """It has cost too many writers their life, and waits for somebody to retry or cancel it."""
    asked: Asked | None = None
    steps: dict[str, Step] = {}
    answer: MessageRef | None = None
    """The assistant's message that asks for nothing more."""
    chat_failed: str = ""
    """Code of the error that ended the last chat."""
    chat_refused: bool = False
    summary: MessageRef | None = None
    summary_failed: bool = False
    overflowed: bool = False
    """What it has brought up does not fit the context, and was dropped unsent."""
    cancelled_by: str = ""
    held_s: float = 0.0
    held_since: datetime | None = None
    cost_nano_usd: int = 0

    @property
    def numbered(self) -> int:
        """How many steps have their number."""
        return len(self.steps)

    @property
    def active_s(self) -> float:
        """Seconds since the start, without the time on hold, as of the last recorded event."""
        held_s = self.held_s
        if self.held_since is not None:
            held_s += (self.last_at - self.held_since) / timedelta(seconds=1)
        return (self.last_at - self.started_at) / timedelta(seconds=1) - held_s


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation, as far as its events tell."""

    id: str
    opened: SessionOpened | None = None
    context: tuple[MessageRef, ...] = ()
    """The messages of the last model request, as compaction has left them."""
    base_step: str = ""
    """The chat step that sent `context`."""
    pending: tuple[MessageRef, ...] = ()
    """Messages that the next model request appends."""
    context_tokens: int = 0
    """Input tokens that the provider counted for the last request, 0 when unknown."""
    run: Run | None = None
    runs: int = 0
    last_status: RunStatus | None = None
    completed: int = 0
    used: frozenset[str] = frozenset()
    """Tools of which a call has succeeded."""
    last_at: datetime | None = None
    outcome: str = ""
    """Set once the session is closed."""


def held_step(run: Run) -> bool:
    """Whether any step of the run waits for a person."""
    return any(step.phase is Phase.HELD for step in run.steps.values())


def waits_for_people(run: Run) -> bool:
    """Whether nothing goes on in the run before a person says something."""
    return run.parked or held_step(run)
