"""A collector on a loopback port, read with the official messages: the trace of a run of the reference agent is its journal."""

import asyncio
import contextlib
import gzip
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from cattlegrid.adapters.otlp import OtlpSender
from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.settings import load_settings
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.principal import Principal
from cattlegrid.journal.events import ApprovalDecision
from cattlegrid.runtime.requests import RunRequest, RunView
from cattlegrid.telemetry.metrics import Process
from cattlegrid.telemetry.spans import Span, SpanEvent, span_id, trace_id
from cattlegrid.telemetry.traces import Collector, CollectorUnavailable
from tests.unit.server.site import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
ANA = Principal(tenant="shop", user="ana@example.com")
STAFF = Principal(tenant="shop", user="staff@example.com", roles=frozenset({"operator", "approver"}))
SAID = "Order 17 came broken, I want my 79.90 back"


class LoopbackCollector:
    """Takes what is sent to it, and answers as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[dict[str, str]] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.answers: list[tuple[int, bytes, str]] = []
        """Status, body and one header, of the next answers; 200 when there are no more."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(head["content-length"]))
                status, content, header = self.answers.pop(0) if self.answers else (200, b"", "")
                self.heads.append({**head, "line": first})
                if status == 200:
                    plain = gzip.decompress(body) if head.get("content-encoding") == "gzip" else body
                    self.requests.append(ExportTraceServiceRequest.FromString(plain))
                more = f"{header}\r\n" if header else ""
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(content)}\r\n\r\n".encode() + content
                )
                await writer.drain()
        writer.close()

    @property
    def spans(self) -> list[WireSpan]:
        """Everything taken so far."""
        return [
            span
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
async def collector() -> AsyncGenerator[LoopbackCollector]:
    found = LoopbackCollector()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found


def plain(value: Any) -> object:  # noqa: ANN401 - a message of the wire
    """The value of an attribute."""
    kind = value.WhichOneof("value")
    return (
        [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
    )


def attributes(holder: Any) -> dict[str, object]:  # noqa: ANN401
    return {pair.key: plain(pair.value) for pair in holder.attributes}


@pytest.mark.requirement("telemetry:otlp")
async def test_the_trace_of_the_reference_agent_is_what_its_journal_says(
    collector: LoopbackCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPPORT_DB", str(tmp_path / "shop.db"))
    environ = {
        "CATTLEGRID_STATE": str(tmp_path / "state"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret",
        "OTEL_SERVICE_NAME": "shop",
    }
    settings = load_settings(ROOT, environ)
    async with open_project(settings) as project:
        await register_agents(project.registry, settings, only="support")
        engine = project.services.engine
        accepted = await engine.start("support", ANA, RunRequest(text=SAID))
        run = await engine.wait(accepted, STAFF, timeout_s=20)
        assert run.status == "held"
        await engine.decide(run.approvals[0].id, STAFF, ApprovalDecision.APPROVE)
        run = await engine.wait(accepted, STAFF, timeout_s=20)
        assert run.status == "completed"
        about = Process(rss_bytes=1, started_at=run.started_at, version="1", environment="test")
        metrics = project.services.metrics
        await until(lambda: 'cattlegrid_trace_runs_total{outcome="sent"} 1' in metrics.render(about))
        counted = f'cattlegrid_trace_spans_total{{outcome="taken"}} {len(collector.spans)}'
        assert counted in metrics.render(about)
    assert_same(collector.spans, run)
    head = collector.heads[0]
    assert head["line"].startswith("POST /v1/traces ")
    assert (head["content-type"], head["api-key"]) == ("application/x-protobuf", "s3cret")
    [group] = collector.requests[0].resource_spans
    told = attributes(group.resource)
    assert (told["service.name"], told["deployment.environment.name"]) == ("shop", "development")
    [scope] = group.scope_spans
    assert scope.scope.name == "cattlegrid"
    everything = b"".join(request.SerializeToString() for request in collector.requests)
    for word in (SAID, run.output, "ana@example.com", "s3cret"):
        assert word.encode() not in everything


def assert_same(spans: list[WireSpan], run: RunView) -> None:
    """Ids, parents, times, tokens and cost of a trace are those of the run's steps."""
    root, *steps = spans
    assert {span.trace_id for span in spans} == {trace_id(run.id)}
    assert (root.name, root.parent_span_id, root.span_id) == ("invoke_agent support", b"", span_id(run.id))
    assert [span.span_id for span in steps] == [span_id(step.id) for step in run.steps]
    assert {span.parent_span_id for span in steps} == {root.span_id}
    assert root.start_time_unix_nano == int(run.started_at.timestamp() * 1e6) * 1_000
    assert run.finished_at is not None
    assert abs(root.end_time_unix_nano / 1e9 - run.finished_at.timestamp()) < 1e-5
    for span, step in zip(steps, run.steps, strict=True):
        told = attributes(span)
        assert told["cattlegrid.step.id"] == step.id
        assert step.started_at is not None
        assert abs(span.start_time_unix_nano / 1e9 - step.started_at.timestamp()) < 1e-5
        took_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert step.duration_s - 0.001 <= took_s <= step.duration_s + 0.5
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
        assert span.status.code == Status.STATUS_CODE_UNSET
        if step.kind == "chat":
            assert step.usage is not None
            assert span.kind == WireSpan.SPAN_KIND_CLIENT
            assert told["gen_ai.operation.name"] == "chat"
            assert told["gen_ai.request.model"] == "gpt-4.1-mini"
            assert told["gen_ai.usage.input_tokens"] == step.usage.input_tokens
            assert told["gen_ai.usage.output_tokens"] == step.usage.output_tokens
            assert told["cattlegrid.cost.nano_usd"] == step.cost_nano_usd
        else:
            assert span.kind == WireSpan.SPAN_KIND_INTERNAL
            assert (span.name, told["gen_ai.tool.name"]) == (f"execute_tool {step.name}", step.name)
    told = attributes(root)
    assert told["cattlegrid.cost.nano_usd"] == run.cost_nano_usd
    assert told["gen_ai.conversation.id"] == run.session_id
    assert told["gen_ai.agent.version"] == run.bundle
    assert [event.name for event in root.events if event.name != "cattlegrid.guard"] == [
        "cattlegrid.held",
        "cattlegrid.decided",
    ]


SPAN = Span(
    trace_id=trace_id("run_1"),
    span_id=span_id("run_1"),
    name="invoke_agent \ud800 emoji 🐄",
    start_us=1,
    end_us=2,
    attributes={"text": "a\ud800b", "whole": 2**62, "real": 0.5, "yes": True, "list": ("a", "b")},
    events=(SpanEvent(name="cattlegrid.held", at_us=1, attributes={"n": 1}),),
    error="tool_failed",
)


@contextlib.asynccontextmanager
async def sending(collector: Collector) -> AsyncGenerator[OtlpSender]:
    sender = OtlpSender(collector, version="1.2.3")
    try:
        yield sender
    finally:
        await sender.close()


@pytest.mark.requirement("telemetry:otlp")
async def test_every_kind_of_value_arrives_compressed_or_not(collector: LoopbackCollector) -> None:
    for compressed in (False, True):
        settings = Collector(url=f"{collector.url}/v1/traces", compressed=compressed)
        async with sending(settings) as sender:
            assert await sender.send([SPAN, SPAN]) == 2
        span = collector.spans[-1]
        assert attributes(span) == {
            "text": "a?b",
            "whole": 2**62,
            "real": 0.5,
            "yes": True,
            "list": ["a", "b"],
        }
        assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "tool_failed")
        assert [event.name for event in span.events] == ["cattlegrid.held"]


@pytest.mark.requirement("telemetry:otlp")
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_collector_that_is_busy_is_asked_again_when_it_says(
    status: int, collector: LoopbackCollector
) -> None:
    collector.answers.append((status, b"", "Retry-After: 7"))
    async with sending(Collector(url=f"{collector.url}/v1/traces")) as sender:
        with pytest.raises(CollectorUnavailable) as refused:
            await sender.send([SPAN])
        assert (refused.value.detail, refused.value.retry_after_s) == (f"status_{status}", 7.0)
        assert await sender.send([SPAN]) == 1


@pytest.mark.requirement("telemetry:otlp")
async def test_what_is_refused_for_good_is_told_by_its_number(collector: LoopbackCollector) -> None:
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 1
    collector.answers += [
        (200, partial.SerializeToString(), ""),
        (400, b"", ""),
        (302, b"", "Location: http://127.0.0.1:1/"),
        (200, b"\xff\xff", ""),
    ]
    async with sending(Collector(url=f"{collector.url}/v1/traces")) as sender:
        assert [await sender.send([SPAN, SPAN]) for _ in range(4)] == [1, 0, 0, 2]


async def test_a_collector_that_is_not_there_is_unavailable() -> None:
    async with sending(Collector(url="http://127.0.0.1:1/v1/traces", timeout_s=1.0)) as sender:
        with pytest.raises(CollectorUnavailable):
            await sender.send([SPAN])


@pytest.mark.requirement("telemetry:variables")
def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cattlegrid\[otlp\]'"):
        OtlpSender(Collector(url="http://127.0.0.1:4318/v1/traces"), version="1")
