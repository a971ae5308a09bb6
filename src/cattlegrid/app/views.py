"""The server's answers as frozen values, with what the command line shows of them. Unknown fields are left out.

The shapes are those of `server/models.py`; a test reads answers of a real server with these.
"""

from datetime import datetime

import msgspec


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    estimated: bool = False


class Session(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    agent: str
    bundle: str
    status: str
    created_at: datetime
    updated_at: datetime


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A held call; `arguments` are JSON values."""

    id: str
    session_id: str
    run_id: str
    agent: str
    status: str
    reason: str
    tool: str
    user: str
    requested_at: datetime
    expires_at: datetime | None = None
    arguments: object = None
    condition: str | None = None
    decided_by: str | None = None
    note: str | None = None

    @property
    def waits(self) -> bool:
        return self.status in {"pending", "in_doubt"}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One outbound call; `given` and `answer` are texts."""

    id: str
    kind: str
    name: str
    status: str
    attempt: int
    duration_s: float
    started_at: datetime | None = None
    cost_nano_usd: int = 0
    usage: Tokens | None = None
    given: str = ""
    answer: str = ""
    why: str = ""
    guards: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    name: str
    media_type: str
    size_bytes: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    session_id: str
    agent: str
    bundle: str
    status: str
    reason: str
    input: str
    output: str
    active_s: float
    model_calls: int
    tool_calls: int
    usage: Tokens
    cost_nano_usd: int
    approvals: tuple[Approval, ...]
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: tuple[Step, ...] | None = None
    guards: tuple[str, ...] | None = None
    files: tuple[File, ...] = ()

    @property
    def over(self) -> bool:
        return self.status not in {"queued", "running", "held", "dead"}

    @property
    def waiting(self) -> tuple[Approval, ...]:
        return tuple(approval for approval in self.approvals if approval.waits)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    run_id: str
    step_id: str
    field: str
    recorded: str
    replayed: str


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    bundle: str
    identical: bool
    steps: int
    steps_total: int
    difference: Difference | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant: str
    user: str
    act_as: bool
    roles: tuple[str, ...]
    label: str
    created_at: datetime
    revoked_at: datetime | None = None


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    sessions: int
    keys: int


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    at: datetime
    tenant: str
    action: str
    subject: str
    outcome: str
    by: str
    who: str
    credential: str
    credential_id: str
