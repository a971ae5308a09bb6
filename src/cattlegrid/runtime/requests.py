"""What comes into the engine from the server, and what goes back: frozen values, with the user's own words in them."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from cattlegrid.core.messages import File, Usage
from cattlegrid.runtime.attachments import Attachment

RUNS: Final = "runs"


class OnBusy(StrEnum):
    """What to do with a request for a session whose run is still open."""

    QUEUE = "queue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A user's request. `idempotency_key` is the client's own; `route` keeps keys of different doors apart."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    features: tuple[str, ...] = ()
    idempotency_key: str = ""
    route: str = RUNS
    """`runs`: the key is unique for the agent or session that is asked. Any other door has one address for all agents
    and sessions, and there the key is unique for the door."""
    on_busy: OnBusy = OnBusy.QUEUE
    thread: str = ""
    """For a request that names no session: the client's own name for the conversation. The open session that was
    opened under this name goes on; when there is none, a new one bears the name."""
    after_run: str = ""
    """For a request in a session: refused unless this is still the session's last run."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is durable: the run that answers it."""

    session_id: str
    run_id: str
    joined: bool = False
    """True when an earlier, identical request is already being answered by this run."""


class ApprovalView(msgspec.Struct, frozen=True, kw_only=True):
    """A held call, as the person who decides sees it."""

    id: str
    session_id: str
    run_id: str
    agent: str
    status: str
    reason: str
    """`approval`, or `in_doubt`: nobody knows whether the call took effect."""
    tool: str
    arguments: str
    """The exact arguments, as JSON text."""
    condition: str
    """The line of the policy that asks for a person."""
    user: str
    requested_at: datetime
    expires_at: datetime | None
    decided_by: str = ""
    """Pseudonym of who decided, `clock` when it expired; empty while it waits."""
    note: str = ""


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run, with its texts."""

    id: str
    kind: str
    name: str
    status: str
    attempt: int
    started_at: datetime | None
    duration_s: float
    cost_nano_usd: int = 0
    usage: Usage | None = None
    given: str = ""
    """Arguments of a tool, or the last message sent to a model."""
    answer: str = ""
    why: str = ""
    """The error's code, the guard's reason, who settled it."""
    guards: tuple[str, ...] = ()
    """What each guard said, in order: `tool_call approve_lines hold amount > 50`."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its user and its operator see it; `steps` are for the operator."""

    id: str
    session_id: str
    agent: str
    bundle: str
    status: str
    """running, held, or how it ended."""
    reason: str
    input: str
    """What the user said, without what was in files."""
    output: str
    started_at: datetime
    finished_at: datetime | None
    active_s: float
    """Without the time on hold."""
    model_calls: int
    tool_calls: int
    usage: Usage
    cost_nano_usd: int
    approvals: tuple[ApprovalView, ...]
    steps: tuple[StepView, ...]
    guards: tuple[str, ...] = ()
    """What each guard said of the input and of the output."""
    files: tuple[File, ...] = ()
    """What the user sent along."""


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session in a list."""

    id: str
    agent: str
    bundle: str
    status: str
    """open, or its outcome."""
    created_at: datetime
    updated_at: datetime
