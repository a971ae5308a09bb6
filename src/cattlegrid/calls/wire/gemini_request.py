"""Turns a `ModelRequest` into the body of a call of Gemini's `generateContent`.

Source: https://ai.google.dev/api/generate-content; thought signatures: https://ai.google.dev/gemini-api/docs/thought-signatures.
A signature goes back on the very part that it came with. Results are joined to their calls by name, and by id where the
provider has given one.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.images import base64_text
from cattlegrid.calls.wire.parsing import fields, object_text
from cattlegrid.calls.wire.placed import laid_out
from cattlegrid.calls.wire.tool_calls import is_made
from cattlegrid.calls.wire.turns import OPENING, Turn, in_turns
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Message, ModelParams, ModelRequest, Role, ToolCall, ToolSpec

WIRE: Final = "gemini"
OF_CALL: Final = "of_call"
OF_TEXT: Final = "of_text"
WHOLE_PART: Final = "part"
"""What a kept item is about: the next call, the text before it, or a part of its own."""

_NO_IMAGES: Final[Mapping[str, bytes]] = {}
_OPENING: Final = msgspec.json.encode({"text": OPENING})


class GeminiEncoder:
    """Encodes requests; holds at most `kept_messages` encoded messages. One instance serves all sessions."""

    def __init__(self, *, kept_messages: int = 4_096) -> None:
        self._parts = lru_cache(maxsize=kept_messages)(_parts)
        self._tools = lru_cache(maxsize=64)(_encode_tools)

    def encode(self, request: ModelRequest) -> bytes:
        """The body, UTF-8 JSON, the same for a stream and for an answer that comes whole.

        Raises:
            ModelRejected: a text holds half of a surrogate pair, which no UTF-8 can carry, or an image is missing.
        """
        try:
            return self._encode(request)
        except UnicodeEncodeError as error:
            raise model_error(ModelRejected, f"text that is no Unicode: {error.reason}") from error

    def _encode(self, request: ModelRequest) -> bytes:
        system = [{"text": m.text} for m in request.messages if m.role is Role.SYSTEM and m.text]
        turns = in_turns(self._spoken(request), _OPENING)
        parts = [b'{"contents":[', b",".join(map(_content, turns)), b"]"]
        if system:
            parts += [b',"systemInstruction":', msgspec.json.encode({"parts": system})]
        if request.tools:
            parts += [b',"tools":', self._tools(request.tools)]
            if not request.tools_allowed:
                parts.append(b',"toolConfig":{"functionCallingConfig":{"mode":"NONE"}}')
        config = _config(request.params)
        if config:
            parts += [b',"generationConfig":', msgspec.json.encode(config)]
        return b"".join((*parts, b"}"))

    def _spoken(self, request: ModelRequest) -> Iterator[tuple[Message, bytes]]:
        names: dict[str, str] = {}
        for message in request.messages:
            if message.role is Role.SYSTEM:
                continue
            # Ids may be ours and come again in every answer: the last call with an id is meant.
            names.update((call.id, call.name) for call in message.tool_calls)
            name = names.get(message.tool_call_id, "")
            if message.images:
                yield message, _parts(message, name, request.images)
            else:
                yield message, self._parts(message, name)


def _content(turn: Turn) -> bytes:
    role = b"model" if turn.by_model else b"user"
    return b'{"role":"%b","parts":[%b]}' % (role, b",".join(turn.parts))


def _parts(message: Message, name: str, images: Mapping[str, bytes] = _NO_IMAGES) -> bytes:
    """The parts of one message, joined by commas; `name` is that of the call which a result answers."""
    shown = [
        {"inlineData": {"mimeType": image.media_type, "data": base64_text(image, images)}}
        for image in message.images
    ]
    if message.role is Role.ASSISTANT:
        found = _said(message)
    elif message.role is Role.TOOL and name:
        answer = {"name": name, "response": {"output": message.text}, **_id(message.tool_call_id)}
        found = [{"functionResponse": answer}, *shown]
    else:
        found = [*([{"text": message.text}] if message.text else ()), *shown]
    return b",".join(map(msgspec.json.encode, found))


def _said(message: Message) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = []
    next_call: Mapping[str, object] = {}
    for part in laid_out(message, WIRE):
        match part:
            case ToolCall():
                arguments = msgspec.Raw(object_text(part.arguments).encode())
                called = {"name": part.name, "args": arguments, **_id(part.id)}
                parts.append({"functionCall": called, **next_call})
                next_call = {}
            case str():
                parts.append({"text": part})
            case _:
                item = fields(msgspec.json.decode(part))
                if OF_CALL in item:
                    next_call = fields(item[OF_CALL])
                elif OF_TEXT in item:
                    _sign_text(parts, fields(item[OF_TEXT]))
                else:
                    parts.append(fields(item.get(WHOLE_PART)))
    if message.refusal:
        parts.append({"text": message.refusal})
    return parts


def _sign_text(parts: list[dict[str, object]], signature: Mapping[str, object]) -> None:
    """Put a signature on the text that it came with, or on an empty one of its own."""
    if parts and "text" in parts[-1] and "thoughtSignature" not in parts[-1] and "thought" not in parts[-1]:
        parts[-1].update(signature)
    else:
        parts.append({"text": "", **signature})


def _id(call_id: str) -> Mapping[str, str]:
    return {} if is_made(call_id) else {"id": call_id}


def _encode_tools(tools: Iterable[ToolSpec]) -> bytes:
    declared = [
        {
            "name": tool.name,
            "description": tool.description,
            "parametersJsonSchema": msgspec.Raw(tool.parameters.encode()),
        }
        for tool in tools
    ]
    return msgspec.json.encode([{"functionDeclarations": declared}])


def _config(params: ModelParams) -> Mapping[str, object]:
    """There is no switch for parallel calls here; the check of `cattlegrid.yaml` refuses it."""
    found: dict[str, object] = {
        "temperature": params.temperature,
        "topP": params.top_p,
        "seed": params.seed,
        "maxOutputTokens": params.max_output_tokens,
        "stopSequences": list(params.stop) or None,
        "thinkingConfig": _thinking(params.reasoning_effort),
    }
    return {name: value for name, value in found.items() if value is not None}


def _thinking(effort: str | None) -> Mapping[str, object] | None:
    """A word is a level, which newer models take; a number is a budget of tokens, for older ones."""
    if effort is None:
        return None
    if effort == "none":
        return {"thinkingBudget": 0}
    return {"thinkingBudget": int(effort)} if effort.isdecimal() else {"thinkingLevel": effort.upper()}
