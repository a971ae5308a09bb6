"""The conversation as every provider's wire format is translated to and from it: messages, requests, answers, usage.

Values are frozen; `text` is what people wrote or read, `reasoning` holds a provider's own items, kept as they came and
sent back unchanged. `calls/wire` knows the wire formats; nobody else does.
"""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """Who a message speaks for."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model asks for. `arguments` is its JSON text, as the model wrote it, perhaps not valid."""

    id: str
    name: str
    arguments: str


class Image(msgspec.Struct, frozen=True):
    """A picture that a user or a tool shows to the model, after the text of its message.

    The message holds the reference alone, so that it stays small in the journal and in memory; the bytes travel in
    `ModelRequest.images`.
    """

    ref: str
    """The body that holds the bytes."""
    media_type: str
    """`image/png`, `image/jpeg`, `image/gif` or `image/webp`: what all providers read."""


class File(msgspec.Struct, frozen=True):
    """A file that a user sent along. What of it the model gets stands in the message's text or images."""

    ref: str
    """The body that holds the bytes."""
    name: str
    media_type: str
    size_bytes: int


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `reasoning` holds JSON texts of opaque provider items; `tool_call_id` names the answered call."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    refusal: str = ""
    reasoning: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    files: tuple[File, ...] = ()
    material: int = 0
    """How many characters at the beginning of the text are from files; the user's own words follow."""


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as a model is told of it. `parameters` is a JSON Schema, as JSON text."""

    name: str
    description: str
    parameters: str


class ModelParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Parameters of sampling; None leaves the provider's default."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model, ready for a codec."""

    provider: str
    """The name of the endpoint, for example `openai`; its client knows the wire format."""
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tools_allowed: bool = True
    """False asks for an answer in words even though tools are described."""
    params: ModelParams = ModelParams()
    images: dict[str, bytes] = {}
    """The bytes of all images of the messages, by reference."""


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSAL = "refusal"
    FILTERED = "filtered"


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one call. Input counts cached tokens too, output counts reasoning tokens too."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    """True when the provider reported nothing and the numbers are an upper bound."""


class ModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered."""

    message: Message
    finish_reason: FinishReason
    usage: Usage
    model: str
    """The model that the provider says has answered."""
    response_id: str = ""


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of answer text as it arrives; provisional."""

    text: str


class StreamRestarted(msgspec.Struct, frozen=True):
    """The pieces so far are void: the call failed on the way and is made again."""


ModelDelta = TextDelta | StreamRestarted
