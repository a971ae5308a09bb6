"""The codec of OpenAI's responses; see `wire.formats.Wire`."""

from collections.abc import Mapping

from cattlegrid.calls.wire.openai_responses_request import ResponsesEncoder
from cattlegrid.calls.wire.openai_responses_response import ResponsesAnswer
from cattlegrid.calls.wire.stream import StreamDecoder, whole
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.messages import ModelRequest, ModelResponse


class OpenAIResponses:
    """`POST /responses`."""

    def __init__(self) -> None:
        self._encoder = ResponsesEncoder()

    def url(self, base_url: str, model: str, *, stream: bool) -> str:
        return f"{base_url.rstrip('/')}/responses"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return self._encoder.encode(request, stream=stream)

    def decode(self, body: bytes, bound: UsageBound) -> ModelResponse:
        return whole(ResponsesAnswer(bound), body)

    def decoder(self, bound: UsageBound) -> StreamDecoder:
        return StreamDecoder(ResponsesAnswer(bound))
