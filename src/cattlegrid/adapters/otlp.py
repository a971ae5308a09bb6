"""Implements `SpanSink`: sends spans to a collector by OTLP over HTTP, as binary protobuf (opentelemetry.io, OTLP 1).

The messages are those of the official package `opentelemetry-proto`, the extra `otlp`; it is loaded when a sender is
made. 429, 502, 503 and 504 mean later, as does no answer; every other refusal is for good and is counted.
"""

import asyncio
import gzip
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import aiohttp

from cattlegrid.core.errors import ConfigurationError
from cattlegrid.telemetry.spans import Attributes, Span
from cattlegrid.telemetry.traces import Collector, CollectorUnavailable

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

MEDIA_TYPE: Final = "application/x-protobuf"
SCOPE: Final = "cattlegrid"
_LATER: Final = frozenset({429, 502, 503, 504})
_NANO_PER_MICRO: Final = 1_000
_GZIP_LEVEL: Final = 1
_ANSWER_BYTES: Final = 65_536


class OtlpSender:
    """A `SpanSink`. Opens its connection with the first batch, inside the event loop that sends it.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    def __init__(self, settings: Collector, *, version: str) -> None:
        self._settings = settings
        self._wire = _Wire(settings.resource, version)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, spans: Sequence[Span]) -> int:
        """See `SpanSink.send`."""
        # In a thread: a batch takes some ten milliseconds, which runs must not wait for.
        body = await asyncio.to_thread(self._body, spans)
        try:
            async with self._open_session().post(
                self._settings.url, data=body, allow_redirects=False
            ) as response:
                answer = await response.content.read(_ANSWER_BYTES)
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except TimeoutError as error:
            raise _unavailable("timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unavailable(type(error).__name__) from error
        if status in _LATER:
            raise _unavailable(f"status_{status}", float(retry_after) if retry_after.isdecimal() else None)
        if status != 200:
            return 0
        return max(0, len(spans) - self._wire.refused(answer))

    def _body(self, spans: Sequence[Span]) -> bytes:
        body = self._wire.encode(spans)
        return gzip.compress(body, _GZIP_LEVEL) if self._settings.compressed else body

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            encoding = {"Content-Encoding": "gzip"} if self._settings.compressed else {}
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "User-Agent": SCOPE,
                    **self._settings.headers,
                    "Content-Type": MEDIA_TYPE,
                    **encoding,
                },
            )
        return self._session


class _Wire:
    """The messages of OTLP."""

    def __init__(self, resource: Attributes, version: str) -> None:
        try:
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
            from opentelemetry.proto.common.v1 import common_pb2
            from opentelemetry.proto.resource.v1 import resource_pb2
            from opentelemetry.proto.trace.v1 import trace_pb2
        except ImportError as error:
            raise ConfigurationError(
                "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but what sends them is not installed: "
                "`pip install 'cattlegrid[otlp]'`, or set OTEL_TRACES_EXPORTER=none."
            ) from error
        self._service, self._trace = trace_service_pb2, trace_pb2
        self._about = resource_pb2.Resource()
        _put(self._about.attributes, resource)
        self._scope = common_pb2.InstrumentationScope(name=SCOPE, version=version)

    def encode(self, spans: Sequence[Span]) -> bytes:
        """One request with these spans."""
        request = self._service.ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.CopyFrom(self._about)
        inside = group.scope_spans.add()
        inside.scope.CopyFrom(self._scope)
        for span in spans:
            self._fill(inside.spans.add(), span)
        return request.SerializeToString()

    def refused(self, answer: bytes) -> int:
        """How many spans a collector that took the request has left out (OTLP, partial success)."""
        found = self._service.ExportTraceServiceResponse()
        try:
            found.ParseFromString(answer)
        except Exception:  # noqa: BLE001 - the package has an error of its own for each implementation
            return 0
        return found.partial_success.rejected_spans

    def _fill(self, wire: "WireSpan", span: Span) -> None:
        wire.trace_id, wire.span_id, wire.parent_span_id = span.trace_id, span.span_id, span.parent_id
        wire.name = _text(span.name)
        kinds = self._trace.Span.SpanKind
        wire.kind = kinds.SPAN_KIND_CLIENT if span.client else kinds.SPAN_KIND_INTERNAL
        wire.start_time_unix_nano = span.start_us * _NANO_PER_MICRO
        wire.end_time_unix_nano = span.end_us * _NANO_PER_MICRO
        _put(wire.attributes, span.attributes)
        for event in span.events:
            inside = wire.events.add()
            inside.name, inside.time_unix_nano = event.name, event.at_us * _NANO_PER_MICRO
            _put(inside.attributes, event.attributes)
        if span.error:
            wire.status.code = self._trace.Status.STATUS_CODE_ERROR
            wire.status.message = _text(span.error)


def _put(pairs: "RepeatedCompositeFieldContainer[KeyValue]", attributes: Attributes) -> None:
    """Fill in attributes in place: half the time of making messages and handing them over."""
    for name, value in attributes.items():
        pair = pairs.add()
        pair.key = name
        match value:
            case str():
                pair.value.string_value = _text(value)
            case bool():
                pair.value.bool_value = value
            case int():
                pair.value.int_value = value
            case float():
                pair.value.double_value = value
            case _:
                for item in value:
                    pair.value.array_value.values.add().string_value = _text(item)


def _text(value: str) -> str:
    """Text as it may be sent: half of a surrogate pair, as a model may have written it, becomes a question mark."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _unavailable(reason: str, retry_after_s: float | None = None) -> CollectorUnavailable:
    return CollectorUnavailable(
        "The collector of traces does not take them now.", detail=reason, retry_after_s=retry_after_s
    )
