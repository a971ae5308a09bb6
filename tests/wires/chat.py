"""OpenAI chat completions, as the documentation of `chat.completion.chunk` shows them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import ContextTooLong, ModelRateLimited, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Usage
from tests.wires.answers import MODEL, RESPONSE_ID, Answer, Called, Said, Thought
from tests.wires.wire import Failure, in_turns

REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "stop",
    FinishReason.REFUSAL: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.FILTERED: "content_filter",
}
HEAD: Final = {"id": RESPONSE_ID, "created": 1767225600, "model": MODEL, "service_tier": "default"}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: Mapping[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**HEAD, "object": "chat.completion.chunk", "choices": [choice], "usage": None})


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class Chat:
    """See `RecordedWire`."""

    name: WireName = "openai"
    begun = chunk({"role": "assistant", "content": ""}) + chunk({"content": "It "})
    malformed = (
        b"data: <html>\n\n",
        event({"choices": 5}),
        chunk({"content": 5}),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]})
        + chunk({}, "tool_calls"),
        chunk({"content": "Hi"}, "sleepy"),
    )
    failures = (
        Failure(event({"error": {"message": "died", "type": "server_error", "code": 502}}), ModelUnavailable),
        Failure(
            event({"error": {"message": "slow", "code": "rate_limit_exceeded"}}),
            ModelRateLimited,
        ),
        Failure(event({"error": {"message": "no", "code": "context_length_exceeded"}}), ContextTooLong),
    )

    def expected(self, answer: Answer) -> Answer:
        return answer

    def stream(self, answer: Answer) -> bytes:
        parts: list[list[bytes]] = []
        calls = 0
        for part in answer.parts:
            match part:
                case Said(pieces=pieces):
                    parts.append([chunk({"content": piece}) for piece in pieces])
                case Thought(pieces=pieces):
                    parts.append([chunk({"reasoning_content": piece}) for piece in pieces])
                case Called():
                    parts.append(call_chunks(part, calls))
                    calls += 1
        if answer.refusal:
            half = len(answer.refusal) // 2
            parts.append(
                [chunk({"refusal": part}) for part in (answer.refusal[:half], answer.refusal[half:])]
            )
        said = [chunk({"role": "assistant", "content": "", "refusal": None})]
        said += in_turns(parts, interleaved=answer.interleaved)
        said.append(chunk({}, REASONS[answer.reason]))
        if answer.usage is not None:
            usage: dict[str, object] = {"choices": [], "usage": usage_of(answer.usage)}
            said.append(event({**HEAD, "object": "chat.completion.chunk", **usage}))
        return b"".join((*said, b"data: [DONE]\n\n"))

    def body(self, answer: Answer) -> bytes:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
        thoughts = "".join(part.text for part in answer.parts if isinstance(part, Thought))
        message = {
            "role": "assistant",
            "content": answer.text or None,
            "refusal": answer.refusal or None,
            **({"reasoning_content": thoughts} if thoughts else {}),
            **({"tool_calls": calls} if calls else {}),
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": REASONS[answer.reason]}
        counted = {"usage": usage_of(answer.usage)} if answer.usage is not None else {}
        return json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], **counted}).encode()

    def sent_back(self, body: object) -> Sequence[object]:
        message = next(m for m in cast("Any", body)["messages"] if m["role"] == "assistant")
        calls = [(c["id"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls", ())]
        return [*([message["content"]] if message["content"] else ()), *calls]

    def images(self, body: object) -> Sequence[tuple[str, str]]:
        parts = [part for m in cast("Any", body)["messages"] for part in parts_of(m["content"])]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [split_data_url(url) for url in urls]


def call_chunks(call: Called, index: int) -> list[bytes]:
    function = {"name": call.name, "arguments": ""}
    begun = {"index": index, "id": call.id, "type": "function", "function": function}
    grown = [{"index": index, "function": {"arguments": piece}} for piece in call.pieces]
    return [chunk({"tool_calls": [piece]}) for piece in (begun, *grown)]


def parts_of(content: object) -> list[Any]:
    return cast("list[Any]", content) if isinstance(content, list) else []


def split_data_url(url: str) -> tuple[str, str]:
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return kind, data
