"""Gemini's `streamGenerateContent` with `alt=sse`, as the documentation of `GenerateContentResponse` shows it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import ContextTooLong, ModelRateLimited, ModelRejected, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Usage
from tests.wires.answers import MODEL, RESPONSE_ID, Answer, Called, Said, Thought
from tests.wires.wire import Failure, in_turns

REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "STOP",
    FinishReason.TOOL_CALLS: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.FILTERED: "SAFETY",
}


def usage_of(usage: Usage) -> dict[str, object]:
    """Thoughts are counted beside the candidates, cached tokens inside the prompt."""
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\r\n\r\n"


def chunk(*parts: object, finish: str | None = None, usage: Usage | None = None) -> dict[str, object]:
    candidate = {
        "content": {"parts": list(parts), "role": "model"},
        "index": 0,
        **({"finishReason": finish} if finish else {}),
    }
    return {
        "candidates": [candidate],
        "modelVersion": MODEL,
        "responseId": RESPONSE_ID,
        **({"usageMetadata": usage_of(usage)} if usage is not None else {}),
    }


def call_part(call: Called, signature: str = "") -> dict[str, object]:
    called = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
    return {"functionCall": called, **({"thoughtSignature": signature} if signature else {})}


def parts_of(answer: Answer) -> list[list[dict[str, object]]]:
    """The parts of each part of an answer; what a thought is signed with stands on what follows it."""
    found: list[list[dict[str, object]]] = []
    signature = ""
    for part in answer.parts:
        match part:
            case Thought(pieces=pieces):
                found.append([{"text": piece, "thought": True} for piece in pieces])
                signature = part.signature
            case Said(pieces=pieces):
                said: list[dict[str, object]] = [{"text": piece} for piece in pieces]
                if signature:
                    said.append({"text": "", "thoughtSignature": signature})
                found.append(said)
                signature = ""
            case Called():
                found.append([call_part(part, signature)])
                signature = ""
    return found


BLOCKED: Final = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": MODEL}


def failure(code: int, status: str, message: str = "no", **fields: object) -> bytes:
    return event({"error": {"code": code, "message": message, "status": status, **fields}})


class Gemini:
    """See `RecordedWire`."""

    name: WireName = "gemini"
    begun = event(chunk({"text": "It "}))
    malformed = (
        b"data: <html>\n\n",
        event({"candidates": {"0": {}}}),
        event(chunk({"text": 5})),
        event(chunk({"functionCall": {"args": {}}}, finish="STOP")),
        event(chunk({"functionCall": {"name": "weather", "args": "{}"}}, finish="STOP")),
        event(chunk({"text": "Hi"}, finish="MALFORMED_FUNCTION_CALL")),
        event(chunk({"text": "Hi"}, finish="SLEEPY")),
    )
    failures = (
        Failure(failure(503, "UNAVAILABLE"), ModelUnavailable),
        Failure(failure(500, "INTERNAL"), ModelUnavailable),
        Failure(failure(429, "RESOURCE_EXHAUSTED"), ModelRateLimited),
        Failure(failure(400, "INVALID_ARGUMENT"), ModelRejected),
        Failure(event({"error": {"message": "no", "status": "PERMISSION_DENIED"}}), ModelRejected),
        Failure(
            failure(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
            ContextTooLong,
        ),
        Failure(event(chunk(finish="MISSING_THOUGHT_SIGNATURE")), ModelRejected),
    )

    def expected(self, answer: Answer) -> Answer:
        """A refusal is a filter's word, without a sentence; nothing says what was written to a cache."""
        if answer.reason is FinishReason.REFUSAL:
            return replace(answer, refusal="", reason=FinishReason.FILTERED)
        return replace(answer, usage=answer.usage and replace(answer.usage, cache_write_tokens=0))

    def stream(self, answer: Answer) -> bytes:
        if answer.refusal:
            return event({**BLOCKED, **self._counted(answer)})
        parts = in_turns(parts_of(answer), interleaved=answer.interleaved)
        usage = answer.usage
        chunks = [chunk(part, usage=usage and replace(usage, output_tokens=7)) for part in parts[:-1]]
        chunks.append(chunk(*parts[-1:], finish=REASONS[answer.reason], usage=usage))
        return b"".join(map(event, chunks))

    def body(self, answer: Answer) -> bytes:
        if answer.refusal:
            return json.dumps({**BLOCKED, **self._counted(answer)}).encode()
        parts = in_turns(parts_of(answer), interleaved=answer.interleaved)
        return json.dumps(chunk(*parts, finish=REASONS[answer.reason], usage=answer.usage)).encode()

    def _counted(self, answer: Answer) -> dict[str, object]:
        return {"usageMetadata": usage_of(answer.usage)} if answer.usage is not None else {}

    def sent_back(self, body: object) -> Sequence[object]:
        found: list[object] = []
        turn = next(c for c in cast("Any", body)["contents"] if c["role"] == "model")
        for part in turn["parts"]:
            if "functionCall" in part:
                found.append((part["functionCall"]["id"], part["functionCall"]["args"]))
            elif part.get("thought"):
                found.append(part)
            elif part["text"]:
                found.append(part["text"])
        return found

    def images(self, body: object) -> Sequence[tuple[str, str]]:
        parts = [part for content in cast("Any", body)["contents"] for part in content["parts"]]
        shown = [part["inlineData"] for part in parts if "inlineData" in part]
        return [(data["mimeType"], data["data"]) for data in shown]
