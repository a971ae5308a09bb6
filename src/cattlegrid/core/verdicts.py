"""What guards say: one verdict each, and the decision that follows from all of them at one crossing."""

from enum import StrEnum

import msgspec


class Crossing(StrEnum):
    """The six places where guards look."""

    INPUT = "input"
    MODEL_REQUEST = "model_request"
    MODEL_RESPONSE = "model_response"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    OUTPUT = "output"


class Decision(StrEnum):
    """From mildest to strictest; the strictest verdict decides."""

    ALLOW = "allow"
    MODIFY = "modify"
    HOLD = "hold"
    DENY = "deny"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One guard's answer. `reason` is a machine-readable word or condition, never text that came from outside."""

    guard: str
    version: int
    decision: Decision
    reason: str = ""
    score: float | None = None
