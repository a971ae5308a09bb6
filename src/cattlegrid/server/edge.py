"""The outermost layer around every request: names it, answers what nobody else has answered, logs one line.

A pure ASGI middleware. The line has ids, sizes and codes, never a query, a body or a path that the routes do not know.
"""

import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cattlegrid.core.errors import StoreUnavailable
from cattlegrid.server.errors import CORRELATION, answer_error, answer_unknown
from cattlegrid.server.services import Services

PROBES: Final = frozenset({"/health", "/live", "/ready", "/metrics", "/ping"})
"""Answered even while the process stops."""
KEY_ID: Final = "cattlegrid.key_id"
"""Where `auth` leaves the id of the caller's key in the ASGI scope."""
CREDENTIAL: Final = "cattlegrid.credential"
"""Where `auth` leaves the kind of what the caller has shown."""
BYTES_IN: Final = "cattlegrid.bytes_in"
"""Where `body` leaves the size of the request."""

_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OUR_ID: Final = re.compile(r"(ses|run|apr|key|stp|resp)_[0-9A-HJKMNP-TV-Z]{26}(_\d{1,6})?")
_CLIENT_LEFT: Final = 499
"""What the log says of a request whose client did not wait for the answer."""


class Edge:
    """See the module."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._log = structlog.get_logger("cattlegrid.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation_id = _correlation_id(scope) or self._services.ids.correlation()
        scope[CORRELATION] = correlation_id
        started_s = self._services.clock.monotonic_s()
        answered = _Answered(send, correlation_id, last=self._services.engine.leaving.is_set())
        try:
            if self._services.engine.draining.is_set() and scope["path"] not in PROBES:
                stopping = StoreUnavailable(
                    "The service is stopping. Try again in a moment.", retry_after_s=2.0
                )
                await answer_error(stopping, correlation_id)(scope, receive, answered.send)
            else:
                await self._app(scope, receive, answered.send)
        except Exception as error:  # noqa: BLE001 - the top of a request: the client gets a correlation id
            self._log.error(
                "request_broke",
                correlation_id=correlation_id,
                error=type(error).__name__,
                place=_where(error),
            )
            if not answered.status:
                await answer_unknown(correlation_id)(scope, receive, answered.send)
        finally:
            self._log.info(
                "request", **_line(scope, answered, self._services.clock.monotonic_s() - started_s)
            )


class _Answered:
    """Sends on, adds the headers that all answers have, and remembers what went out."""

    def __init__(self, send: Send, correlation_id: str, *, last: bool) -> None:
        self._send = send
        self._correlation_id = correlation_id
        self._last = last
        self.status = 0
        self.bytes_out = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Correlation-Id"] = self._correlation_id
            headers["X-Request-Id"] = self._correlation_id  # where OpenAI's clients look for it
            headers["Cache-Control"] = "no-store"
            headers["X-Content-Type-Options"] = "nosniff"
            if self._last:
                headers["Connection"] = "close"  # the client's next request goes to a process that stays
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)


def _correlation_id(scope: Scope) -> str:
    """The id that the client has given its request, if it is one that may be logged."""
    given = Headers(scope=scope).get("x-correlation-id", "")
    return given if _CORRELATION_ID.fullmatch(given) else ""


def _line(scope: Scope, answered: _Answered, duration_s: float) -> Mapping[str, Any]:
    route = getattr(scope.get("route"), "path", "")
    params: Mapping[str, object] = scope.get("path_params", {}) if route else {}
    ids = {
        name: value for name, value in params.items() if isinstance(value, str) and _OUR_ID.fullmatch(value)
    }
    return {
        "method": scope["method"],
        "route": route,
        "status": answered.status or _CLIENT_LEFT,
        "duration_ms": round(duration_s * 1_000, 2),
        "bytes_in": scope.get(BYTES_IN, 0),
        "bytes_out": answered.bytes_out,
        "correlation_id": scope[CORRELATION],
        "key_id": scope.get(KEY_ID, ""),
        "credential": scope.get(CREDENTIAL, ""),
        **ids,
    }


def _where(error: BaseException) -> str:
    """File and line where an exception was raised; its text may hold what a user wrote."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return "<".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))
