"""Turns what happens in a run into server-sent events (WHATWG HTML, section 9.2), for as long as somebody listens.

    id: 12.1
    event: message.delta
    data: {"step_id": "stp_...", "text": "Hel"}

The client that leaves ends its watching and nothing else. A client that is slow holds up nobody: it pulls from what the
run has told. Every `heartbeat_s` a comment says that the connection lives. The last event, `run.finished`, carries the
answer and its cost. While a run waits for a person the stream stays open, unless the process is to stop.

Other doors have tellers of their own, which say the same in another protocol's events.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final, Protocol

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from cattlegrid.core.errors import CattlegridError
from cattlegrid.runtime.streams import Place, StreamItem
from cattlegrid.server import views
from cattlegrid.server.auth import Call
from cattlegrid.server.errors import problem, status_of

MEDIA_TYPE: Final = "text/event-stream"
_RETRY_MS: Final = 1_000
_HEARTBEAT: Final = b": still here\n\n"


class Teller(Protocol):
    """Says in the events of one protocol what happens in one run, to one client. Empty bytes say nothing."""

    @property
    def resting(self) -> bool:
        """Whether the run waits for a person."""
        ...

    @property
    def over(self) -> bool:
        """Whether the stream has said all that it will, though the run may go on."""
        ...

    async def begin(self) -> bytes:
        """What comes first."""
        ...

    async def tell(self, item: StreamItem) -> bytes:
        """What one item becomes."""
        ...

    def broken(self, error: Mapping[str, str | None]) -> bytes:
        """What comes last when the stream breaks; `error` is as in a refusal."""
        ...

    def stopped(self) -> bytes:
        """What comes last when the process stops while the run waits for a person."""
        ...


def stream(
    call: Call,
    run_id: str,
    after: Place,
    *,
    teller: Teller | None = None,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """The events of a run after a place. The caller has made sure that the principal may see it."""
    # Proxies that would collect an answer before they pass it on are asked not to.
    sent = {"X-Accel-Buffering": "no", "Location": f"/runs/{run_id}", **(headers or {})}
    told = _told(call, run_id, after, teller or _Native(call, run_id))
    return StreamingResponse(told, headers=sent, media_type=MEDIA_TYPE)


def event(
    type_: str, data: Mapping[str, object], *, id: str | None = None, retry: int | None = None
) -> bytes:
    """One event whose data is JSON; without `type_`, its name is left out."""
    return format_sse_event(data_str=views.encode(data).decode(), event=type_ or None, id=id, retry=retry)


async def _told(call: Call, run_id: str, after: Place, teller: Teller) -> AsyncIterator[bytes]:
    try:
        async for piece in _pieces(call, run_id, after, teller):
            if piece:
                yield piece
    except CattlegridError as error:
        said = problem(status_of(error), error.code, error.message, correlation_id=call.correlation_id)
        yield teller.broken(said)
    except Exception as error:  # noqa: BLE001 - the top of a stream: the answer has begun, so it is said in-band
        structlog.get_logger("cattlegrid.http").error(
            "stream_broke", error=type(error).__name__, correlation_id=call.correlation_id
        )
        status, message = HTTPStatus.INTERNAL_SERVER_ERROR, "The stream broke. Resume it."
        yield teller.broken(problem(status, "internal", message, correlation_id=call.correlation_id))


async def _pieces(call: Call, run_id: str, after: Place, teller: Teller) -> AsyncIterator[bytes]:
    """What the teller says and heartbeats, in the order in which they come."""
    services = call.services
    items = services.engine.follow(run_id, call.principal, after)
    coming = asyncio.ensure_future(anext(items))
    beat = asyncio.ensure_future(services.clock.sleep(services.settings.heartbeat_s))
    stopping = asyncio.ensure_future(services.engine.draining.wait())
    try:
        yield await teller.begin()
        while not (teller.resting and stopping.done() and not coming.done()):
            waited = {coming, beat} if stopping.done() else {coming, beat, stopping}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if beat.done():
                yield _HEARTBEAT
                beat = asyncio.ensure_future(services.clock.sleep(services.settings.heartbeat_s))
            if coming.done():
                with contextlib.suppress(StopAsyncIteration):
                    yield await teller.tell(coming.result())
                    if not teller.over:
                        coming = asyncio.ensure_future(anext(items))
                        continue
                return
        yield teller.stopped()
    finally:
        for task in (coming, beat, stopping):
            task.cancel()
        await asyncio.gather(coming, beat, stopping, return_exceptions=True)
        await items.aclose()


class _Native:
    """Says it in our own events."""

    def __init__(self, call: Call, run_id: str) -> None:
        self._call = call
        self._run_id = run_id
        self.resting = False
        self.over = False
        # How soon to come back is said with the first event: as a block of its own, some clients take it for an event.
        self._retry: int | None = _RETRY_MS

    async def begin(self) -> bytes:
        return b""

    async def tell(self, item: StreamItem) -> bytes:
        if item.type in {"run.held", "approval.decided", "run.restarted"}:
            self.resting = item.type == "run.held"
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
        return event(item.type, data, id=item.id, retry=retry)

    def broken(self, error: Mapping[str, str | None]) -> bytes:
        shown = ("code", "message", "correlation_id")
        return event("error", {name: error[name] for name in shown})

    def stopped(self) -> bytes:
        return b""
