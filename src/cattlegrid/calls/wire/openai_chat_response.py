"""Turns the body or the event stream of an OpenAI chat completion into a `ModelResponse`.

Source: https://platform.openai.com/docs/api-reference/chat/object and `.../chat/streaming`. Total: whatever the bytes
are, the result is a response or a `ModelError`. Only the first choice is read, since one is asked for.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from cattlegrid.calls.wire.errors import error_from_object, model_error
from cattlegrid.calls.wire.finish import known, output_bytes, settled
from cattlegrid.calls.wire.opaque import KNOWN_FIELDS, OpaqueFields
from cattlegrid.calls.wire.parsing import parsed
from cattlegrid.calls.wire.stream import StreamDecoder as EventStreamDecoder
from cattlegrid.calls.wire.stream import whole
from cattlegrid.calls.wire.tool_calls import ToolCallAssembler
from cattlegrid.calls.wire.usage import UsageBound, reported_usage
from cattlegrid.core.errors import ModelProtocolError, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Message, ModelResponse, Role, Usage

_NO_BOUND: Final = UsageBound()
_BROKEN_OFF: Final = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.FILTERED,
    "safety": FinishReason.FILTERED,
    "sensitive": FinishReason.FILTERED,
    "refusal": FinishReason.REFUSAL,
}


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """The fields that are read of a chunk or of a whole completion."""

    id: str | int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class _Answer:
    """One answer in the making, from any number of pieces."""

    def __init__(self, bound: UsageBound) -> None:
        self._bound = bound
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls = ToolCallAssembler()
        self._opaque = OpaqueFields()
        self._reason = ""
        self._usage: Usage | None = None
        self._id = ""
        self._model = ""

    @property
    def complete(self) -> bool:
        return bool(self._reason)

    @property
    def over(self) -> bool:
        return False

    def add(self, data: bytes) -> str:
        """Take in one chunk or body; the answer text that it adds. Raises ModelError."""
        chunk = parsed(_decode_chunk, data)
        if chunk.error is not None:
            raise error_from_object(chunk.error)
        if not self._id and chunk.id:
            self._id = str(chunk.id)
        if not self._model and chunk.model:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage = reported_usage(chunk.usage) or self._usage
        before = len(self._text)
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if choice.finish_reason:
                self._reason = choice.finish_reason
            fields = choice.delta or choice.message
            if fields:
                self._add_fields(fields)
        return "".join(self._text[before:])

    def finish(self) -> ModelResponse:
        """The whole answer. Raises ModelError."""
        calls = self._calls.finish()
        text, refusal = "".join(self._text), "".join(self._refusal)
        message = Message(
            role=Role.ASSISTANT, text=text, tool_calls=calls, refusal=refusal, reasoning=self._opaque.items()
        )
        return ModelResponse(
            message=message,
            finish_reason=_finish_reason(self._reason, message),
            usage=self._usage or self._bound.usage(output_bytes(message)),
            model=self._model,
            response_id=self._id,
        )

    def _add_fields(self, fields: dict[str, Any]) -> None:
        for field, value in fields.items():
            if value is None:
                continue
            if field == "content":
                self._text.append(value if isinstance(value, str) else _text_of_parts(value))
            elif field == "tool_calls":
                self._calls.add(value)
            elif field == "refusal":
                if not isinstance(value, str):
                    raise model_error(ModelProtocolError, "the refusal is no text")
                self._refusal.append(value)
            elif field not in KNOWN_FIELDS:
                self._opaque.add(field, value)


class StreamDecoder(EventStreamDecoder):
    """Decodes one streamed chat completion; see `wire.stream`."""

    def __init__(self, bound: UsageBound = _NO_BOUND) -> None:
        super().__init__(_Answer(bound))


def decode(body: bytes, bound: UsageBound = _NO_BOUND) -> ModelResponse:
    """The answer in the body of a call that did not stream.

    Args:
        body: the body of a response with status 200.
        bound: what stands in when the provider reports no usage; see `usage_bound`.

    Raises:
        ModelProtocolError: it is no chat completion.
        ModelError: it is an `error` object.
    """
    return whole(_Answer(bound), body)


def _finish_reason(word: str, message: Message) -> FinishReason:
    """What `finish_reason` comes to, given what the answer holds. Raises ModelError for a contradiction."""
    word = word.lower()
    if word in _BROKEN_OFF:
        raise model_error(ModelUnavailable, f"the model broke off: {word}")
    return settled(known(_REASONS, word) if word else FinishReason.STOP, message)


def _text_of_parts(parts: object) -> str:
    """The text of a content that comes as a list of typed parts. Raises ModelError."""
    if not isinstance(parts, list):
        raise model_error(ModelProtocolError, "the content is neither text nor a list of parts")
    texts: list[str] = []
    for part in cast("list[object]", parts):
        text = cast("dict[str, object]", part).get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            texts.append(text)
    return "".join(texts)
