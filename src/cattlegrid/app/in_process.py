"""Turns requests of httpx2 into calls of an ASGI app in this process, with answers that stream as they are made.

The transport that comes with httpx2 hands an answer over once it is whole, which no live stream can wait for.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp, Message, Scope

_CLIENT = ("127.0.0.1", 0)


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Calls `app` for each request; an answer that is closed early looks to the app like a client that has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, as soon as it has begun. Raises what the app raises before that."""
        exchange = _Exchange(await request.aread())
        task = asyncio.ensure_future(self._app(_scope(request), exchange.receive, exchange.send))
        task.add_done_callback(exchange.finished)
        try:
            start = await exchange.started
        except asyncio.CancelledError:
            await _end(task)
            raise
        return httpx2.Response(
            start["status"], headers=start.get("headers", []), stream=_Body(exchange, task)
        )


class _Exchange:
    """Both directions between one request and the app."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self.started.done():
                self.started.set_result(message)
        elif message["type"] == "http.response.body":
            if message.get("body"):
                self.chunks.put_nowait(message["body"])
            if not message.get("more_body", False):
                self.chunks.put_nowait(None)

    def finished(self, task: "asyncio.Future[None]") -> None:
        """The app has returned, with or without an answer."""
        error = None if task.cancelled() else task.exception()
        if not self.started.done():
            self.started.set_exception(error or httpx2.RemoteProtocolError("The app gave no answer."))
        self.chunks.put_nowait(None)


class _Body(httpx2.AsyncByteStream):
    """The pieces of an answer as the app sends them."""

    def __init__(self, exchange: _Exchange, task: "asyncio.Future[None]") -> None:
        self._exchange = exchange
        self._task = task

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._exchange.chunks.get()) is not None:
            yield chunk

    async def aclose(self) -> None:
        self._exchange.left.set()
        await _end(self._task)


async def _end(task: "asyncio.Future[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _scope(request: httpx2.Request) -> Scope:
    raw_path = request.url.raw_path
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": _CLIENT,
        "root_path": "",
    }
