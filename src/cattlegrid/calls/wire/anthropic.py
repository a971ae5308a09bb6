"""The codec of Anthropic's messages; see `wire.formats.Wire`."""

from collections.abc import Mapping

from cattlegrid.calls.wire.anthropic_request import AnthropicEncoder
from cattlegrid.calls.wire.anthropic_response import AnthropicAnswer
from cattlegrid.calls.wire.stream import StreamDecoder, whole
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.messages import ModelRequest, ModelResponse

_VERSION = "2023-06-01"


class AnthropicMessages:
    """`POST /v1/messages`."""

    def __init__(self) -> None:
        self._encoder = AnthropicEncoder()

    def url(self, base_url: str, model: str, *, stream: bool) -> str:
        """The base as Anthropic's own clients take it, without the version, or with it."""
        base = base_url.rstrip("/")
        return f"{base if base.endswith('/v1') else base + '/v1'}/messages"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"anthropic-version": _VERSION, **({"x-api-key": api_key} if api_key else {})}

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return self._encoder.encode(request, stream=stream)

    def decode(self, body: bytes, bound: UsageBound) -> ModelResponse:
        return whole(AnthropicAnswer(bound), body)

    def decoder(self, bound: UsageBound) -> StreamDecoder:
        return StreamDecoder(AnthropicAnswer(bound))
