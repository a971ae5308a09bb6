"""Turns the body of a chat completion request into a `Conversation`, the one thing that rules decide from.

A request is judged as strictly as the real service judges it where clients go wrong: an assistant's tool calls must
be answered, each once, by the tool messages that follow, and `tool_choice` needs tools. Source: the OpenAI API reference, "Create chat completion".
"""

from typing import Any, Literal, cast

import msgspec

from cattlegrid.core.errors import InvalidRequest


class Call(msgspec.Struct, frozen=True):
    """A tool call. `arguments` is what the JSON text holds; an empty object when it is no JSON object."""

    name: str
    arguments: dict[str, Any]


class Done(msgspec.Struct, frozen=True):
    """A tool call that was made, and the text that came back."""

    call: Call
    result: str


class Offered(msgspec.Struct, frozen=True):
    """A tool that the request offers; `parameters` is its JSON Schema."""

    name: str
    parameters: dict[str, Any]


class Line(msgspec.Struct, frozen=True):
    """Something that was said."""

    role: Literal["user", "assistant"]
    text: str


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a model knows when it is asked."""

    model: str
    system: str
    before: tuple[Line, ...]
    """What was said before the last message of the user."""
    user: str
    """The last message of the user."""
    done: tuple[Done, ...]
    """The calls made since then, in their order."""
    tools: dict[str, Offered]
    may_call: bool
    """False when tools are offered but the request forbids to call one."""
    parallel: bool
    stream: bool
    include_usage: bool
    max_tokens: int | None
    messages: tuple[msgspec.Raw, ...]
    """The messages as they came, for counting."""
    offered_bytes: bytes
    """The tools as they came."""


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"
    parameters: dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function


class _Part(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Tool(msgspec.Struct):
    function: _Function


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]
    tools: msgspec.Raw = msgspec.Raw(b"[]")
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_BODY = msgspec.json.Decoder(_Body)
_MESSAGE = msgspec.json.Decoder(_Message)
_TOOLS: msgspec.json.Decoder[list[_Tool] | None] = msgspec.json.Decoder(list[_Tool] | None)


def parse(body: bytes) -> Conversation:
    """Read a request.

    Raises:
        InvalidRequest: no JSON, another shape, or tool calls and tool messages that do not fit together.
    """
    try:
        request = _BODY.decode(body)
        messages = [_MESSAGE.decode(message) for message in request.messages]
        tools = _TOOLS.decode(request.tools) or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"Invalid request: {error}") from error
    if not messages:
        raise InvalidRequest("Invalid request: 'messages' is empty")
    if not tools and (request.tool_choice is not None or request.parallel_tool_calls is not None):
        raise InvalidRequest(
            "Invalid request: 'tool_choice' and 'parallel_tool_calls' are only allowed with 'tools'"
        )
    _check_answers(messages)
    start = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    offered = (Offered(tool.function.name, tool.function.parameters or {}) for tool in tools)
    return Conversation(
        model=request.model,
        system="\n".join(message.text for message in messages if message.role in ("system", "developer")),
        before=_lines(messages[: max(start, 0)]),
        user=messages[start].text if start >= 0 else "",
        done=_done(messages[start + 1 :]),
        tools={tool.name: tool for tool in offered},
        may_call=bool(tools) and request.tool_choice != "none",
        parallel=request.parallel_tool_calls is not False,
        stream=bool(request.stream),
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        messages=tuple(request.messages),
        offered_bytes=bytes(request.tools),
    )


def _check_answers(messages: list[_Message]) -> None:
    open_ids: list[str] = []
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_ids:
                raise InvalidRequest(
                    "Invalid request: messages with role 'tool' must be a response to a preceding message with"
                    f" 'tool_calls'; nothing asked for '{message.tool_call_id}'"
                )
            open_ids.remove(message.tool_call_id)
            continue
        _refuse_open(open_ids)
        open_ids = [call.id for call in message.tool_calls or ()]
    _refuse_open(open_ids)


def _refuse_open(open_ids: list[str]) -> None:
    if open_ids:
        raise InvalidRequest(
            "Invalid request: an assistant message with 'tool_calls' must be followed by tool messages responding to"
            f" each 'tool_call_id'; no response to: {', '.join(open_ids)}"
        )


def _lines(messages: list[_Message]) -> tuple[Line, ...]:
    return tuple(
        Line(message.role, message.text)
        for message in messages
        if message.role in ("user", "assistant") and message.text
    )


def _done(messages: list[_Message]) -> tuple[Done, ...]:
    results = {message.tool_call_id: message.text for message in messages if message.role == "tool"}
    calls = [call for message in messages for call in message.tool_calls or ()]
    return tuple(Done(_call(call), results[call.id]) for call in calls)


def _call(call: _ToolCall) -> Call:
    return Call(call.function.name, json_object(call.function.arguments))


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a text is, or an empty one."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
