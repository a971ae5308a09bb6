"""The codec of OpenAI chat completions, which most providers and local servers speak as well, in one place.

`ChatEncoder` makes the body of a request, `decode` reads a whole answer and `StreamDecoder` a streamed one;
`usage_bound` fixes, before a call is made, what stands in for usage that is not reported; `error_from_response` reads
everything that is no answer.
"""

from collections.abc import Mapping

from cattlegrid.calls.wire.errors import error_from_response, model_error
from cattlegrid.calls.wire.openai_chat_request import ChatEncoder, LimitField, encode_message
from cattlegrid.calls.wire.openai_chat_response import StreamDecoder, decode
from cattlegrid.calls.wire.usage import UsageBound, usage_bound
from cattlegrid.core.messages import ModelRequest, ModelResponse

__all__ = [
    "ChatEncoder",
    "LimitField",
    "OpenAIChat",
    "StreamDecoder",
    "UsageBound",
    "decode",
    "encode_message",
    "error_from_response",
    "model_error",
    "usage_bound",
]


class OpenAIChat:
    """`POST /chat/completions`; see `wire.formats.Wire`."""

    def __init__(self, *, limit_field: LimitField = "max_completion_tokens") -> None:
        self._encoder = ChatEncoder(limit_field=limit_field)

    def url(self, base_url: str, model: str, *, stream: bool) -> str:
        return f"{base_url.rstrip('/')}/chat/completions"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return self._encoder.encode(request, stream=stream)

    def decode(self, body: bytes, bound: UsageBound) -> ModelResponse:
        return decode(body, bound)

    def decoder(self, bound: UsageBound) -> StreamDecoder:
        return StreamDecoder(bound)
