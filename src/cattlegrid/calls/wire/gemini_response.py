"""Turns the body or the event stream of Gemini's `generateContent` into a `ModelResponse`.

Source: https://ai.google.dev/api/generate-content. Total: whatever the bytes are, the result is a response or a
`ModelError`. A stream has no mark of its end; it is complete when a finish reason has come, and read until the
connection ends. Only the first candidate is read, since one is asked for.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cattlegrid.calls.wire.errors import error_from_object, model_error
from cattlegrid.calls.wire.finish import known, output_bytes, settled
from cattlegrid.calls.wire.gemini_request import OF_CALL, OF_TEXT, WHOLE_PART, WIRE
from cattlegrid.calls.wire.parsing import encoded_text, fields, malformed, parsed, text
from cattlegrid.calls.wire.placed import kept
from cattlegrid.calls.wire.tool_calls import free_id
from cattlegrid.calls.wire.usage import UsageBound, gemini_usage
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import FinishReason, Message, ModelResponse, Role, ToolCall, Usage

_FILTERS: Final = (
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "MODEL_ARMOR",
    "JAILBREAK",
    "ESCALATION",
    "PUP_LIMITED_DISABLED",
)
_REASONS: Final[Mapping[str, FinishReason]] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "CONTINUATION": FinishReason.LENGTH,
    **dict.fromkeys(_FILTERS, FinishReason.FILTERED),
}
"""What is missing here (malformed calls, `OTHER`) is no answer, and is asked for again."""


class _Content(msgspec.Struct):
    parts: list[dict[str, Any]] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    """The fields that are read of a chunk, or of a whole answer."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    model_version: str = ""
    response_id: str = ""
    error: Any = None


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class GeminiAnswer:
    """One answer in the making; see `wire.stream.Answer`."""

    def __init__(self, bound: UsageBound) -> None:
        self._bound = bound
        self._texts: list[str] = []
        self._text_length = 0
        self._calls: list[ToolCall] = []
        self._ids: set[str] = set()
        self._kept: list[tuple[int, int, dict[str, Any]]] = []
        """Items with their place: characters and calls before them."""
        self._reason = ""
        self._usage: Usage | None = None
        self._id = ""
        self._model = ""
        self.over = False

    @property
    def complete(self) -> bool:
        return bool(self._reason)

    def add(self, data: bytes) -> str:
        """See `Answer.add`."""
        chunk = parsed(_decode_chunk, data)
        if chunk.error is not None:
            raise error_from_object(chunk.error)
        self._id = self._id or chunk.response_id
        self._model = chunk.model_version or self._model
        if chunk.usage_metadata is not None:
            self._usage = gemini_usage(chunk.usage_metadata) or self._usage
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._reason = chunk.prompt_feedback.block_reason
        before = len(self._texts)
        for candidate in chunk.candidates or ():
            if candidate.index:
                continue
            if candidate.content is not None:
                for part in candidate.content.parts or ():
                    self._add_part(part)
            self._reason = candidate.finish_reason or self._reason
        return "".join(self._texts[before:])

    def finish(self) -> ModelResponse:
        """See `Answer.finish`."""
        if not self._reason:
            raise malformed("the answer does not say why it stopped")
        if self._reason == "MISSING_THOUGHT_SIGNATURE":
            raise model_error(ModelRejected, "a thought signature of this conversation is missing")
        message = Message(
            role=Role.ASSISTANT,
            text="".join(self._texts),
            tool_calls=tuple(self._calls),
            reasoning=tuple(kept(WIRE, item, text=at, calls=called) for at, called, item in self._kept),
        )
        return ModelResponse(
            message=message,
            finish_reason=settled(known(_REASONS, self._reason), message),
            usage=self._usage or self._bound.usage(output_bytes(message)),
            model=self._model,
            response_id=self._id,
        )

    def _add_part(self, part: dict[str, Any]) -> None:
        signature = part.get("thoughtSignature")
        if part.get("thought"):
            self._think(part)
        elif "functionCall" in part:
            if signature:
                self._keep({OF_CALL: {"thoughtSignature": signature}})
            self._call(fields(part["functionCall"]))
        elif "text" in part:
            said = text(part["text"], "the text of a part")
            if said:
                self._texts.append(said)
                self._text_length += len(said)
            if signature:
                self._keep({OF_TEXT: {"thoughtSignature": signature}})
        else:
            self._keep({WHOLE_PART: part})

    def _call(self, call: dict[str, object]) -> None:
        name, call_id = text(call.get("name"), "a name"), text(call.get("id"), "an id")
        if not name:
            raise malformed("a tool call has no name")
        if not isinstance(call.get("args"), dict | None):
            raise malformed("the arguments of a tool call are no object")
        call_id = call_id if call_id and call_id not in self._ids else free_id(len(self._calls), self._ids)
        self._ids.add(call_id)
        self._calls.append(ToolCall(id=call_id, name=name, arguments=encoded_text(fields(call.get("args")))))

    def _think(self, part: dict[str, Any]) -> None:
        """A thought; its pieces are joined as long as nothing stands between them and none is signed."""
        place = (self._text_length, len(self._calls))
        if self._kept:
            at, called, item = self._kept[-1]
            before = fields(item.get(WHOLE_PART))
            if (at, called) == place and before.get("thought") and "thoughtSignature" not in before:
                joined = text(before.get("text"), "a thought") + text(part.get("text"), "a thought")
                self._kept[-1] = at, called, {WHOLE_PART: {**before, **part, "text": joined}}
                return
        self._keep({WHOLE_PART: part})

    def _keep(self, item: dict[str, Any]) -> None:
        self._kept.append((self._text_length, len(self._calls), item))
