"""Turns the body or the event stream of an Anthropic message into a `ModelResponse`.

Source: https://platform.claude.com/docs/en/api/messages and .../build-with-claude/streaming. Total: whatever the bytes
are, the result is a response or a `ModelError`. Blocks that are neither text nor a call of ours are kept with their
place. Events of unknown types are passed over, as the format asks for.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cattlegrid.calls.wire.anthropic_request import WIRE
from cattlegrid.calls.wire.errors import error_from_object
from cattlegrid.calls.wire.finish import known, output_bytes, settled
from cattlegrid.calls.wire.parsing import encoded_text, fields, items, malformed, parsed, text
from cattlegrid.calls.wire.placed import kept
from cattlegrid.calls.wire.tool_calls import free_id
from cattlegrid.calls.wire.usage import UsageBound, anthropic_usage
from cattlegrid.core.messages import FinishReason, Message, ModelResponse, Role, ToolCall

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSAL,
}
_DECLINED: Final = "The model declined to answer."
_GROWING: Final[Mapping[str, str]] = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}


class _Event(msgspec.Struct):
    """The fields that are read of an event, or of a whole message."""

    type: str | None = None
    index: int | None = None
    delta: dict[str, Any] | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None
    id: str = ""
    model: str = ""
    content: list[Any] | None = None
    stop_reason: str | None = None
    stop_details: Any = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode


class _Block:
    """One block in progress, and what came before it."""

    __slots__ = ("calls_before", "fields", "pieces", "text_before", "type")

    def __init__(self, fields: dict[str, Any], *, text_before: int, calls_before: int) -> None:
        self.type = text(fields.get("type"), "the type of a block")
        self.fields = fields
        self.text_before = text_before
        self.calls_before = calls_before
        self.pieces: dict[str, list[str]] = {}

    def joined(self, name: str) -> str:
        return "".join(self.pieces.get(name, ()))

    def whole(self) -> dict[str, object]:
        """The block as it would stand in an answer that did not stream."""
        grown: dict[str, object] = {
            name: text(self.fields.get(name), name) + self.joined(name)
            for name in self.pieces
            if name != "partial_json"
        }
        if "partial_json" in self.pieces:
            grown["input"] = parsed(_decode_any, self.joined("partial_json").encode() or b"{}")
        return {**self.fields, **grown}

    def call(self, position: int, taken: set[str]) -> ToolCall:
        name, call_id = text(self.fields.get("name"), "a name"), text(self.fields.get("id"), "an id")
        if not name:
            raise malformed("a tool call has no name")
        call_id = call_id if call_id and call_id not in taken else free_id(position, taken)
        taken.add(call_id)
        arguments = self.joined("partial_json") or encoded_text(fields(self.fields.get("input")))
        return ToolCall(id=call_id, name=name, arguments=arguments)


_decode_any: Final = msgspec.json.Decoder().decode


class AnthropicAnswer:
    """One answer in the making; see `wire.stream.Answer`."""

    def __init__(self, bound: UsageBound) -> None:
        self._bound = bound
        self._blocks: dict[int, _Block] = {}
        self._texts: list[str] = []
        self._text_length = 0
        self._calls = 0
        self._reason = ""
        self._refusal = ""
        self._usage: dict[str, object] = {}
        self._head: tuple[str, str] = ("", "")
        self.over = False

    @property
    def complete(self) -> bool:
        return bool(self._reason)

    def add(self, data: bytes) -> str:
        """See `Answer.add`."""
        event = parsed(_decode_event, data)
        match event.type:
            case "content_block_delta":
                return self._grow(event.index, event.delta or {})
            case "content_block_start":
                return self._begin(event.index, event.content_block or {})
            case "message_start":
                self._begin_message(fields(event.message))
            case "message_delta":
                self._end(event.delta or {}, event.usage)
            case "message_stop":
                self.over = True
            case "message":
                return self._add_whole(event)
            case "error":
                raise error_from_object(event.error)
            case None:
                if event.error is not None:
                    raise error_from_object(event.error)
                raise malformed("an event without a type")
            case _:
                pass
        return ""

    def finish(self) -> ModelResponse:
        """See `Answer.finish`."""
        if not self._reason:
            raise malformed("the answer does not say why it stopped")
        calls: list[ToolCall] = []
        opaque: list[str] = []
        taken: set[str] = set()
        for _, block in sorted(self._blocks.items()):
            if block.type == "tool_use":
                calls.append(block.call(len(calls), taken))
            elif block.type != "text":
                opaque.append(kept(WIRE, block.whole(), text=block.text_before, calls=block.calls_before))
        message = Message(
            role=Role.ASSISTANT,
            text="".join(self._texts),
            tool_calls=tuple(calls),
            refusal=self._refusal,
            reasoning=tuple(opaque),
        )
        return ModelResponse(
            message=message,
            finish_reason=settled(known(_REASONS, self._reason), message),
            usage=anthropic_usage(self._usage) or self._bound.usage(output_bytes(message)),
            model=self._head[1],
            response_id=self._head[0],
        )

    def _begin_message(self, message: dict[str, object]) -> None:
        self._head = text(message.get("id"), "the id"), text(message.get("model"), "the model")
        # The output that is counted here is that of a first token; only the end knows how much it was.
        reported = fields(message.get("usage"))
        self._usage = {name: value for name, value in reported.items() if name != "output_tokens"}

    def _begin(self, index: int | None, block: dict[str, Any]) -> str:
        if index is None or index in self._blocks:
            raise malformed("a block without a place of its own")
        begun = _Block(block, text_before=self._text_length, calls_before=self._calls)
        self._blocks[index] = begun
        if begun.type == "tool_use":
            self._calls += 1
        return self._say(text(block.get("text"), "the text of a block")) if begun.type == "text" else ""

    def _grow(self, index: int | None, delta: dict[str, Any]) -> str:
        block = self._blocks.get(index) if index is not None else None
        if block is None:
            raise malformed("a piece of a block that has not begun")
        field = _GROWING.get(delta.get("type", ""))
        if field is None:
            return ""
        piece = delta.get(field)
        if not isinstance(piece, str):
            raise malformed(f"a {field} that is no text")
        if field == "text":
            return self._say(piece)
        block.pieces.setdefault(field, []).append(piece)
        return ""

    def _say(self, piece: str) -> str:
        if piece:
            self._texts.append(piece)
            self._text_length += len(piece)
        return piece

    def _end(self, delta: dict[str, Any], usage: object) -> None:
        self._usage.update({name: value for name, value in fields(usage).items() if value is not None})
        reason = text(delta.get("stop_reason"), "the stop reason")
        if reason:
            self._reason = reason
            self._refuse(delta.get("stop_details"))

    def _refuse(self, details: object) -> None:
        if self._reason == "refusal":
            explained = fields(details).get("explanation")
            self._refusal = explained if isinstance(explained, str) and explained else _DECLINED

    def _add_whole(self, event: _Event) -> str:
        said: list[str] = []
        for index, block in enumerate(items(event.content)):
            said.append(self._begin(index, fields(block)))
        self._head = event.id, event.model
        self._usage = fields(event.usage)
        self._reason = event.stop_reason or ""
        self._refuse(event.stop_details)
        return "".join(said)
