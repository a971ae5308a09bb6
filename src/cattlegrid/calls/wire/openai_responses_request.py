"""Turns a `ModelRequest` into the body of a call of OpenAI's responses.

Source: https://developers.openai.com/api/reference/resources/responses. The conversation is sent whole and nothing is
stored at the provider: the journal is the one record. Reasoning comes encrypted and goes back as it came.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.images import data_url
from cattlegrid.calls.wire.parsing import fields, object_text
from cattlegrid.calls.wire.placed import laid_out
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Message, ModelParams, ModelRequest, Role, ToolCall, ToolSpec

WIRE: Final = "openai-responses"
PHASE: Final = "phase"
"""The type of the item that keeps the phase of the message which follows; it is ours and is never sent itself."""

_NO_IMAGES: Final[Mapping[str, bytes]] = {}


class ResponsesEncoder:
    """Encodes requests; holds at most `kept_messages` encoded messages. One instance serves all sessions."""

    def __init__(self, *, kept_messages: int = 4_096) -> None:
        self._items = lru_cache(maxsize=kept_messages)(_items)
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
        encoded = (
            _items(message, request.images) if message.images else self._items(message)
            for message in request.messages
        )
        parts = [
            b'{"model":',
            msgspec.json.encode(request.model),
            b',"input":[',
            b",".join(filter(None, encoded)),
            b'],"store":false',
        ]
        if request.tools:
            parts += [b',"tools":', self._tools(request.tools)]
            if not request.tools_allowed:
                parts.append(b',"tool_choice":"none"')
        parameters = _parameters(request.params, has_tools=bool(request.tools))
        if parameters:
            parts += [b",", msgspec.json.encode(parameters)[1:-1]]
        parts.append(b',"stream":true}' if stream else b"}")
        return b"".join(parts)


def _items(message: Message, images: Mapping[str, bytes] = _NO_IMAGES) -> bytes:
    """The input items of one message, joined by commas."""
    if message.role is Role.ASSISTANT:
        found = list(_said(message))
    elif message.role is Role.TOOL and message.tool_call_id:
        output = _content(message, images)
        found = [{"type": "function_call_output", "call_id": message.tool_call_id, "output": output}]
    else:
        role = "system" if message.role is Role.SYSTEM else "user"
        found = [{"role": role, "content": _content(message, images)}]
    return b",".join(map(msgspec.json.encode, found))


def _said(message: Message) -> Iterator[object]:
    phase: object = None
    for part in laid_out(message, WIRE):
        match part:
            case ToolCall():
                yield {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": object_text(part.arguments),
                }
            case str():
                yield {"role": "assistant", "content": part, **({"phase": phase} if phase else {})}
            case _:
                item = fields(msgspec.json.decode(part))
                if item.get("type") == PHASE:
                    phase = item.get("phase")
                else:
                    yield part
    if message.refusal:
        yield {"role": "assistant", "content": message.refusal}


def _content(message: Message, images: Mapping[str, bytes]) -> object:
    if not message.images:
        return message.text
    return [
        *([{"type": "input_text", "text": message.text}] if message.text else ()),
        *(
            {"type": "input_image", "detail": "auto", "image_url": data_url(image, images)}
            for image in message.images
        ),
    ]


def _encode_tools(tools: tuple[ToolSpec, ...]) -> bytes:
    return msgspec.json.encode(
        [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": msgspec.Raw(tool.parameters.encode()),
                # Without this the format demands that every parameter be required.
                "strict": False,
            }
            for tool in tools
        ]
    )


def _parameters(params: ModelParams, *, has_tools: bool) -> Mapping[str, object]:
    """`seed` and `stop` do not exist here; the check of `cattlegrid.yaml` refuses them."""
    effort = params.reasoning_effort
    found: dict[str, object] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_output_tokens": params.max_output_tokens,
        "parallel_tool_calls": params.parallel_tool_calls if has_tools else None,
        "reasoning": {"effort": effort} if effort else None,
        # OpenAI sends it by itself; older servers must be asked, and ask models that do not reason in vain.
        "include": ["reasoning.encrypted_content"] if effort and effort != "none" else None,
    }
    return {name: value for name, value in found.items() if value is not None}
