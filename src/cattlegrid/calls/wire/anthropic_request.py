"""Turns a `ModelRequest` into the body of a call of Anthropic's messages.

Source: https://platform.claude.com/docs/en/api/messages. Thinking blocks go back unchanged and where they stood. Cache
markers (https://platform.claude.com/docs/en/build-with-claude/prompt-caching) end the prefixes that stay the same: tools
and system prompt, and the last two turns of the user, so that each call reads what the one before has written.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.images import base64_text
from cattlegrid.calls.wire.parsing import object_text
from cattlegrid.calls.wire.placed import laid_out
from cattlegrid.calls.wire.turns import OPENING, Turn, in_turns
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Message, ModelParams, ModelRequest, Role, ToolCall, ToolSpec

WIRE: Final = "anthropic"
MAX_TOKENS: Final = 8_192
"""The limit of an answer when none is set; the format requires one."""

_MARK: Final = b',"cache_control":{"type":"ephemeral"}}'
_MARKED_TURNS: Final = 2
_NO_IMAGES: Final[Mapping[str, bytes]] = {}
_OPENING: Final = msgspec.json.encode({"type": "text", "text": OPENING})


class AnthropicEncoder:
    """Encodes requests; holds at most `kept_messages` encoded messages. One instance serves all sessions."""

    def __init__(self, *, kept_messages: int = 4_096) -> None:
        self._blocks = lru_cache(maxsize=kept_messages)(_blocks)
        self._tools = lru_cache(maxsize=64)(_encode_tools)

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        """The body, UTF-8 JSON.

        Raises:
            ModelRejected: a text holds half of a surrogate pair, which no UTF-8 can carry, or an image is missing.
        """
        try:
            return self._encode(request, stream=stream)
        except UnicodeEncodeError as error:
            raise model_error(ModelRejected, f"text that is no Unicode: {error.reason}") from error

    def _encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        system = [m.text for m in request.messages if m.role is Role.SYSTEM and m.text.strip()]
        spoken = (m for m in request.messages if m.role is not Role.SYSTEM)
        turns = in_turns(
            ((m, _blocks(m, request.images) if m.images else self._blocks(m)) for m in spoken), _OPENING
        )
        if request.tools_allowed:
            # An answer without tools is the last one for now: nothing will read what would be written.
            _mark_ends(turns)
        parts = [
            b'{"model":',
            msgspec.json.encode(request.model),
            b',"messages":[',
            b",".join(map(_turn, turns)),
            b"]",
        ]
        if system:
            encoded = msgspec.json.encode([{"type": "text", "text": text} for text in system])
            parts += [b',"system":', encoded[:-2], _MARK, b"]"]
        tools = request.tools or _called(request.messages)
        if tools:
            parts += [b',"tools":', self._tools(tools, mark=not system)]
        fields = _parameters(request.params, _tool_choice(request, has_tools=bool(tools)))
        parts += [b",", msgspec.json.encode(fields)[1:-1]]
        parts.append(b',"stream":true}' if stream else b"}")
        return b"".join(parts)


def _turn(turn: Turn) -> bytes:
    role = b"assistant" if turn.by_model else b"user"
    return b'{"role":"%b","content":[%b]}' % (role, b",".join(turn.parts))


def _mark_ends(turns: list[Turn]) -> None:
    """Mark the last block of the user's last turns."""
    for turn in [turn for turn in turns if not turn.by_model][-_MARKED_TURNS:]:
        turn.parts[-1] = turn.parts[-1][:-1] + _MARK


def _blocks(message: Message, images: Mapping[str, bytes] = _NO_IMAGES) -> bytes:
    """The content blocks of one message, joined by commas; texts without a visible character are refused, and left out."""
    if message.role is Role.ASSISTANT:
        blocks = list(_said(message))
    elif message.role is Role.TOOL and message.tool_call_id:
        blocks = [_result(message, images)]
    else:
        blocks = [*_text(message.text), *(_image(image) for image in _sources(message, images))]
    return b",".join(map(msgspec.json.encode, blocks))


def _said(message: Message) -> Iterator[object]:
    for part in laid_out(message, WIRE):
        match part:
            case ToolCall():
                given = msgspec.Raw(object_text(part.arguments).encode())
                yield {"type": "tool_use", "id": part.id, "name": part.name, "input": given}
            case str():
                yield from _text(part)
            case _:
                yield part
    yield from _text(message.refusal)


def _result(message: Message, images: Mapping[str, bytes]) -> object:
    content: object = message.text
    if message.images:
        content = [*_text(message.text), *(_image(image) for image in _sources(message, images))]
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}


def _text(text: str) -> tuple[object, ...]:
    return ({"type": "text", "text": text},) if text.strip() else ()


def _sources(message: Message, images: Mapping[str, bytes]) -> Iterator[Mapping[str, str]]:
    for image in message.images:
        yield {"type": "base64", "media_type": image.media_type, "data": base64_text(image, images)}


def _image(source: Mapping[str, str]) -> object:
    return {"type": "image", "source": source}


def _encode_tools(tools: tuple[ToolSpec, ...], *, mark: bool) -> bytes:
    encoded = msgspec.json.encode(
        [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": msgspec.Raw(tool.parameters.encode()),
            }
            for tool in tools
        ]
    )
    return encoded[:-2] + _MARK + b"]" if mark else encoded


def _called(messages: tuple[Message, ...]) -> tuple[ToolSpec, ...]:
    """The tools that a history speaks of: without any tools a history with calls is refused."""
    names = sorted({call.name for message in messages for call in message.tool_calls})
    return tuple(ToolSpec(name=name, description="", parameters='{"type":"object"}') for name in names)


def _parameters(params: ModelParams, tool_choice: Mapping[str, object] | None) -> Mapping[str, object]:
    fields: dict[str, object] = {
        "max_tokens": params.max_output_tokens or MAX_TOKENS,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop_sequences": list(params.stop) or None,
        "tool_choice": tool_choice,
        **_thinking(params.reasoning_effort),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tool_choice(request: ModelRequest, *, has_tools: bool) -> Mapping[str, object] | None:
    if not has_tools:
        return None
    if not (request.tools and request.tools_allowed):
        return {"type": "none"}
    if request.params.parallel_tool_calls is False:
        return {"type": "auto", "disable_parallel_tool_use": True}
    return None


def _thinking(effort: str | None) -> Mapping[str, object]:
    """A word is an effort, which newer models take; a number is a budget of tokens, for older ones."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    if effort.isdecimal():
        return {"thinking": {"type": "enabled", "budget_tokens": int(effort)}}
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
