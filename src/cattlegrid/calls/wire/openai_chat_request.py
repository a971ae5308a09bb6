"""Turns a `ModelRequest` into the body of an OpenAI chat completions call.

Source: https://platform.openai.com/docs/api-reference/chat/create. A conversation is sent again with every call, so
each message and each list of tools is encoded once and remembered by its value.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.images import data_url
from cattlegrid.calls.wire.opaque import fields_to_send
from cattlegrid.calls.wire.parsing import object_text
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Message, ModelParams, ModelRequest, Role, ToolCall, ToolSpec

LimitField = Literal["max_completion_tokens", "max_tokens"]
"""How the endpoint names the limit of the output: OpenAI's reasoning models refuse the second, older servers ignore
the first, and OpenAI refuses both at once."""

_STREAM: Final = b',"stream":true,"stream_options":{"include_usage":true}}'
_NO_IMAGES: Final[Mapping[str, bytes]] = {}
_NO_TOOLS: Final = b',"tool_choice":"none"'


class ChatEncoder:
    """Encodes requests; holds at most `kept_messages` encoded messages. One instance serves all sessions."""

    def __init__(
        self, *, limit_field: LimitField = "max_completion_tokens", kept_messages: int = 4_096
    ) -> None:
        self._limit_field: LimitField = limit_field
        self._message = lru_cache(maxsize=kept_messages)(encode_message)
        self._tools = lru_cache(maxsize=64)(_encode_tools)

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        """The body, UTF-8 JSON.

        Raises:
            ModelRejected: a text holds half of a surrogate pair, which no UTF-8 can carry.
        """
        try:
            return self._encode(request, stream=stream)
        except UnicodeEncodeError as error:
            raise model_error(ModelRejected, f"text that is no Unicode: {error.reason}") from error

    def _encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        parts = [
            b'{"model":',
            msgspec.json.encode(request.model),
            b',"messages":[',
            b",".join(
                [
                    # A message with images is encoded anew each time: kept, a few would fill the memory.
                    encode_message(message, request.images) if message.images else self._message(message)
                    for message in request.messages
                ]
            ),
            b"]",
        ]
        if request.tools:
            parts += [b',"tools":', self._tools(request.tools)]
            if not request.tools_allowed:
                parts.append(_NO_TOOLS)
        fields = _parameters(request.params, self._limit_field, has_tools=bool(request.tools))
        if fields:
            parts += [b",", msgspec.json.encode(fields)[1:-1]]
        parts.append(_STREAM if stream else b"}")
        return b"".join(parts)


def encode_message(message: Message, images: Mapping[str, bytes] = _NO_IMAGES) -> bytes:
    """One message of `messages`. Raises ModelRejected for an image whose bytes are not there."""
    fields: dict[str, object] = {"role": message.role.value, "content": message.text}
    if message.images:
        fields["content"] = [
            *([{"type": "text", "text": message.text}] if message.text else ()),
            *(
                {"type": "image_url", "image_url": {"url": data_url(image, images)}}
                for image in message.images
            ),
        ]
    if message.role is Role.ASSISTANT:
        if message.tool_calls:
            fields["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
        if message.refusal:
            fields["refusal"] = message.refusal
        if not message.text and (message.tool_calls or message.refusal):
            fields["content"] = None
        fields.update(fields_to_send(message.reasoning))
    elif message.role is Role.TOOL:
        fields["tool_call_id"] = message.tool_call_id
    return msgspec.json.encode(fields)


def _tool_call(call: ToolCall) -> Mapping[str, object]:
    function = {"name": call.name, "arguments": object_text(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _encode_tools(tools: tuple[ToolSpec, ...]) -> bytes:
    return msgspec.json.encode(
        [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": msgspec.Raw(tool.parameters.encode()),
                },
            }
            for tool in tools
        ]
    )


def _parameters(params: ModelParams, limit_field: LimitField, *, has_tools: bool) -> Mapping[str, object]:
    fields: dict[str, object] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed,
        limit_field: params.max_output_tokens,
        "stop": list(params.stop) or None,
        "parallel_tool_calls": params.parallel_tool_calls if has_tools else None,
        "reasoning_effort": params.reasoning_effort,
    }
    return {name: value for name, value in fields.items() if value is not None}
