"""OpenTelemetry's variables: what they make of the export of traces, and what is said when they do not fit."""

import pytest

from cattlegrid.app.tracing import collector_of
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.telemetry.traces import Collector

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = {ENDPOINT: "http://127.0.0.1:4318"}


def collector(environ: dict[str, str]) -> Collector | None:
    return collector_of(environ, environment="staging", instance="host-1")


def given(environ: dict[str, str]) -> Collector:
    found = collector({**HERE, **environ})
    assert found is not None
    return found


@pytest.mark.requirement("telemetry:variables")
@pytest.mark.parametrize(
    "environ",
    [{}, {ENDPOINT: ""}, {**HERE, "OTEL_SDK_DISABLED": "true"}, {**HERE, "OTEL_TRACES_EXPORTER": "none"}],
    ids=["nothing", "empty", "disabled", "none"],
)
def test_without_a_collector_nothing_is_sent(environ: dict[str, str]) -> None:
    assert collector(environ) is None


@pytest.mark.requirement("telemetry:variables")
def test_the_standard_variables_say_where_and_how() -> None:
    found = given(
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%3Decret, x=1",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=ignored,team=blue%20one,deployment.environment.name=eu",
        }
    )
    assert found.url == "http://127.0.0.1:4318/v1/traces"
    assert found.headers == {"api-key": "s=ecret", "x": "1"}
    assert (found.timeout_s, found.compressed, found.content) == (2.5, True, False)
    assert found.resource["service.name"] == "shop"
    assert found.resource["team"] == "blue one"
    assert found.resource["deployment.environment.name"] == "eu"
    assert found.resource["service.instance.id"] == "host-1"


@pytest.mark.requirement("telemetry:variables")
def test_what_is_for_traces_alone_comes_first_and_is_taken_as_it_is() -> None:
    found = given(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector.example.com/otlp/custom",
            "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "b=2",
        }
    )
    assert (found.url, found.headers) == ("https://collector.example.com/otlp/custom", {"b": "2"})
    assert given({ENDPOINT: "http://127.0.0.1:4318/base/"}).url == "http://127.0.0.1:4318/base/v1/traces"


@pytest.mark.requirement("telemetry:privacy")
def test_content_is_sent_only_by_opting_in() -> None:
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert [given({name: value}).content for value in ("", "false", "1", "true", "True")] == [
        *(False, False, False),
        *(True, True),
    ]


@pytest.mark.requirement("telemetry:variables")
@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({ENDPOINT: "127.0.0.1:4318"}, "must be an address"),
        ({ENDPOINT: "ftp://127.0.0.1"}, "must be an address"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "`gzip` or `none`"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "milliseconds"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, "milliseconds"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "sesame"}, "name=value"),
    ],
)
def test_what_does_not_fit_is_said_with_what_to_do_and_without_the_value_of_a_header(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        collector({**HERE, **environ})
    assert "sesame" not in str(refused.value)
