"""OpenAI responses, as the documentation of its streaming events shows them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import ContextTooLong, ModelRateLimited, ModelRejected, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Usage
from tests.wires.answers import MODEL, RESPONSE_ID, Answer, Called, Said, Thought
from tests.wires.chat import parts_of, split_data_url
from tests.wires.wire import Failure, in_turns

INCOMPLETE: Final[Mapping[FinishReason, str]] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.FILTERED: "content_filter",
}


def event(kind: str, **fields: object) -> bytes:
    value = {"type": kind, "sequence_number": 1, **fields}
    return f"event: {kind}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def response(status: str, output: Sequence[object] = (), **fields: object) -> dict[str, object]:
    return {
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": 1767225600,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": MODEL,
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": None,
        **fields,
    }


def message(id: str, status: str, *content: object) -> dict[str, object]:
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": list(content)}


def text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def usage_of(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def item_of(part: Said | Called | Thought, index: int) -> dict[str, object]:
    match part:
        case Said():
            return message(f"msg_{index}", "completed", text_part(part.text))
        case Called():
            return {
                "id": f"fc_{index}",
                "type": "function_call",
                "status": "completed",
                "arguments": part.arguments,
                "call_id": part.id,
                "name": part.name,
            }
        case Thought():
            summary = [{"type": "summary_text", "text": part.text}]
            return {
                "id": f"rs_{index}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": part.signature,
            }


def item_events(part: Said | Called | Thought, index: int) -> Iterator[bytes]:
    """What is sent of one item, from its beginning to its end."""
    item = item_of(part, index)
    place = {"output_index": index, "item_id": item["id"]}
    match part:
        case Said(pieces=pieces):
            yield event(
                "response.output_item.added",
                output_index=index,
                item=message(str(item["id"]), "in_progress"),
            )
            yield event("response.content_part.added", **place, content_index=0, part=text_part(""))
            for piece in pieces:
                yield event("response.output_text.delta", **place, content_index=0, delta=piece, logprobs=[])
            yield event("response.output_text.done", **place, content_index=0, text=part.text, logprobs=[])
            yield event("response.content_part.done", **place, content_index=0, part=text_part(part.text))
        case Called(pieces=pieces):
            begun: dict[str, object] = {**item, "status": "in_progress", "arguments": ""}
            yield event("response.output_item.added", output_index=index, item=begun)
            for piece in pieces:
                yield event("response.function_call_arguments.delta", **place, delta=piece)
            yield event("response.function_call_arguments.done", **place, arguments=part.arguments)
        case Thought(pieces=pieces):
            begun = {**item, "summary": [], "encrypted_content": "not yet"}
            yield event("response.output_item.added", output_index=index, item=begun)
            for piece in pieces:
                yield event("response.reasoning_summary_text.delta", **place, summary_index=0, delta=piece)
    yield event("response.output_item.done", output_index=index, item=item)


def refusal_events(refusal: str) -> list[bytes]:
    place = {"output_index": 0, "item_id": "msg_0", "content_index": 0}
    part = {"type": "refusal", "refusal": refusal}
    half = len(refusal) // 2
    return [
        event("response.output_item.added", output_index=0, item=message("msg_0", "in_progress")),
        event("response.content_part.added", **place, part={"type": "refusal", "refusal": ""}),
        event("response.refusal.delta", **place, delta=refusal[:half]),
        event("response.refusal.delta", **place, delta=refusal[half:]),
        event("response.refusal.done", **place, refusal=refusal),
        event("response.content_part.done", **place, part=part),
        event("response.output_item.done", output_index=0, item=message("msg_0", "completed", part)),
    ]


def ended(answer: Answer) -> dict[str, object]:
    items = [item_of(part, index) for index, part in enumerate(answer.parts)]
    if answer.refusal:
        items.append(message("msg_0", "completed", {"type": "refusal", "refusal": answer.refusal}))
    why = INCOMPLETE.get(answer.reason)
    return response(
        "incomplete" if why else "completed",
        items,
        incomplete_details={"reason": why} if why else None,
        usage=usage_of(answer.usage) if answer.usage is not None else None,
    )


BEGUN: Final = event("response.created", response=response("in_progress")) + event(
    "response.in_progress", response=response("in_progress")
)


class Responses:
    """See `RecordedWire`."""

    name: WireName = "openai-responses"
    begun = (
        BEGUN
        + event("response.output_item.added", output_index=0, item=message("msg_0", "in_progress"))
        + event("response.output_text.delta", output_index=0, item_id="msg_0", content_index=0, delta="It ")
    )
    malformed = (
        b"data: <html>\n\n",
        b'data: {"no":"type"}\n\n',
        event("response.output_text.delta", output_index=0, content_index=0, delta="It "),
        event("response.output_item.added", output_index=0, item={"type": 5}),
        begun + event("response.output_text.delta", output_index=0, content_index=0, delta=5),
        begun + event("response.output_item.added", output_index=0, item=message("msg_1", "in_progress")),
        event("response.completed", response=response("completed", [{"type": "function_call"}])),
        event("response.completed", response=5),
        event("response.completed", response=response("half way")),
    )
    failures = (
        Failure(event("error", code="server_error", message="died", param=None), ModelUnavailable),
        Failure(event("error", code="rate_limit_exceeded", message="slow", param=None), ModelRateLimited),
        Failure(event("error", error={"code": "invalid_prompt", "message": "no"}), ModelRejected),
        Failure(
            event(
                "response.failed",
                response=response("failed", error={"code": "server_error", "message": "died"}),
            ),
            ModelUnavailable,
        ),
        Failure(
            event(
                "response.failed",
                response=response("failed", error={"code": "image_too_large", "message": "no"}),
            ),
            ModelRejected,
        ),
        Failure(
            event(
                "response.failed",
                response=response("failed", error={"code": "context_length_exceeded", "message": "no"}),
            ),
            ContextTooLong,
        ),
        Failure(event("response.incomplete", response=response("cancelled", usage=None)), ModelUnavailable),
    )

    def expected(self, answer: Answer) -> Answer:
        return answer

    def stream(self, answer: Answer) -> bytes:
        parts = [list(item_events(part, index)) for index, part in enumerate(answer.parts)]
        if answer.refusal:
            parts.append(refusal_events(answer.refusal))
        end = ended(answer)
        events = in_turns(parts, interleaved=answer.interleaved)
        return b"".join((BEGUN, *events, event(f"response.{end['status']}", response=end)))

    def body(self, answer: Answer) -> bytes:
        return json.dumps(ended(answer)).encode()

    def sent_back(self, body: object) -> Sequence[object]:
        found: list[object] = []
        for item in cast("Any", body)["input"]:
            if item.get("type") == "function_call":
                found.append((item["call_id"], json.loads(item["arguments"])))
            elif item.get("type") == "reasoning":
                found.append(item)
            elif item.get("role") == "assistant":
                found.append(item["content"])
        return found

    def images(self, body: object) -> Sequence[tuple[str, str]]:
        items = cast("Any", body)["input"]
        parts = [p for i in items for p in parts_of(i.get("content")) + parts_of(i.get("output"))]
        return [split_data_url(part["image_url"]) for part in parts if part["type"] == "input_image"]
