"""Turns OpenTelemetry's variables of the environment into the export of traces, or into none.

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT    the collector; without one nothing is sent
    OTEL_EXPORTER_OTLP_HEADERS, _TRACES_HEADERS, _TIMEOUT, _COMPRESSION, _PROTOCOL
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES                        what describes this service
    OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none                  nothing is sent
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true            spans carry what was said

(https://opentelemetry.io/docs/specs/otel/protocol/exporter/)
"""

from collections.abc import Mapping
from importlib import metadata
from typing import Final
from urllib.parse import unquote, urlsplit

from cattlegrid.core.errors import ConfigurationError
from cattlegrid.telemetry import names
from cattlegrid.telemetry.spans import Value
from cattlegrid.telemetry.traces import Collector

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "http/protobuf"
_MILLI: Final = 1_000


def collector_of(environ: Mapping[str, str], *, environment: str, instance: str) -> Collector | None:
    """Where traces go; None when nowhere.

    Args:
        environ: the variables of the process.
        environment: where this is, for example `production`.
        instance: the name of this process.

    Raises:
        ConfigurationError: a variable does not fit.
    """
    own = environ.get(_of_traces("ENDPOINT"), "")
    shared = environ.get(_ENDPOINT, "")
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none" or not (own or shared):
        return None
    protocol = _given(environ, "PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        raise ConfigurationError(
            f"Traces go by OTLP as `{_PROTOCOL}`, not as `{protocol}`: set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL} and "
            "the collector's port for it (mostly 4318), or OTEL_TRACES_EXPORTER=none."
        )
    compression = _given(environ, "COMPRESSION") or "none"
    if compression not in {"gzip", "none"}:
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_COMPRESSION is `gzip` or `none`, not `{compression}`.")
    named = environ.get("OTEL_SERVICE_NAME", "")
    about: dict[str, Value] = {
        names.SERVICE_NAME: "cattlegrid",
        names.SERVICE_VERSION: metadata.version("cattlegrid"),
        names.SERVICE_INSTANCE_ID: instance,
        names.ENVIRONMENT_NAME: environment,
    }
    # The environment has the last word.
    resource = {**about, **_pairs(environ, "OTEL_RESOURCE_ATTRIBUTES")}
    return Collector(
        url=_http(own, _of_traces("ENDPOINT"))
        if own
        else f"{_http(shared, _ENDPOINT).rstrip('/')}/v1/traces",
        headers=_pairs(environ, _of_traces("HEADERS")) or _pairs(environ, "OTEL_EXPORTER_OTLP_HEADERS"),
        timeout_s=_timeout_s(_given(environ, "TIMEOUT")),
        compressed=compression == "gzip",
        resource={**resource, names.SERVICE_NAME: named} if named else resource,
        content=environ.get(names.CAPTURE_CONTENT, "").lower() == "true",
    )


def _of_traces(name: str) -> str:
    return f"OTEL_EXPORTER_OTLP_TRACES_{name}"


def _given(environ: Mapping[str, str], name: str) -> str:
    """A setting of traces, else the one of all signals."""
    return environ.get(_of_traces(name), "") or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _http(url: str, variable: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{variable} must be an address such as http://127.0.0.1:4318.")
    return url


def _pairs(environ: Mapping[str, str], variable: str) -> dict[str, str]:
    """`key=value,key2=value2`, percent-encoded like W3C baggage. Values may be secrets and are not repeated."""
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in environ.get(variable, "").split(","))):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"{variable} must be written as `name=value,name2=value2`.")
        found[unquote(name.strip())] = unquote(value.strip())
    return found


def _timeout_s(text: str) -> float:
    if not text:
        return 10.0
    if not text.isdecimal() or not 0 < int(text) <= 600 * _MILLI:
        raise ConfigurationError("OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds from 1 to 600000.")
    return int(text) / _MILLI
