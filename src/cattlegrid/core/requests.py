"""What goes out through `calls.perform`, and what comes back: one request type and one outcome type for each gateway.

`ModelRequest` is a conversation and therefore stands in `core/messages.py`.
"""

import msgspec

from cattlegrid.core.bundle import Tool
from cattlegrid.core.messages import ModelResponse
from cattlegrid.core.principal import Principal


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool. `arguments` is canonical JSON that the tool's schema has accepted."""

    bundle: str
    """Digest of the bundle whose code is called."""
    tool: Tool
    arguments: str
    principal: Principal
    session_id: str
    run_id: str
    idempotency_key: str
    undone_result: str = ""
    """For an undo: the JSON result of the call that is taken back, offered to the tool as `result`."""


class ModelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answer and what it took. `provider` is the endpoint's own name, for example `scripted`."""

    response: ModelResponse
    provider: str
    cost_nano_usd: int
    attempts: int
    duration_s: float
    first_delta_s: float | None


class ToolOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's result, as JSON text that the declared shape has accepted; `null` for a tool that returns nothing."""

    value: str
    attempts: int
    duration_s: float
