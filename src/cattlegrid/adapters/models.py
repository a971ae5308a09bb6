"""Implements `ModelClient` over HTTP, for every wire format that `calls/wire` knows.

One client is one endpoint and one pool of connections; bytes and meaning are the business of `calls/wire`. Nothing of
the HTTP library leaves this module: what goes wrong before the answer begins is `ModelUnavailable`, what breaks in its
middle is `ModelProtocolError`, what takes too long is `ModelTimeout`.
"""

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from cattlegrid.calls.ports import OnDelta
from cattlegrid.calls.wire.errors import error_from_response, model_error
from cattlegrid.calls.wire.formats import WireName, wire_of
from cattlegrid.calls.wire.openai_chat_request import LimitField
from cattlegrid.calls.wire.stream import StreamDecoder
from cattlegrid.calls.wire.usage import UsageBound, usage_bound
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ConfigurationError, ModelProtocolError, ModelTimeout, ModelUnavailable
from cattlegrid.core.messages import ModelRequest, ModelResponse, TextDelta
from cattlegrid.core.ports import Clock

_ERROR_BYTES: Final = 65_536
_END_OF_STREAM_S: Final = 0.25
"""How long a finished stream may take to end its response, so that the connection can serve again."""
_OPENAI_HOSTS: Final = (".openai.com", ".azure.com")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is asked, and how long it may take."""

    name: str
    """A short name for records and metrics, for example `openai`."""
    base_url: str
    """As the provider's own clients take it, for example `https://api.openai.com/v1`, `https://api.anthropic.com`."""
    wire: WireName = "openai"
    """The format; `openai` is chat completions, which most providers and local servers speak."""
    connect_s: float = 5.0
    """The longest wait for a connection, TLS included."""
    first_byte_s: float = 20.0
    """The longest wait for a stream to begin. An answer that comes whole has the deadline alone."""
    between_chunks_s: float = 15.0
    """The longest silence inside a stream."""
    response_bytes: int = 8 * 1024 * 1024
    connections: int = 256
    limit_field: LimitField | None = None
    """How chat completions name the limit of the output; None: as OpenAI for its hosts, the older name elsewhere."""


class HttpModelClient:
    """A `ModelClient`. Opens its pool with the first call, inside the event loop that makes it.

    Raises:
        ConfigurationError: the base URL is no HTTP address.
    """

    def __init__(self, endpoint: Endpoint, *, api_key: str, clock: Clock) -> None:
        self._settings = endpoint
        self._api_key = api_key
        self._clock = clock
        self._wire = wire_of(endpoint.wire, limit_field=endpoint.limit_field or _limit_field(endpoint))
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def endpoint(self) -> str:
        return self._settings.name

    async def chat(
        self, request: ModelRequest, *, deadline: Deadline, on_delta: OnDelta | None
    ) -> ModelResponse:
        """See `ModelClient.chat`. A cancelled call closes its connection at once."""
        streamed = on_delta is not None
        url = self._wire.url(self._settings.base_url, request.model, stream=streamed)
        body = self._wire.encode(request, stream=streamed)
        bound = usage_bound(request, len(body))
        alarm = _Alarm(deadline.remaining_s(self._clock))
        begun = False
        try:
            async with alarm.timer:
                if on_delta is not None:
                    alarm.allow(self._settings.first_byte_s, "no first byte")
                response = await self._open_session().post(url, data=body, allow_redirects=False)
                begun = True
                try:
                    return await self._answer(response, bound, on_delta, alarm)
                finally:
                    # Releases nothing twice: a response that was read to its end has given its connection back.
                    response.close()
        except aiohttp.ConnectionTimeoutError as error:
            raise model_error(
                ModelUnavailable, f"no connection within {self._settings.connect_s} s"
            ) from error
        except TimeoutError as error:
            raise model_error(ModelTimeout, alarm.reason) from error
        except (aiohttp.ClientError, OSError) as error:
            broken = begun or isinstance(error, aiohttp.ClientResponseError)
            kind = ModelProtocolError if broken else ModelUnavailable
            raise model_error(kind, f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close the pool; later calls find the model unavailable."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _answer(
        self,
        response: aiohttp.ClientResponse,
        bound: UsageBound,
        on_delta: OnDelta | None,
        alarm: "_Alarm",
    ) -> ModelResponse:
        if response.status != 200:
            body = await self._body(response, most_bytes=_ERROR_BYTES, cut=True)
            raise error_from_response(response.status, response.headers, body, now=self._clock.now())
        if on_delta is None:
            return self._wire.decode(
                await self._body(response, most_bytes=self._settings.response_bytes), bound
            )
        if response.content_type == "application/json":
            whole = self._wire.decode(
                await self._body(response, most_bytes=self._settings.response_bytes), bound
            )
            if whole.message.text:
                on_delta(TextDelta(whole.message.text))
            return whole
        return await self._stream(response, self._wire.decoder(bound), on_delta, alarm)

    async def _stream(
        self,
        response: aiohttp.ClientResponse,
        decoder: StreamDecoder,
        on_delta: OnDelta,
        alarm: "_Alarm",
    ) -> ModelResponse:
        left = self._settings.response_bytes
        while not decoder.done:
            alarm.allow(self._settings.between_chunks_s, "the stream stalled")
            piece = await response.content.readany()
            if not piece:
                break
            left -= len(piece)
            if left < 0:
                raise self._too_long()
            for delta in decoder.feed(piece):
                on_delta(delta)
        answer = decoder.finish()
        await _read_end(response, within_s=min(_END_OF_STREAM_S, alarm.silence()))
        return answer

    async def _body(self, response: aiohttp.ClientResponse, *, most_bytes: int, cut: bool = False) -> bytes:
        pieces: list[bytes] = []
        left = most_bytes
        while piece := await response.content.readany():
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                if cut:
                    break
                raise self._too_long()
        return b"".join(pieces)

    def _too_long(self) -> ModelProtocolError:
        return model_error(
            ModelProtocolError, f"an answer of more than {self._settings.response_bytes} bytes"
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise model_error(ModelUnavailable, "the client is closed")
        if self._session is None:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "cattlegrid",
                **self._wire.headers(self._api_key),
            }
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._settings.connections, keepalive_timeout=30.0, ttl_dns_cache=300
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(sock_connect=self._settings.connect_s),
            )
        return self._session


class _Alarm:
    """The deadline of a call, and the shorter wait that is allowed at the moment."""

    def __init__(self, remaining_s: float) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._ends_s = self._now_s() + remaining_s
        self.timer = asyncio.timeout_at(self._ends_s)
        self.reason = _DEADLINE

    def allow(self, wait_s: float, reason: str) -> None:
        """From now, wait so long at most, and never past the deadline."""
        until_s = self._now_s() + wait_s
        sooner = until_s < self._ends_s
        self.reason = f"{reason} for {wait_s} s" if sooner else _DEADLINE
        self.timer.reschedule(until_s if sooner else self._ends_s)

    def silence(self) -> float:
        """Nothing ends the call any more; the seconds that were left."""
        self.timer.reschedule(None)
        return max(0.0, self._ends_s - self._now_s())


_DEADLINE: Final = "the deadline passed"


async def _read_end(response: aiohttp.ClientResponse, *, within_s: float) -> None:
    """Wait a moment for the end of a response whose answer is complete; without it the connection is not reused."""
    try:
        async with asyncio.timeout(within_s):
            while not response.content.at_eof():
                await response.content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return


def _limit_field(endpoint: Endpoint) -> LimitField:
    """How a host names the limit of the output. Raises ConfigurationError."""
    try:
        parts = urlsplit(endpoint.base_url)
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        host, scheme = None, ""
    if not host or scheme not in {"http", "https"}:
        raise ConfigurationError(
            "The address of the model is no HTTP address.",
            detail=f"{endpoint.name}: {endpoint.base_url!r}; write, for example, https://api.openai.com/v1",
        )
    return "max_completion_tokens" if f".{host}".endswith(_OPENAI_HOSTS) else "max_tokens"
