"""Turns what happens in a run into server-sent events (WHATWG HTML, section 9.2), for as long as somebody listens.

    id: 12.1
    event: message.delta
    data: {"step_id": "stp_...", "text": "Hel"}

The client that leaves ends its watching and nothing else. A client that is slow holds up nobody: it pulls from what the
run has told. Every `heartbeat_s` a comment says that the connection lives. The last event, `run.finished`, carries the
answer and its cost. While a run waits for a person the stream stays open, unless the process is to stop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from cattlegrid.core.errors import CattlegridError
from cattlegrid.runtime.streams import Place, StreamItem
from cattlegrid.server import views
from cattlegrid.server.auth import Call

MEDIA_TYPE: Final = "text/event-stream"
_RETRY_MS: Final = 1_000
_HEARTBEAT: Final = b": still here\n\n"


def stream(
    call: Call, run_id: str, after: Place, *, headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """The events of a run after a place. The caller has made sure that the principal may see it."""
    # Proxies that would collect an answer before they pass it on are asked not to.
    sent = {"X-Accel-Buffering": "no", "Location": f"/runs/{run_id}", **(headers or {})}
    return StreamingResponse(_told(call, run_id, after), headers=sent, media_type=MEDIA_TYPE)


async def _told(call: Call, run_id: str, after: Place) -> AsyncIterator[bytes]:
    watch = _Watch(call, run_id, after)
    try:
        async for piece in watch.pieces():
            yield piece
    except CattlegridError as error:
        yield _event("error", {"code": error.code, "message": error.message, **watch.named})
    except Exception as error:  # noqa: BLE001 - the top of a stream: the answer has begun, so it is said in-band
        structlog.get_logger("cattlegrid.http").error(
            "stream_broke", error=type(error).__name__, **watch.named
        )
        yield _event("error", {"code": "internal", "message": "The stream broke. Resume it.", **watch.named})


class _Watch:
    """One client's watching of one run."""

    def __init__(self, call: Call, run_id: str, after: Place) -> None:
        self._call = call
        self._run_id = run_id
        self._items = call.services.engine.follow(run_id, call.principal, after)
        self._held = False
        # How soon to come back is said with the first event: as a block of its own, some clients take it for an event.
        self._retry: int | None = _RETRY_MS
        self.named = {"correlation_id": call.correlation_id}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Events and heartbeats, in the order in which they come."""
        services = self._call.services
        coming = asyncio.ensure_future(anext(self._items))
        beat = asyncio.ensure_future(services.clock.sleep(services.settings.heartbeat_s))
        stopping = asyncio.ensure_future(services.engine.draining.wait())
        try:
            while not (self._held and stopping.done() and not coming.done()):
                waited = {coming, beat} if stopping.done() else {coming, beat, stopping}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if beat.done():
                    yield _HEARTBEAT
                    beat = asyncio.ensure_future(services.clock.sleep(services.settings.heartbeat_s))
                if coming.done():
                    with contextlib.suppress(StopAsyncIteration):
                        yield await self._piece(coming.result())
                        coming = asyncio.ensure_future(anext(self._items))
                        continue
                    return
        finally:
            for task in (coming, beat, stopping):
                task.cancel()
            await asyncio.gather(coming, beat, stopping, return_exceptions=True)
            await self._items.aclose()

    async def _piece(self, item: StreamItem) -> bytes:
        if item.type in {"run.held", "approval.decided", "run.restarted"}:
            self._held = item.type == "run.held"
        data = dict(item.data)
        if item.type == "run.held" and views.is_staff(self._call.principal):
            approval_id = str(data["approval_id"])
            view = await self._call.services.engine.reader.approval(approval_id, self._call.principal)
            data["arguments"] = views.arguments(view.arguments)
        elif item.type == "run.finished":
            run = await self._call.services.engine.reader.run(self._run_id, self._call.principal)
            data |= {
                "output": run.output,
                "cost_nano_usd": run.cost_nano_usd,
                "cost_usd": views.usd(run.cost_nano_usd),
            }
        retry, self._retry = self._retry, None
        return _event(item.type, data, id=item.id, retry=retry)


def _event(
    type_: str, data: Mapping[str, object], *, id: str | None = None, retry: int | None = None
) -> bytes:
    return format_sse_event(data_str=views.encode(data).decode(), event=type_, id=id, retry=retry)
