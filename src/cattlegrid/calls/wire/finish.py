"""Decides what an answer's end comes to, given what the answer holds; the same for every format."""

from collections.abc import Mapping

from cattlegrid.calls.wire.parsing import malformed, size_bytes
from cattlegrid.core.messages import FinishReason, Message

ANSWER_OVERHEAD = 16
"""Tokens that end an answer or open a tool call and leave no bytes behind, generously."""


def settled(reason: FinishReason, message: Message) -> FinishReason:
    """The reason, or what an answer that plainly stopped has stopped for. Raises ModelProtocolError."""
    if reason is FinishReason.STOP and message.tool_calls:
        return FinishReason.TOOL_CALLS
    if reason is FinishReason.STOP and message.refusal:
        return FinishReason.REFUSAL
    if reason is FinishReason.TOOL_CALLS and not message.tool_calls:
        raise malformed("the answer promises tool calls and holds none")
    return reason


def known(reasons: Mapping[str, FinishReason], word: str) -> FinishReason:
    """The reason that a provider's word stands for. Raises ModelProtocolError for a word that nobody knows."""
    reason = reasons.get(word)
    if reason is None:
        raise malformed(f"unknown finish reason: {word[:60]}")
    return reason


def output_bytes(message: Message) -> int:
    """An upper bound of the tokens of an answer, by its bytes."""
    calls = sum(size_bytes(call.name) + size_bytes(call.arguments) for call in message.tool_calls)
    shown = size_bytes(message.text) + size_bytes(message.refusal) + sum(map(size_bytes, message.reasoning))
    return shown + calls + ANSWER_OVERHEAD
