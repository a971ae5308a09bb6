"""Turns the body or the event stream of an OpenAI chat completion into a `ModelResponse`.

Source: https://platform.openai.com/docs/api-reference/chat/object and `.../chat/streaming`. Total: whatever the bytes
are, the result is a response or a `ModelError`. A stream counts as complete when the model has said why it stopped or
the server has sent `[DONE]`; everything else is a cut stream. Only the first choice is read, since one is asked for.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from cattlegrid.calls.wire.errors import error_from_object, model_error
from cattlegrid.calls.wire.opaque import KNOWN_FIELDS, OpaqueFields
from cattlegrid.calls.wire.sse import SseFramer
from cattlegrid.calls.wire.tool_calls import ToolCallAssembler
from cattlegrid.calls.wire.usage import UsageBound, reported_usage
from cattlegrid.core.errors import ModelProtocolError, ModelUnavailable
from cattlegrid.core.messages import FinishReason, Message, ModelDelta, ModelResponse, Role, TextDelta, Usage

_DONE: Final = b"[DONE]"
_NO_BOUND: Final = UsageBound()
_ANSWER_OVERHEAD: Final = 16
"""Tokens that end an answer or open a tool call and leave no bytes behind, generously."""
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
    def has_finish_reason(self) -> bool:
        return bool(self._reason)

    def add(self, data: bytes) -> str:
        """Take in one chunk or body; the answer text that it adds. Raises ModelError."""
        chunk = _parsed(data)
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
            usage=self._usage or self._bound.usage(self._output_bytes(text, refusal)),
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

    def _output_bytes(self, text: str, refusal: str) -> int:
        shown = len(text.encode()) + len(refusal.encode())
        return shown + self._calls.text_bytes + self._opaque.text_bytes + _ANSWER_OVERHEAD


class StreamDecoder:
    """Decodes one streamed answer. Feed it the pieces as they come; after `done`, nothing more is read."""

    def __init__(self, bound: UsageBound = _NO_BOUND) -> None:
        self._answer = _Answer(bound)
        self._framer = SseFramer()
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the server has said that the stream is over."""
        return self._done

    def feed(self, piece: bytes) -> list[ModelDelta]:
        """What this piece adds, one delta at most.

        Raises:
            ModelProtocolError: the piece holds an event that is no chunk.
            ModelError: the provider reports a failure inside the stream.
        """
        if self._done:
            return []
        return self._read(self._framer.feed(piece))

    def finish(self) -> ModelResponse:
        """The whole answer, once the stream has ended.

        Its text is that of all deltas, and that of a last event which the server did not end with an empty line.

        Raises:
            ModelProtocolError: the stream was cut, or what it says makes no sense as a whole.
        """
        if not self._done:
            try:
                self._read(self._framer.rest())
            except ModelProtocolError:
                if not self._answer.has_finish_reason:
                    raise
        if not self._done and not self._answer.has_finish_reason:
            raise model_error(ModelProtocolError, "the stream ended before the answer did")
        return self._answer.finish()

    def _read(self, events: list[bytes]) -> list[ModelDelta]:
        texts: list[str] = []
        for data in events:
            if data == _DONE or data.strip() == _DONE:
                self._done = True
                break
            text = self._answer.add(data)
            if text:
                texts.append(text)
        return [TextDelta("".join(texts))] if texts else []


def decode(body: bytes, bound: UsageBound = _NO_BOUND) -> ModelResponse:
    """The answer in the body of a call that did not stream.

    Args:
        body: the body of a response with status 200.
        bound: what stands in when the provider reports no usage; see `usage_bound`.

    Raises:
        ModelProtocolError: it is no chat completion.
        ModelError: it is an `error` object.
    """
    answer = _Answer(bound)
    answer.add(body)
    if not answer.has_finish_reason:
        raise model_error(ModelProtocolError, "the body holds no finished choice")
    return answer.finish()


def _parsed(data: bytes) -> _Chunk:
    try:
        return _decode_chunk(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise model_error(ModelProtocolError, f"malformed data ({error}): {_glimpse(data)}") from error


def _finish_reason(word: str, message: Message) -> FinishReason:
    """What `finish_reason` comes to, given what the answer holds. Raises ModelError for a contradiction."""
    word = word.lower()
    if word in _BROKEN_OFF:
        raise model_error(ModelUnavailable, f"the model broke off: {word}")
    reason = _REASONS.get(word) if word else FinishReason.STOP
    if reason is None:
        raise model_error(ModelProtocolError, f"unknown finish reason: {word[:60]}")
    if reason is FinishReason.STOP and message.tool_calls:
        return FinishReason.TOOL_CALLS
    if reason is FinishReason.STOP and message.refusal:
        return FinishReason.REFUSAL
    if reason is FinishReason.TOOL_CALLS and not message.tool_calls:
        raise model_error(ModelProtocolError, "the answer promises tool calls and holds none")
    return reason


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


def _glimpse(data: bytes) -> str:
    return data[:120].decode("utf-8", "replace")
