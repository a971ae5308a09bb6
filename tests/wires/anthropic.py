"""Anthropic's messages, as the documentation of its streaming events shows them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import ContextTooLong, ModelRateLimited, ModelRejected, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Usage
from tests.wires.answers import MODEL, RESPONSE_ID, Answer, Called, Said, Thought
from tests.wires.chat import parts_of
from tests.wires.wire import Failure, in_turns

REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.REFUSAL: "refusal",
}
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def usage_of(usage: Usage) -> dict[str, object]:
    """Fresh, written and read tokens stand beside each other."""
    return {
        "input_tokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def message(**fields: object) -> dict[str, object]:
    return {
        "id": RESPONSE_ID,
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **fields,
    }


def started(usage: Usage | None = None) -> bytes:
    """The counts of a beginning: the input as it is, and the first token of the output."""
    counted = {"usage": {**usage_of(usage), "output_tokens": 1}} if usage is not None else {}
    return event("message_start", message=message(**counted)) + PING


def block_of(part: Said | Called | Thought) -> dict[str, object]:
    match part:
        case Said():
            return {"type": "text", "text": part.text}
        case Called():
            given = json.loads(part.arguments)
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": given}
        case Thought():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def block_events(part: Said | Called | Thought, index: int) -> Iterator[bytes]:
    """What is sent of one block, from its beginning to its end."""
    match part:
        case Said(pieces=pieces):
            begun: dict[str, object] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        case Called(pieces=pieces):
            begun = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
        case Thought(pieces=pieces):
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            deltas.append({"type": "signature_delta", "signature": part.signature})
    yield event("content_block_start", index=index, content_block=begun)
    for delta in deltas:
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)


def stop(answer: Answer) -> dict[str, object]:
    details = {"type": "refusal", "category": None, "explanation": answer.refusal} if answer.refusal else None
    return {"stop_reason": REASONS[answer.reason], "stop_sequence": None, "stop_details": details}


TEXT_BLOCK: Final = event("content_block_start", index=0, content_block={"type": "text", "text": ""})


def text_delta(text: object, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def failure(kind: str, message: str = "no") -> bytes:
    return event("error", error={"type": kind, "message": message})


class Anthropic:
    """See `RecordedWire`."""

    name: WireName = "anthropic"
    begun = started(Usage(input_tokens=100)) + TEXT_BLOCK + text_delta("It ")
    malformed = (
        b"data: <html>\n\n",
        b'data: {"no":"type"}\n\n',
        started() + text_delta("It "),
        started() + TEXT_BLOCK + TEXT_BLOCK,
        started() + TEXT_BLOCK + text_delta(5),
        started() + event("content_block_start", index=0, content_block={"type": 5}),
        event("message_delta", delta={"stop_reason": "sleepy"}) + event("message_stop"),
        event("message_delta", delta={"stop_reason": "tool_use"}) + event("message_stop"),
        started() + event("message_stop"),
        started()
        + event("content_block_start", index=0, content_block={"type": "tool_use", "id": "a", "input": {}})
        + event("message_delta", delta={"stop_reason": "tool_use"})
        + event("message_stop"),
    )
    failures = (
        Failure(failure("overloaded_error"), ModelUnavailable),
        Failure(failure("api_error"), ModelUnavailable),
        Failure(failure("timeout_error"), ModelUnavailable),
        Failure(failure("rate_limit_error"), ModelRateLimited),
        Failure(failure("authentication_error"), ModelRejected),
        Failure(failure("billing_error"), ModelRejected),
        Failure(
            failure("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            ContextTooLong,
        ),
        Failure(
            failure(
                "invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 8 > 16"
            ),
            ContextTooLong,
        ),
    )

    def expected(self, answer: Answer) -> Answer:
        """There is one word for an answer that was withheld; it has a sentence of ours where it comes without one."""
        if answer.reason is FinishReason.FILTERED:
            return replace(answer, reason=FinishReason.REFUSAL, refusal="The model declined to answer.")
        return answer

    def stream(self, answer: Answer) -> bytes:
        parts = [list(block_events(part, index)) for index, part in enumerate(answer.parts)]
        delta = stop(self._sendable(answer))
        counted = {"usage": usage_of(answer.usage)} if answer.usage is not None else {}
        events = in_turns(parts, interleaved=answer.interleaved)
        end = event("message_delta", delta=delta, **counted) + event("message_stop")
        return b"".join((started(answer.usage), *events, end))

    def body(self, answer: Answer) -> bytes:
        content = [block_of(part) for part in answer.parts]
        counted = {"usage": usage_of(answer.usage)} if answer.usage is not None else {}
        return json.dumps(message(content=content, **stop(self._sendable(answer)), **counted)).encode()

    def _sendable(self, answer: Answer) -> Answer:
        filtered = answer.reason is FinishReason.FILTERED
        return replace(answer, reason=FinishReason.REFUSAL) if filtered else answer

    def sent_back(self, body: object) -> Sequence[object]:
        found: list[object] = []
        turn = next(m for m in cast("Any", body)["messages"] if m["role"] == "assistant")
        for block in turn["content"]:
            match block["type"]:
                case "text":
                    found.append(block["text"])
                case "tool_use":
                    found.append((block["id"], block["input"]))
                case _:
                    found.append(block)
        return found

    def images(self, body: object) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for turn in cast("Any", body)["messages"]:
            blocks = parts_of(turn["content"])
            blocks += [inner for block in blocks for inner in parts_of(block.get("content"))]
            sources = [block["source"] for block in blocks if block["type"] == "image"]
            found += [(source["media_type"], source["data"]) for source in sources]
        return found
