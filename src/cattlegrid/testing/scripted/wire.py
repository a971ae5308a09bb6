"""Turns a reply into the bytes of the wire format: one JSON document, or the chunks of a stream.

Parallel calls are streamed as the real service may do it: all calls are opened first, then their arguments come in
turns. Source: the OpenAI API reference, "Create chat completion" and "Streaming".
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.usage import Usage

DONE = b"data: [DONE]\n\n"
CREATED = 1_700_000_000
"""No clock: the same request gets the same bytes."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds a reply; `id` is hexadecimal and the same for the same request."""

    id: str
    model: str
    finish_reason: str
    usage: Usage
    piece_chars: int = 16

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that a document and every chunk of a stream begin with."""
        return {
            "id": f"chatcmpl-{self.id}",
            "object": kind,
            "created": CREATED,
            "model": self.model,
            "system_fingerprint": "fp_scripted",
        }


def document(reply: Reply, envelope: Envelope) -> bytes:
    """The whole answer as one JSON document."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in _calls(reply, envelope)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": envelope.finish_reason}
    usage = envelope.usage.on_the_wire()
    return msgspec.json.encode(envelope.head("chat.completion") | {"choices": [choice], "usage": usage})


def chunks(reply: Reply, envelope: Envelope, *, include_usage: bool) -> list[bytes]:
    """The answer as server-sent events, without the closing `[DONE]`."""
    head = envelope.head("chat.completion.chunk")
    if include_usage:
        head["usage"] = None
    parts: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
        for delta in _deltas(reply, envelope)
    ]
    last: dict[str, Any] = {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": envelope.finish_reason,
    }
    parts.append(head | {"choices": [last]})
    if include_usage:
        parts.append(head | {"choices": [], "usage": envelope.usage.on_the_wire()})
    return [b"data: " + msgspec.json.encode(part) + b"\n\n" for part in parts]


def error(message: str, *, kind: str, code: str | None = None) -> bytes:
    """An error document."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _calls(reply: Reply, envelope: Envelope) -> list[tuple[str, str, str]]:
    return [
        (f"call_{envelope.id}{place}", call.name, msgspec.json.encode(call.arguments).decode())
        for place, call in enumerate(reply.calls)
    ]


def _deltas(reply: Reply, envelope: Envelope) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if reply.text else None, "refusal": None}
    for piece in _pieces(reply.text, envelope.piece_chars):
        yield {"content": piece}
    calls = _calls(reply, envelope)
    for place, (call_id, name, _) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        yield {"tool_calls": [{"index": place, "id": call_id, "type": "function", "function": function}]}
    columns = [_pieces(arguments, envelope.piece_chars) for _, _, arguments in calls]
    for row in zip_longest(*columns):
        for place, piece in enumerate(row):
            if piece is not None:
                yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
