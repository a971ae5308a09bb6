"""Turns the body or the event stream of an OpenAI response into a `ModelResponse`.

Source: https://developers.openai.com/api/reference/resources/responses. Total: whatever the bytes are, the result is a
response or a `ModelError`. Pieces of texts and arguments are taken as they come; an item that ends, and the response that
ends, fill in what a server has not sent in pieces. Items that are neither a message nor a call of ours are kept with
their place. Events of unknown types are passed over.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cattlegrid.calls.wire.errors import error_from_object, model_error
from cattlegrid.calls.wire.finish import output_bytes, settled
from cattlegrid.calls.wire.openai_responses_request import PHASE, WIRE
from cattlegrid.calls.wire.parsing import fields, items, malformed, parsed, text
from cattlegrid.calls.wire.placed import kept
from cattlegrid.calls.wire.tool_calls import free_id
from cattlegrid.calls.wire.usage import UsageBound, responses_usage
from cattlegrid.core.errors import ModelUnavailable
from cattlegrid.core.messages import FinishReason, Message, ModelResponse, Role, ToolCall

_INCOMPLETE: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_messages": FinishReason.LENGTH,
    "content_filter": FinishReason.FILTERED,
}


class _Event(msgspec.Struct):
    """The fields that are read of an event, or of a whole response."""

    type: str | None = None
    output_index: int = 0
    content_index: int = 0
    delta: Any = None
    item: dict[str, Any] | None = None
    response: msgspec.Raw = msgspec.Raw()
    object: str = ""
    code: Any = None
    message: Any = None
    error: Any = None


class _Response(msgspec.Struct):
    """The fields that are read of a response."""

    id: str = ""
    model: str = ""
    status: str | None = None
    output: list[Any] | None = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_response: Final = msgspec.json.Decoder(_Response).decode


class _Item:
    """One item of the output in progress, and what came before it."""

    __slots__ = ("calls_before", "ended", "fields", "parts", "pieces", "text_before", "type")

    def __init__(self, found: dict[str, object], *, text_before: int, calls_before: int) -> None:
        self.type = text(found.get("type"), "the type of an item")
        self.fields = found
        self.text_before = text_before
        self.calls_before = calls_before
        self.pieces: list[str] = []
        """Of the arguments of a call."""
        self.parts: dict[tuple[str, int], int] = {}
        """How many characters have come of a part of a message, by what it says and its index."""
        self.ended = False

    def call(self, position: int, taken: set[str]) -> ToolCall:
        name = text(self.fields.get("name"), "a name")
        if not name:
            raise malformed("a tool call has no name")
        call_id = text(self.fields.get("call_id"), "an id")
        call_id = call_id if call_id and call_id not in taken else free_id(position, taken)
        taken.add(call_id)
        whole = text(self.fields.get("arguments"), "the arguments of a call")
        return ToolCall(id=call_id, name=name, arguments=whole if self.ended else "".join(self.pieces))


class ResponsesAnswer:
    """One answer in the making; see `wire.stream.Answer`."""

    def __init__(self, bound: UsageBound) -> None:
        self._bound = bound
        self._items: dict[int, _Item] = {}
        self._texts: list[str] = []
        self._text_length = 0
        self._refusals: list[str] = []
        self._calls = 0
        self._end: _Response | None = None

    @property
    def complete(self) -> bool:
        return self._end is not None

    @property
    def over(self) -> bool:
        return self._end is not None

    def add(self, data: bytes) -> str:
        """See `Answer.add`."""
        event = parsed(_decode_event, data)
        match event.type:
            case "response.output_text.delta":
                return self._say(self._item(event), event)
            case "response.function_call_arguments.delta":
                self._item(event).pieces.append(text(event.delta, "a piece of arguments"))
            case "response.refusal.delta":
                self._refuse(self._item(event), event)
            case "response.output_item.added":
                self._begin(event.output_index, event.item or {})
            case "response.output_item.done":
                return self._end_item(event.output_index, event.item or {})
            case "error":
                raise error_from_object(event.error or {"code": event.code, "message": event.message})
            case None:
                return self._add_whole(event, data)
            case "response.completed" | "response.incomplete" | "response.failed" as ended:
                response = parsed(_decode_response, bytes(event.response))
                response.status = response.status or ended.removeprefix("response.")
                return self._end_response(response)
            case _:
                pass
        return ""

    def finish(self) -> ModelResponse:
        """See `Answer.finish`."""
        if self._end is None:
            raise malformed("the answer does not say why it stopped")
        calls: list[ToolCall] = []
        opaque: list[str] = []
        taken: set[str] = set()
        for _, item in sorted(self._items.items()):
            place = {"text": item.text_before, "calls": item.calls_before}
            if item.type == "function_call":
                calls.append(item.call(len(calls), taken))
            elif item.type != "message":
                if item.ended:
                    opaque.append(kept(WIRE, item.fields, **place))
            elif phase := item.fields.get("phase"):
                opaque.append(kept(WIRE, {"type": PHASE, "phase": phase}, **place))
        message = Message(
            role=Role.ASSISTANT,
            text="".join(self._texts),
            tool_calls=tuple(calls),
            refusal="".join(self._refusals),
            reasoning=tuple(opaque),
        )
        return ModelResponse(
            message=message,
            finish_reason=settled(_reason(self._end), message),
            usage=responses_usage(self._end.usage) or self._bound.usage(output_bytes(message)),
            model=self._end.model,
            response_id=self._end.id,
        )

    def _item(self, event: _Event) -> _Item:
        item = self._items.get(event.output_index)
        if item is None:
            raise malformed("a piece of an item that has not begun")
        return item

    def _begin(self, index: int, found: dict[str, object]) -> _Item:
        if index in self._items:
            raise malformed("an item without a place of its own")
        item = _Item(found, text_before=self._text_length, calls_before=self._calls)
        self._items[index] = item
        if item.type == "function_call":
            self._calls += 1
        return item

    def _say(self, item: _Item, event: _Event) -> str:
        return self._add_text(item, event.content_index, text(event.delta, "a piece of text"))

    def _add_text(self, item: _Item, index: int, piece: str) -> str:
        place = ("output_text", index)
        item.parts[place] = item.parts.get(place, 0) + len(piece)
        self._texts.append(piece)
        self._text_length += len(piece)
        return piece

    def _refuse(self, item: _Item, event: _Event) -> None:
        piece, place = text(event.delta, "a piece of a refusal"), ("refusal", event.content_index)
        item.parts[place] = item.parts.get(place, 0) + len(piece)
        self._refusals.append(piece)

    def _end_item(self, index: int, found: dict[str, object]) -> str:
        """An item as a whole: what was not sent in pieces is added."""
        item = self._items.get(index) or self._begin(index, found)
        if item.ended:
            return ""
        item.ended, item.fields = True, {**item.fields, **found}
        if item.type == "function_call" and not item.fields.get("arguments"):
            item.fields["arguments"] = "".join(item.pieces)
        if item.type != "message":
            return ""
        said: list[str] = []
        for place, part in enumerate(items(found.get("content"))):
            content = fields(part)
            kind = content.get("type")
            if kind == "output_text":
                rest = text(content.get("text"), "a text")[item.parts.get(("output_text", place), 0) :]
                said.append(self._add_text(item, place, rest))
            elif kind == "refusal":
                rest = text(content.get("refusal"), "a refusal")[item.parts.get(("refusal", place), 0) :]
                self._refusals.append(rest)
        return "".join(said)

    def _end_response(self, response: _Response) -> str:
        if response.status == "failed" or response.error is not None:
            raise error_from_object(response.error or {"message": "the response failed"})
        said = [self._end_item(index, fields(found)) for index, found in enumerate(items(response.output))]
        self._end = response
        return "".join(said)

    def _add_whole(self, event: _Event, data: bytes) -> str:
        if event.object != "response":
            if event.error is not None:
                raise error_from_object(event.error)
            raise malformed("an event without a type")
        return self._end_response(parsed(_decode_response, data))


def _reason(response: _Response) -> FinishReason:
    match response.status:
        case "completed":
            return FinishReason.STOP
        case "incomplete":
            reason = fields(response.incomplete_details).get("reason")
            return _INCOMPLETE.get(str(reason), FinishReason.LENGTH)
        case "cancelled":
            raise model_error(ModelUnavailable, "the response was cancelled")
        case _:
            raise malformed(f"a response that ends as {response.status}")
