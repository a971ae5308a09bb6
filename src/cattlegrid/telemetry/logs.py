"""Configures the logs of a process: one JSON object a line, with ids, sizes and words of the code, never a payload.

What may appear is decided here and not where something is logged: a field must be known, and its text must look like
an id or a word. Everything else is replaced by its size. Records of the standard library come through the same door:
of those that uvicorn writes the message is shown, since it writes about itself; of all others the place in the code,
and the template of the message where the values stand apart from it.
"""

import logging
import re
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import Processor, WrappedLogger

from cattlegrid.core.ports import Clock

_FIELDS: Final = frozenset(
    {
        *("event", "level", "at", "logger", "error", "code", "place", "template"),
        *("method", "route", "status", "duration_ms", "duration_s", "bytes_in", "bytes_out"),
        *(
            "correlation_id",
            "key_id",
            "credential",
            "session_id",
            "run_id",
            "step_id",
            "approval_id",
            "owner",
        ),
        *("agent", "bundle", "number", "tool", "model", "provider", "kind", "attempt", "job"),
        *(
            "count",
            "size_bytes",
            "position",
            "guard",
            "decision",
            "reason",
            "name",
            "port",
            "host",
            "version",
        ),
        *("environment", "seq", "epoch", "holder"),
    }
)
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/#<>{}+-]{0,160}|[a-z0-9_-]{1,64}#\d+ \([0-9a-f]{1,64}\)")
"""No blanks, so no sentences; but for the name of a bundle, `support#17 (3f9c2ab1)`."""
_SELF_TALK: Final = frozenset({"uvicorn", "uvicorn.error"})
_TEMPLATE: Final = re.compile(r"[A-Za-z0-9_ .,:;%()'/=<>+-]{0,200}")

Event = MutableMapping[str, Any]


def configure(*, clock: Clock, stream: TextIO, level: str = "info") -> None:
    """Send all logs of this process, the standard library's included, to a stream as JSON lines.

    Args:
        clock: where the time of a line comes from.
        stream: usually standard error.
        level: `debug`, `info`, `warning` or `error`; less is not written.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        _Timed(clock),
        only_words,
        _Encoded(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=_NamedLoggers(stream),
        cache_logger_on_first_use=False,
    )
    handler = StandardRecords()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)


def only_words(_logger: WrappedLogger, _method: str, event: Event) -> Event:
    """Leave numbers, ids and words of known fields; of everything else, leave the size."""
    return {name: _safe(name, value) for name, value in event.items()}


class StandardRecords(logging.Handler):
    """Hands records of the standard library's loggers on, without anything that a user may have written."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        fields: dict[str, object] = {"place": f"{record.filename}:{record.lineno}"}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        own = record.name in _SELF_TALK and not record.exc_info
        template = record.getMessage() if own else record.msg if record.args else ""
        if template:
            fields["template"] = str(template).partition("\n")[0]
        log.log(record.levelno, "log", **fields)


class _NamedLoggers:
    """Makes the loggers that write lines; the first argument of `get_logger` is the name."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *args: object) -> "_LineLogger":
        return _LineLogger(self._stream, str(args[0]) if args else "")


class _LineLogger:
    """Writes finished lines; what structlog wraps."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class _Timed:
    """Adds the time and the name of the logger."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, logger: WrappedLogger, method: str, event: Event) -> Event:
        return {
            "at": self._clock.now().isoformat(timespec="milliseconds"),
            "logger": getattr(logger, "name", ""),
            **event,
        }


class _Encoded:
    """The line itself."""

    def __call__(self, logger: WrappedLogger, method: str, event: Event) -> str:
        return msgspec.json.encode(event, enc_hook=repr).decode()


def _safe(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    shape = _TEMPLATE if name == "template" else _WORD
    if name in _FIELDS and isinstance(value, str) and shape.fullmatch(text):
        return text
    return f"<{len(text)} characters>"
