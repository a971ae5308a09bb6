"""The closed union of everything that can be recorded. One frozen struct for each kind, tagged and versioned.

`data` of an event holds ids, numbers and references only. Text lives in bodies: a field named `..._ref` holds a body's
keyed digest. What is added later gets a default; what changes its meaning gets a new tag, an upcaster from the old one
(`journal/upcasters.py`) and a stored fixture of the old one (`tests/fixtures/events/`).

Streams: `ses_...` one session; `release:<agent>` the versions of an agent; `control` keys, erasures, retention, audit.
"""

from datetime import datetime
from typing import Final

import msgspec

from cattlegrid.core.messages import FinishReason, Usage
from cattlegrid.core.verdicts import Decision, Verdict
from cattlegrid.journal.parts import (
    ApprovalDecision,
    Executed,
    HoldReason,
    ModelIntent,
    RunStatus,
    StepKind,
    ToolIntent,
)

CONTROL_STREAM: Final = "control"


def release_stream(agent: str) -> str:
    """The stream that numbers the bundles of an agent."""
    return f"release:{agent}"


class _Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t"):
    pass


# --- a session opens and closes ---------------------------------------------------------------------------------------


class SessionOpened(_Data, frozen=True, kw_only=True, tag="session_opened.1"):
    """The first event of a session: for whom, with which bundle. `principal_ref` is the user's name, as a body."""

    tenant: str
    owner: str
    """Pseudonym of the user; the name of the bodies' key."""
    agent: str
    bundle: str
    """Digest of the bundle that the session is pinned to."""
    bundle_number: int
    principal_ref: str
    thread: str = ""
    """Keyed digest of tenant, user, agent and the client's own name for the conversation; empty without a name."""
    follows: str = ""
    """The session that bore the name until it ended."""


class SessionClosed(_Data, frozen=True, kw_only=True, tag="session_closed.1"):
    """The last event of a session, but for feedback."""

    outcome: str
    """completed, escalated, abandoned, failed or erased."""
    reason: str = ""


# --- a run ------------------------------------------------------------------------------------------------------------


class RunStarted(_Data, frozen=True, kw_only=True, tag="run_started.1"):
    """A request was admitted. Holds everything that the run uses and that would differ if drawn again."""

    input_ref: str
    """The user's `Message`, as JSON."""
    seed: int
    flags: dict[str, str] = {}
    memory: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    snapshot: str = ""
    """Id of the knowledge that tools answer from, as the agent's `snapshot` function told it."""
    roles: tuple[str, ...] = ()
    """Roles of the principal, as authentication gave them."""
    idempotency: str = ""
    """Keyed digest of tenant, user, route and the client's Idempotency-Key."""
    request_digest: str = ""
    """Keyed digest of the request's body, to tell the same request from another one under the same key."""
    files: tuple[str, ...] = ()
    """References of the bodies of what was attached: retention deletes what no event names."""


class InputChecked(_Data, frozen=True, kw_only=True, tag="input_checked.1"):
    """The input crossing. `input_ref` is what the model will see."""

    decision: Decision
    input_ref: str
    input_bytes: int = 0
    verdicts: tuple[Verdict, ...] = ()


class RunResumed(_Data, frozen=True, kw_only=True, tag="run_resumed.1"):
    """A new writer goes on with an open run after a crash or a take-over; counted, so that a deadly run ends."""

    epoch: int
    attempt: int


class RunParked(_Data, frozen=True, kw_only=True, tag="run_parked.1"):
    """The run has cost one writer after the other its life: nobody goes on with it until somebody asks for that."""

    attempts: int


class RunRetried(_Data, frozen=True, kw_only=True, tag="run_retried.1"):
    """Somebody wants a parked run to go on; its attempts and its time count anew."""

    by: str


class CancelRequested(_Data, frozen=True, kw_only=True, tag="cancel_requested.1"):
    """Somebody asked for the end of the run."""

    by: str
    reason: str = ""


class RunFinished(_Data, frozen=True, kw_only=True, tag="run_finished.1"):
    """The answer, once it is durable. Includes the output crossing."""

    status: RunStatus
    reason: str = ""
    output_ref: str = ""
    decision: Decision = Decision.ALLOW
    verdicts: tuple[Verdict, ...] = ()
    error_code: str = ""


# --- steps ------------------------------------------------------------------------------------------------------------


class StepIntended(_Data, frozen=True, kw_only=True, tag="step_intended.1"):
    """A call is about to leave. Durable before a side effect. Includes the model_request or tool_call crossing."""

    step_id: str
    kind: StepKind
    model: ModelIntent | None = None
    tool: ToolIntent | None = None
    attempt: int = 1
    """More than 1 when the same step is called again after a crash or a doubt."""
    approval_id: str = ""
    verdicts: tuple[Verdict, ...] = ()


class StepDone(_Data, frozen=True, kw_only=True, tag="step_done.1"):
    """A call has come back. Includes the model_response or tool_result crossing. `content_ref` is what the loop sees."""

    step_id: str
    content_ref: str
    """The `Message` for the conversation, as JSON: an assistant's, or the answer to a tool call."""
    content_bytes: int = 0
    value_ref: str = ""
    """For tools: the result as JSON, when the message's text is not just that."""
    calls: tuple[str, ...] = ()
    """For chat: the tools asked for, in the order of the message; empty text for a tool that is not offered."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost_nano_usd: int = 0
    provider: str = ""
    model: str = ""
    duration_s: float = 0.0
    first_delta_s: float | None = None
    attempts: int = 1
    settled_by: str = ""
    """Who answered for a call in doubt: `reconcile`, or a person's pseudonym."""
    decision: Decision = Decision.ALLOW
    verdicts: tuple[Verdict, ...] = ()


class StepFailed(_Data, frozen=True, kw_only=True, tag="step_failed.1"):
    """A call came to nothing, or its result was refused. `content_ref` is what the model is told."""

    step_id: str
    code: str
    executed: Executed = Executed.NO
    content_ref: str = ""
    content_bytes: int = 0
    detail_ref: str = ""
    duration_s: float = 0.0
    attempts: int = 1
    usage: Usage | None = None
    cost_nano_usd: int = 0
    settled_by: str = ""
    verdicts: tuple[Verdict, ...] = ()


class StepRefused(_Data, frozen=True, kw_only=True, tag="step_refused.1"):
    """A call that a guard, the schema or a person did not let out. `content_ref` is what the model is told."""

    step_id: str
    code: str
    tool: str
    content_ref: str
    content_bytes: int = 0
    asked_by: str = ""
    call_index: int = 0
    approval_id: str = ""
    detail_ref: str = ""
    """For the operator: what was wrong with the arguments."""
    verdicts: tuple[Verdict, ...] = ()


# --- holds ------------------------------------------------------------------------------------------------------------


class StepHeld(_Data, frozen=True, kw_only=True, tag="step_held.1"):
    """A call waits for a person. The approval binds to `call_digest`."""

    step_id: str
    approval_id: str
    hold: HoldReason
    tool: ToolIntent
    call_digest: str
    """Keyed digest of tool, canonical arguments, session and bundle."""
    expires_at: datetime | None
    """None for a call in doubt: it never settles itself."""
    verdicts: tuple[Verdict, ...] = ()


class ApprovalDecided(_Data, frozen=True, kw_only=True, tag="approval_decided.1"):
    """The decision on a held step."""

    approval_id: str
    decision: ApprovalDecision
    by: str
    note_ref: str = ""
    arguments_ref: str = ""
    """The arguments that a person changed."""


# --- the rest of a session --------------------------------------------------------------------------------------------


class ContextCompacted(_Data, frozen=True, kw_only=True, tag="context_compacted.1"):
    """Messages `start` to `stop` (exclusive) of the last request were dropped, and `summary_ref` put there if any."""

    strategy: str
    start: int
    stop: int
    summary_ref: str = ""
    summary_bytes: int = 0


class FeedbackGiven(_Data, frozen=True, kw_only=True, tag="feedback_given.1"):
    """What a user thought of a run."""

    run_id: str
    by: str
    thumb: str = ""
    score: float | None = None
    text_ref: str = ""


# --- release and control streams --------------------------------------------------------------------------------------


class BundleRegistered(_Data, frozen=True, kw_only=True, tag="bundle_registered.1"):
    """A version of an agent got its number. The manifest and the files are bodies owned by the bundle."""

    agent: str
    number: int
    bundle: str
    manifest_ref: str
    commit: str = ""
    dirty: bool = False


class KeyCreated(_Data, frozen=True, kw_only=True, tag="key_created.1"):
    """An API key exists from now on. `user` and `act_as` of people are given by pseudonym only."""

    key_id: str
    tenant: str
    owner: str = ""
    act_as: bool = False
    roles: tuple[str, ...] = ()
    by: str = ""


class KeyRevoked(_Data, frozen=True, kw_only=True, tag="key_revoked.1"):
    """An API key is worth nothing from now on."""

    key_id: str
    by: str = ""


class UserErased(_Data, frozen=True, kw_only=True, tag="user_erased.1"):
    """The key of an owner is gone."""

    owner: str
    by: str = ""


class SessionRetired(_Data, frozen=True, kw_only=True, tag="session_retired.1"):
    """The events of a session were deleted by retention; `seq` and `hash` are of its last event."""

    session: str
    last_seq: int
    last_hash: str


class OperatorActed(_Data, frozen=True, kw_only=True, tag="operator_acted.1"):
    """Somebody who runs the service did something, or tried. Written before it is done, so that nothing is done unseen."""

    action: str
    by: str
    """Pseudonym; empty for the command line on the machine itself."""
    subject: str = ""
    """Id of what it was done to; a pseudonym for a user."""
    tenant: str = ""
    """In whose audit it is; empty for what no person did."""
    credential: str = ""
    """`key`, `oidc` or `local`."""
    credential_id: str = ""
    who_ref: str = ""
    """Their name, as a body of their own: an erasure takes it, the pseudonym stays."""
    outcome: str = ""
    """Empty before the deed; of a second event, the code of the error that it ended with."""


Data = (
    SessionOpened
    | SessionClosed
    | RunStarted
    | InputChecked
    | RunResumed
    | RunParked
    | RunRetried
    | CancelRequested
    | RunFinished
    | StepIntended
    | StepDone
    | StepFailed
    | StepRefused
    | StepHeld
    | ApprovalDecided
    | ContextCompacted
    | FeedbackGiven
    | BundleRegistered
    | KeyCreated
    | KeyRevoked
    | UserErased
    | SessionRetired
    | OperatorActed
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One frozen record. `prev_hash` is the hash of the event before it in the stream; 32 zero bytes for the first."""

    stream: str
    seq: int
    run_id: str
    """Empty for events outside a run."""
    at: datetime
    data: Data
    prev_hash: bytes


class NewEvent(msgspec.Struct, frozen=True):
    """An event that its writer has not numbered yet."""

    data: Data
    run_id: str = ""
