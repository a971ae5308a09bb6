"""The codec of Gemini's `generateContent` and `streamGenerateContent`; see `wire.formats.Wire`."""

import re
from collections.abc import Mapping
from typing import Final

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.gemini_request import GeminiEncoder
from cattlegrid.calls.wire.gemini_response import GeminiAnswer
from cattlegrid.calls.wire.stream import StreamDecoder, whole
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import ModelRequest, ModelResponse

_VERSIONED: Final = re.compile(r".*/v\d[a-z0-9]*")
_MODEL: Final = re.compile(r"(?:models/|tunedModels/)?([A-Za-z0-9][A-Za-z0-9._-]*)")


class GeminiGenerate:
    """`POST /v1beta/models/MODEL:generateContent`, or `:streamGenerateContent` with server-sent events."""

    def __init__(self) -> None:
        self._encoder = GeminiEncoder()

    def url(self, base_url: str, model: str, *, stream: bool) -> str:
        """The base as Google's own clients take it, without the version, or with it.

        Raises:
            ModelRejected: the model's name has characters that do not belong into an address.
        """
        if not _MODEL.fullmatch(model):
            raise model_error(ModelRejected, f"{model!r} is no name of a Gemini model")
        base = base_url.rstrip("/")
        base = base if _VERSIONED.fullmatch(base) else base + "/v1beta"
        path = model if "/" in model else f"models/{model}"
        return f"{base}/{path}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": api_key} if api_key else {}

    def encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return self._encoder.encode(request)

    def decode(self, body: bytes, bound: UsageBound) -> ModelResponse:
        return whole(GeminiAnswer(bound), body)

    def decoder(self, bound: UsageBound) -> StreamDecoder:
        return StreamDecoder(GeminiAnswer(bound))
