"""The wire formats by name: what a client of any of them needs to know, and who speaks it."""

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from cattlegrid.calls.wire.anthropic import AnthropicMessages
from cattlegrid.calls.wire.gemini import GeminiGenerate
from cattlegrid.calls.wire.openai_chat import OpenAIChat
from cattlegrid.calls.wire.openai_chat_request import LimitField
from cattlegrid.calls.wire.openai_responses import OpenAIResponses
from cattlegrid.calls.wire.stream import StreamDecoder
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.messages import ModelRequest, ModelResponse

WireName = Literal["openai", "openai-responses", "anthropic", "gemini"]
WIRE_NAMES: Final[tuple[WireName, ...]] = ("openai", "openai-responses", "anthropic", "gemini")


class Wire(Protocol):
    """One wire format: pure, and total over whatever a provider sends."""

    def url(self, base_url: str, model: str, *, stream: bool) -> str:
        """Where a call goes. Raises ModelRejected for a model that cannot be part of an address."""
        ...

    def headers(self, api_key: str) -> Mapping[str, str]:
        """What every call carries; an empty key leaves the header of the key away."""
        ...

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        """The body, UTF-8 JSON. Raises ModelRejected for what cannot be encoded."""
        ...

    def decode(self, body: bytes, bound: UsageBound) -> ModelResponse:
        """The answer in the body of a call that did not stream. Raises ModelError."""
        ...

    def decoder(self, bound: UsageBound) -> StreamDecoder:
        """The decoder of one streamed answer."""
        ...


def wire_of(name: WireName, *, limit_field: LimitField = "max_completion_tokens") -> Wire:
    """A codec with caches of its own; one serves a client. `limit_field` is for chat completions."""
    match name:
        case "openai":
            return OpenAIChat(limit_field=limit_field)
        case "openai-responses":
            return OpenAIResponses()
        case "anthropic":
            return AnthropicMessages()
        case "gemini":
            return GeminiGenerate()
