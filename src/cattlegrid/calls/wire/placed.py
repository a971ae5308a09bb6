"""Keeps a provider's own items together with their place in an answer, so that they go back unchanged and in order.

Thinking blocks, reasoning items and thought signatures stand between texts and calls, and providers refuse a
conversation in which they are missing, altered or moved. A `Message` has one text and its calls; a place is how many
characters of the text and how many calls came before. Items of another format stay at home.
"""

from collections.abc import Iterator

import msgspec

from cattlegrid.calls.wire.parsing import encoded_text
from cattlegrid.core.messages import Message, ToolCall


class Placed(msgspec.Struct, frozen=True):
    """One item of the format `wire`, after the first `text` characters and the first `calls` calls."""

    wire: str
    text: int
    calls: int
    item: msgspec.Raw


_decode = msgspec.json.Decoder(Placed).decode


def kept(wire: str, item: object, *, text: int, calls: int) -> str:
    """An item as `Message.reasoning` holds it."""
    return encoded_text({"wire": wire, "text": text, "calls": calls, "item": item})


def laid_out(message: Message, wire: str) -> Iterator[str | ToolCall | msgspec.Raw]:
    """The text, the calls and the items of a message in the order in which the model wrote them.

    A text that is shorter than it was, since a guard has cut it, keeps its items at its end.
    """
    text, calls = message.text, message.tool_calls
    at, called = 0, 0
    for placed in _of(message, wire):
        if placed.text > at and at < len(text):
            yield text[at : placed.text]
            at = placed.text
        if placed.calls > called:
            yield from calls[called : placed.calls]
            called = placed.calls
        yield placed.item
    if at < len(text):
        yield text[at:]
    yield from calls[called:]


def _of(message: Message, wire: str) -> Iterator[Placed]:
    for held in message.reasoning:
        try:
            placed = _decode(held)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if placed.wire == wire:
            yield placed
