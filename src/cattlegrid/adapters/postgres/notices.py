"""Tells who listens what other processes have written, and tells other processes what this one has.

One NOTIFY names all streams of some milliseconds, so that a busy process costs its neighbours little; it is a statement
of its own after the commit, because one within it would make all commits of the server wait for each other. Where
nobody can LISTEN (behind a pooler) the tables are asked twice a second instead.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from psycopg import Error

from cattlegrid.adapters.ending import until_cancelled
from cattlegrid.adapters.postgres.connections import Connections
from cattlegrid.core.errors import StoreUnavailable
from cattlegrid.journal.notices import Notice, Notices

_LOG: Final = logging.getLogger(__name__)
_CHANNEL: Final = "cattlegrid"
_GATHER_S: Final = 0.02
_POLL_S: Final = 0.5
_AGAIN_S: Final = 1.0
_MOST_BYTES: Final = 7_800
"""PostgreSQL takes less than 8000 bytes."""
_EMPTY_BYTES: Final = 64
_NOTIFY: Final = "SELECT pg_notify('cattlegrid', $1)"
_LAST: Final = "SELECT cattlegrid.horizon(), (SELECT coalesce(max(position), 0) FROM cattlegrid.inbox)"
_MOVED: Final = (
    "SELECT DISTINCT h.stream FROM cattlegrid.events AS e JOIN cattlegrid.heads AS h ON h.id = e.stream_id "
    "WHERE e.position > $1 AND e.position <= $2"
)
_POSTED: Final = "SELECT DISTINCT stream FROM cattlegrid.inbox WHERE position > $1 AND position <= $2"


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    """What one notification says; `origin` tells a process its own."""

    origin: str
    events: tuple[str, ...]
    inbox: tuple[str, ...]


_decode: Final = msgspec.json.Decoder(_Payload).decode


class Post:
    """Both directions, for one store. For one event loop."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._origin = os.urandom(6).hex()
        self._local = Notices()
        self._events: set[str] = set()
        self._inbox: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    def tell(self, *, events: Sequence[str] = (), inbox: Sequence[str] = ()) -> None:
        """Say that streams have new events, or something new in their inboxes."""
        if not events and not inbox:
            return
        self._local.tell(Notice(events=tuple(events), inbox=tuple(inbox)))
        if self._connections.facts.pooled:
            return  # nobody can hear it: the others ask
        self._events.update(events)
        self._inbox.update(inbox)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        """Hear of what any process writes, until the returned function is called."""
        stop = self._local.listen(hear)
        if self._hearing is None:
            follow = self._poll if self._connections.facts.pooled else self._follow
            self._hearing = asyncio.get_running_loop().create_task(until_cancelled(follow()))
        return stop

    async def listening(self) -> None:
        """Return once what others write is heard of."""
        await self._ready.wait()

    async def close(self) -> None:
        """Send what was said, and hear no more."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.wait([self._hearing])

    async def _send(self) -> None:
        try:
            while self._events or self._inbox:
                events, self._events = sorted(self._events), set()
                inbox, self._inbox = sorted(self._inbox), set()
                for payload in _payloads(self._origin, events, inbox):
                    await self._connections.fetch(_NOTIFY, (payload,))
                await asyncio.sleep(_GATHER_S)
        except Error as error:
            _LOG.info("others were not told of what was written: %s", error)
        finally:
            self._sending = None

    async def _follow(self) -> None:
        while True:
            try:
                connection = await self._connections.connect()
                async with connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    self._ready.set()
                    async for notification in connection.notifies():
                        self._heard(notification.payload)
            except (Error, OSError) as error:
                _LOG.info("notifications are not heard for now: %s", error)
            self._ready.clear()
            await asyncio.sleep(_AGAIN_S)

    def _heard(self, payload: str) -> None:
        try:
            said = _decode(payload)
        except msgspec.MsgspecError:
            return  # somebody else's, on a channel that anybody of the database may use
        if said.origin != self._origin:
            self._local.tell(Notice(events=said.events, inbox=said.inbox))

    async def _poll(self) -> None:
        seen: tuple[int, int] | None = None
        while True:
            with contextlib.suppress(StoreUnavailable):
                events, inbox = (await self._connections.read(_LAST))[0]
                if seen is not None and (events, inbox) != seen:
                    moved = await self._connections.read(_MOVED, (seen[0], events))
                    posted = await self._connections.read(_POSTED, (seen[1], inbox))
                    found = Notice(
                        events=tuple(row[0] for row in moved), inbox=tuple(row[0] for row in posted)
                    )
                    if found.events or found.inbox:
                        self._local.tell(found)
                seen = (events, inbox)
                self._ready.set()
            await asyncio.sleep(_POLL_S)


def _payloads(origin: str, events: Sequence[str], inbox: Sequence[str]) -> list[str]:
    """Everything in as few notifications as it takes."""
    payloads: list[str] = []
    said: dict[str, list[str]] = {}
    size_bytes = _MOST_BYTES
    for name, streams in (("events", events), ("inbox", inbox)):
        for stream in streams:
            size_bytes += len(stream.encode()) + len('"",')
            if size_bytes > _MOST_BYTES:
                size_bytes = _EMPTY_BYTES + len(stream.encode())
                payloads.append("")
                said["events"], said["inbox"] = [], []
            said[name].append(stream)
            whole = _Payload(origin, tuple(said["events"]), tuple(said["inbox"]))
            payloads[-1] = msgspec.json.encode(whole).decode()
    return payloads
