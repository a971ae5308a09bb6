"""Tools and requests for the tests of calls."""

import json
from typing import Final

from cattlegrid.core.bundle import Tool
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.messages import Message, ModelRequest, Role, ToolSpec
from cattlegrid.core.principal import Principal
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import Effect, Retry

BUNDLE: Final = "3f" * 32
LINE: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"sku": {"type": "string", "pattern": "^[A-Z]"}},
    "required": ["sku"],
}
ARGUMENTS: Final[dict[str, object]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["order_id", "amount"],
    "properties": {
        "order_id": {"type": "integer", "minimum": 1, "description": "The number on the invoice."},
        "amount": {"type": "number", "exclusiveMinimum": 0},
        "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
        "kind": {"enum": ["late", "broken"]},
        "when": {"type": "string", "format": "date"},
        "lines": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Line"}}, {"type": "null"}]},
    },
    "$defs": {"Line": LINE},
}
HIT: Final = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
RESULTS: Final[dict[str, object]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": HIT}, "total": {"type": ["integer", "null"]}},
}


def manifest(
    *,
    name: str = "refund",
    parameters: object = ARGUMENTS,
    returns: object = None,
    retry: Retry = Retry.ONCE,
    timeout_s: float = 5.0,
) -> Tool:
    """A tool with these schemas."""
    return Tool(
        spec=ToolSpec(name=name, description="d", parameters=json.dumps(parameters)),
        returns=json.dumps(returns) if returns is not None else "",
        effect=Effect.WRITE,
        retry=retry,
        timeout_s=timeout_s,
    )


def tool_request(tool: Tool, arguments: str = "{}") -> Cleared[ToolRequest]:
    """A cleared call of a tool."""
    return Cleared(
        ToolRequest(
            bundle=BUNDLE,
            tool=tool,
            arguments=arguments,
            principal=Principal(tenant="acme", user="ada"),
            session_id="ses_1",
            run_id="run_1",
            idempotency_key="stp_1",
        )
    )


def model_request(*, provider: str = "p", model: str = "m") -> Cleared[ModelRequest]:
    """A cleared request to a model."""
    return Cleared(
        ModelRequest(provider=provider, model=model, messages=(Message(role=Role.USER, text="Hi"),))
    )
