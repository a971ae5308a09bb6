"""The bodies of answers as pydantic models: what the OpenAPI document says of them.

They are encoded by `views` straight from the values of the runtime; tests hold both together.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cattlegrid.core.permissions import Role

RunStatus = Literal[
    "queued", "running", "held", "dead", "completed", "partial", "denied", "failed", "cancelled", "erased"
]
SessionStatus = Literal["open", "completed", "escalated", "abandoned", "failed", "erased"]
ApprovalStatus = Literal["pending", "in_doubt", "approve", "reject", "modify", "done", "expired", "void"]


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Out):
    """What went wrong."""

    code: str = Field(description="A stable word for programs.", examples=["not_found"])
    message: str = Field(description="A sentence for people.", examples=["There is no session with this id."])
    type: str = Field(
        description="The kind of error, as OpenAI's clients know it.", examples=["not_found_error"]
    )
    param: str | None = Field(description="The field of the request that is meant.")
    correlation_id: str = Field(
        description="Names this request in the logs.", examples=["cor_01KF3Q1V9Q4Z8M2N6T7R5W3XYC"]
    )


class Refusal(_Out):
    """The one shape of every error."""

    error: Problem


class Session(_Out):
    """A user's conversation with an agent."""

    id: str
    agent: str
    bundle: str = Field(description="The version it is pinned to.", examples=["support#17 (3f9c2ab1)"])
    status: SessionStatus = Field(description="`open`, or how it ended.")
    created_at: datetime
    updated_at: datetime


class Sessions(_Out):
    """A page of sessions, newest first."""

    items: list[Session]
    next: str | None = Field(description="Give it as `before` for the next page; null on the last one.")


class Tokens(_Out):
    """Tokens of all model calls. Input counts cached tokens too, output counts reasoning tokens too."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated: bool = Field(
        description="True when a provider reported nothing: the numbers are an upper bound."
    )


class Approval(_Out):
    """A held call."""

    id: str
    session_id: str
    run_id: str
    agent: str
    status: ApprovalStatus
    reason: Literal["approval", "in_doubt"] = Field(
        description="`in_doubt`: nobody knows whether the call took effect."
    )
    tool: str
    user: str
    requested_at: datetime
    expires_at: datetime | None
    arguments: JsonValue = Field(description="The exact arguments; null for those who do not decide.")
    condition: str | None = Field(
        description="The line that asks for a person; null for those who do not decide."
    )
    decided_by: str | None = Field(description="Pseudonym of who decided; as `condition`.")
    note: str | None = Field(description="What they noted; as `condition`.")


class Approvals(_Out):
    """A page of held calls, newest first."""

    items: list[Approval]
    next: str | None


class Step(_Out):
    """One outbound call."""

    id: str
    kind: Literal["chat", "summary", "execute_tool", "undo", "reconcile"]
    name: str = Field(description="The model or the tool.")
    status: Literal["running", "held", "done", "failed", "refused"]
    attempt: int
    started_at: datetime | None
    duration_s: float
    cost_nano_usd: int
    cost_usd: str
    usage: Tokens | None
    given: str = Field(description="Arguments of a tool, as JSON text.")
    answer: str
    why: str = Field(description="The error's code, the guard's reason, or who settled it.")
    guards: list[str] = Field(
        description="What each guard said.", examples=[["tool_call approve_lines hold amount > 50"]]
    )


class File(_Out):
    """A file that a user sent along: a reference to it."""

    ref: str = Field(description="The body that holds its bytes, encrypted with the user's key.")
    name: str
    media_type: str
    size_bytes: int


class Run(_Out):
    """One request and what came of it."""

    id: str
    session_id: str
    agent: str
    bundle: str
    status: RunStatus
    reason: str
    input: str = Field(description="What the user said, without what was in files.")
    output: str
    files: list[File] = Field(description="What the user sent along.")
    started_at: datetime | None
    finished_at: datetime | None
    active_s: float = Field(description="Without the time on hold.")
    model_calls: int
    tool_calls: int
    usage: Tokens
    cost_nano_usd: int = Field(description="In billionths of a US dollar.", examples=[3_100_000])
    cost_usd: str = Field(description="The same, in US dollars.", examples=["0.0031"])
    approvals: list[Approval]
    steps: list[Step] | None = Field(
        description="For operators and approvers, where one run is shown; else null."
    )
    guards: list[str] | None = Field(description="What each guard said of input and output; as `steps`.")


class Runs(_Out):
    """A page of runs, newest first."""

    items: list[Run]
    next: str | None


class Version(_Out):
    """One version of an agent."""

    agent: str
    number: int
    digest: str
    name: str = Field(examples=["support#17 (3f9c2ab1)"])
    commit: str = Field(description="The commit it was built from; empty when there is none.")
    dirty: bool = Field(description="Whether files differed from that commit.")


class Versions(_Out):
    """All versions of an agent, oldest first."""

    items: list[Version]


class Agent(_Out):
    """An agent and the version that new sessions get."""

    name: str
    current: Version


class Agents(_Out):
    """The agents that can be talked to."""

    items: list[Agent]


class Difference(_Out):
    """Where a replay and the record first part. Texts are shortened."""

    seq: int
    run_id: str
    step_id: str
    field: str
    recorded: str
    replayed: str


class Replay(_Out):
    """The result of an exact replay."""

    session_id: str
    bundle: str
    identical: bool
    steps: int = Field(description="Steps found identical.")
    steps_total: int
    difference: Difference | None


class Erased(_Out):
    """What an erasure found."""

    sessions: int
    keys: int = Field(description="API keys that were revoked with it.")


class AuditLine(_Out):
    """Something that somebody who runs the service did."""

    id: str = Field(examples=["aud_000000000042"])
    at: datetime
    tenant: str
    action: str = Field(
        description="approve, reject, modify, done, cancel, close, retry, replay, erase, create_key, revoke_key, configuration."
    )
    subject: str = Field(description="What it was done to: an id; a pseudonym for a user.")
    outcome: str = Field(
        description="`done`, or the code of the error with which it failed, on a line of its own."
    )
    by: str = Field(
        description="Pseudonym of who did it; empty for the command line on the server's machine."
    )
    who: str = Field(description="Their name; empty once they were erased.")
    credential: str = Field(description="What they showed: `key`, `oidc` or `local`.")
    credential_id: str = Field(description="The id of the key, if it was one.")


class Audit(_Out):
    """A page of the audit, newest first."""

    items: list[AuditLine]
    next: str | None = Field(description="Give it as `before` for the next page.")


class ApiKey(_Out):
    """A key without its secret."""

    id: str
    tenant: str
    user: str
    act_as: bool
    roles: list[Role]
    label: str
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys(_Out):
    """All keys of the tenant, newest first."""

    items: list[ApiKey]


class CreatedKey(ApiKey):
    """A new key, with its secret: shown this once."""

    key: str = Field(examples=["cg_<id>_<secret>"])


class Alive(_Out):
    """The process answers."""

    status: Literal["ok"]


class Ready(_Out):
    """Whether runs are taken."""

    status: Literal["ready", "not_ready"]
    reasons: list[str] = Field(description="Why not.", examples=[["The journal cannot be written to."]])


class Info(_Out):
    """What runs here."""

    name: Literal["cattlegrid"]
    version: str
    environment: str
    started_at: datetime
    agents: list[Version]
