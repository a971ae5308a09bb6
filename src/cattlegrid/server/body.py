"""Takes in the body of a request, within bounds, and looks whether it can be read at all, before any route sees it.

    413  more than `max_bytes`: said without reading it when the length is declared, else once that many bytes have come
    408  not complete in time
    415  a body that does not say it is JSON
    400  no JSON, no UTF-8, text that is no Unicode (half of a surrogate pair), or nested too deep

A pure ASGI middleware. What passes is handed on in one piece.
"""

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final, cast

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cattlegrid.server.edge import BYTES_IN
from cattlegrid.server.errors import CORRELATION, answer, answer_http

MAX_DEPTH: Final = 32
_SWALLOWED_BYTES: Final = 16 * 1024 * 1024
"""Up to this, what is still on its way is thrown away so that the client hears of the refusal; above, we hang up."""
_SWALLOW_S: Final = 10.0


class Bodies:
    """See the module."""

    def __init__(self, app: ASGIApp, max_bytes: int, wait_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        try:
            if declared.isdecimal() and int(declared[:20]) > self._max_bytes:
                raise _TooLong(hang_up=int(declared[:20]) > _SWALLOWED_BYTES)
            async with asyncio.timeout(self._wait_s):
                body = await self._read(receive)
            if body is None:
                return  # the client has left
            scope[BYTES_IN] = len(body)
            if body:
                _check(body, headers.get("content-type", ""))
        except TimeoutError:
            late = "The body of the request did not arrive in time."
            response = answer(408, "timeout", late, correlation_id=scope[CORRELATION])
            await response(scope, receive, send)
        except _Unacceptable as refused:
            await refused.respond(scope, receive, send)
        else:
            await self._app(scope, _Handed(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        chunks: list[bytes] = []
        size_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size_bytes += len(chunk)
            if size_bytes > self._max_bytes:
                raise _TooLong(hang_up=True)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


class _Handed:
    """A `receive` that gives the whole body at once, then what the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Unacceptable(Exception):
    """Why a body goes no further."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self._status = status
        self._message = message

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request."""
        correlation_id: str = scope[CORRELATION]
        response = answer_http(self._status, correlation_id)
        if self._message:
            response = answer(self._status, "invalid_request", self._message, correlation_id=correlation_id)
        await response(scope, receive, send)


class _TooLong(_Unacceptable):
    """More bytes than are taken."""

    def __init__(self, *, hang_up: bool) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._headers = {"Connection": "close"} if hang_up else {}

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse at once, then throw away what is still on its way, within bounds.

        A connection that is closed with bytes unread is reset, and the client might never see the answer.
        """
        response = answer_http(self._status, scope[CORRELATION], self._headers)
        await send({"type": "http.response.start", "status": self._status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        left_bytes = _SWALLOWED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SWALLOW_S):
                while left_bytes > 0 and (message := await receive()).get("more_body", False):
                    left_bytes -= len(message.get("body", b""))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check(body: bytes, content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _Unacceptable(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        value: object = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        # The parser's own words name a place, never the content.
        raise _Unacceptable(
            HTTPStatus.BAD_REQUEST, f"The body is not JSON in UTF-8. {_place(error)}"
        ) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()


def _too_deep() -> _Unacceptable:
    return _Unacceptable(HTTPStatus.BAD_REQUEST, f"The body is nested deeper than {MAX_DEPTH} levels.")


def _place(error: Exception) -> str:
    _, found, place = str(error).rpartition("(byte ")
    return f"The trouble is at byte {place.rstrip(')')}." if found and place.rstrip(")").isdecimal() else ""


def _depth(value: object) -> int:
    """How deep lists and objects are nested; walks level by level, without recursion."""
    depth = 0
    level: list[object] = [value]
    while level:
        inner: list[object] = []
        nested = False
        for part in level:
            if isinstance(part, dict):
                inner.extend(cast("dict[str, object]", part).values())
                nested = True
            elif isinstance(part, list):
                inner.extend(cast("list[object]", part))
                nested = True
        depth += nested
        level = inner
    return depth
