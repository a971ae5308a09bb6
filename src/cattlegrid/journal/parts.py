"""The parts that events are made of: what is asked of a model or a tool, and the words for how things went.

They are frozen and stored like the events themselves: what is said there about changing them holds here too.
"""

from enum import StrEnum

import msgspec

from cattlegrid.core.tools import Effect, Retry


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    """A limit was met; the answer says so."""
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ERASED = "erased"


class StepKind(StrEnum):
    """What crosses outward."""

    CHAT = "chat"
    SUMMARY = "summary"
    """A chat that compacts the context; its answer is not shown."""
    EXECUTE_TOOL = "execute_tool"
    UNDO = "undo"
    RECONCILE = "reconcile"


class RequestDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model request as the difference to the session's previous one.

    The messages are the first `kept` references of the request of step `base` (as `ContextCompacted` events since
    then have left it), then `appended`. A reference that begins with `b:` is a body of the bundle.
    """

    base: str = ""
    kept: int = 0
    appended: tuple[str, ...] = ()


class ModelIntent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a model."""

    tier: str
    model: str
    request: RequestDelta
    tools_ref: str
    """Digest of the tool descriptions and parameters, owned by the bundle."""
    tools_allowed: bool = True
    provider: str = ""
    """Who is asked."""
    requested: str = ""
    """What the provider calls the model; `model` is the project's name for it."""


class ToolIntent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a tool."""

    tool: str
    """A name of the bundle's manifest."""
    arguments_ref: str
    """Canonical JSON that the tool's schema has accepted."""
    asked_by: str = ""
    """The chat step whose answer asked for this call."""
    call_index: int = 0
    """Which of that answer's calls it is."""
    effect: Effect = Effect.READ
    retry: Retry = Retry.FREE
    idempotency_key: str = ""
    undoes: str = ""
    """The step whose effect is taken back, or whose outcome is asked for."""


class Executed(StrEnum):
    """Whether a failed call has had its effect."""

    NO = "no"
    YES = "yes"
    """It happened; only its result could not be used."""
    UNKNOWN = "unknown"


class HoldReason(StrEnum):
    """Why a person is needed."""

    APPROVAL = "approval"
    IN_DOUBT = "in_doubt"


class ApprovalDecision(StrEnum):
    """What a person decided. `DONE` settles a call in doubt as having happened."""

    APPROVE = "approve"
    REJECT = "reject"
    MODIFY = "modify"
    DONE = "done"
    EXPIRED = "expired"
