"""`JournalStore` over a PostgreSQL database that any number of processes share.

Appends go through the group committer; every other write is one statement on a connection of the pool, after what was
queued for its stream before. Leases end by the server's clock, since those of several machines differ.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from psycopg import Error

from cattlegrid.adapters.postgres import owners, reading, schema
from cattlegrid.adapters.postgres.appending import owners_of
from cattlegrid.adapters.postgres.arrays import Bytes, Texts
from cattlegrid.adapters.postgres.connections import Connections, Facts, is_unwritable
from cattlegrid.adapters.postgres.notices import Post
from cattlegrid.adapters.postgres.writing import Deletion, Writer
from cattlegrid.adapters.rows import Columns, entry_of, feed_row_of, head_of, row_of
from cattlegrid.adapters.sqlite.ledger import ErasureLedger
from cattlegrid.core.errors import (
    AppendConflict,
    ConfigurationError,
    LeaseHeld,
    SessionEnded,
    StoreUnavailable,
)
from cattlegrid.core.ports import Clock
from cattlegrid.journal.codec import GENESIS, micros
from cattlegrid.journal.notices import Notice
from cattlegrid.journal.store import (
    Append,
    BodyRow,
    Entry,
    EntryQuery,
    FeedRow,
    Head,
    InboxItem,
    OwnerKey,
    Row,
)

T = TypeVar("T")

PING_SETTING: Final = "last_ping_us"
PING_FRESH_S: Final = 1.0

_ACQUIRE: Final = "SELECT * FROM cattlegrid.acquire($1, $2, $3, $4, $5)"
_RENEW: Final = (
    "UPDATE cattlegrid.heads SET lease_until_us = coalesce($1, cattlegrid.now_us()) + $2 "
    "WHERE stream = $3 AND epoch = $4 AND lease_until_us IS NOT NULL "
    "RETURNING stream, epoch, seq, hash, holder, lease_until_us"
)
_RELEASE: Final = (
    "UPDATE cattlegrid.heads SET holder = '', lease_until_us = NULL WHERE stream = $1 AND epoch = $2"
)
_POST: Final = (
    "INSERT INTO cattlegrid.inbox (id, stream, key, data, at_us) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (stream, key) DO NOTHING RETURNING position"
)
_CREATE_KEY: Final = (
    "INSERT INTO cattlegrid.owners AS o (owner, wrapped, created_us) VALUES ($1, $2, $3) "
    "ON CONFLICT (owner) DO UPDATE SET "
    "wrapped = coalesce(o.wrapped, excluded.wrapped), "
    "created_us = CASE WHEN o.wrapped IS NULL THEN excluded.created_us ELSE o.created_us END "
    "RETURNING owner, wrapped, created_us"
)
_PUT_BODIES: Final = "SELECT cattlegrid.put_bodies($1, $2, $3, $4, $5)"
_SET: Final = (
    "INSERT INTO cattlegrid.settings (name, value) VALUES ($1, $2) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_SET_FIRST: Final = (
    "INSERT INTO cattlegrid.settings AS s (name, value) VALUES ($1, $2) "
    "ON CONFLICT (name) DO UPDATE SET value = s.value RETURNING value"
)
_PINGED: Final = (
    "INSERT INTO cattlegrid.settings (name, value) VALUES ($1, cattlegrid.now_us()::text) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_LISTED: Final = "SELECT created_us FROM cattlegrid.owners WHERE owner = $1"


class PostgresJournal:
    """The journal in a database. Made by `open`, for the event loop that runs then."""

    def __init__(self, connections: Connections, ledger: ErasureLedger, clock: Clock | None) -> None:
        self.erased_again: tuple[str, ...] = ()
        """Owners that a restored backup had brought back, erased again when the store was opened."""
        self._connections = connections
        self._ledger = ledger
        self._clock = clock
        self._post = Post(connections)
        self._writer = Writer(
            connections, now_us=self._now_us, written=lambda streams: self._post.tell(events=streams)
        )
        self._under_way: set[asyncio.Task[Any]] = set()
        self._pinged_at_s: float | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        ledger: Path,
        clock: Clock | None = None,
        patience_s: float = 10.0,
        durable: bool = False,
    ) -> Self:
        """Open the journal of a database; an empty one becomes a journal.

        Args:
            url: `postgresql://user:password@host:port/database?options`.
            ledger: the list of erasures, which is applied again when a backup was restored.
            clock: the time by which leases end; the server's own when absent, which is right for several machines.
            patience_s: how long one statement may take.
            durable: refuse a server that may lose what it has acknowledged.

        Raises:
            StoreUnavailable: nobody answers.
            ConfigurationError: the URL, the user, its rights, or the schema are not as they must be.
        """
        connections = Connections(url, patience_s=patience_s)
        await connections.open()
        store = cls(connections, ErasureLedger(ledger), clock)
        try:
            if durable and connections.facts.unsafe:
                raise ConfigurationError(
                    "This PostgreSQL server may lose what it has acknowledged: production needs one that does not. "
                    "See `cattlegrid db check`.",
                    detail=f"{connections.where}: {connections.facts.unsafe}",
                )
            await schema.ensure(connections)
            store.erased_again = tuple(await store._erase_again())
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def commits(self) -> int:
        """How many groups of appends this store has made durable."""
        return self._writer.commits

    @property
    def facts(self) -> Facts:
        """What the server is like."""
        return self._connections.facts

    async def close(self) -> None:
        """Write what is queued, then let go of every connection. Idempotent."""
        await self._writer.close()
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._post.close()
        await self._connections.close()

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        return self._post.listen(hear)

    async def listening(self) -> None:
        """Return once what other processes write is heard of."""
        await self._post.listening()

    # leases and appends

    async def acquire(self, stream: str, *, holder: str, lease_s: float) -> Head:
        values = (stream, GENESIS, holder, round(lease_s * 1_000_000), self._now_us())
        (row,) = await self._shielded(self._after(stream, _ACQUIRE, values))
        stream_id, epoch, seq, hash_, until_us, wait_us = row
        if wait_us is not None:
            left_s = wait_us / 1_000_000
            raise LeaseHeld("Another writer holds this session.", detail=stream, retry_after_s=left_s)
        self._writer.know(stream, stream_id)
        return head_of((stream, epoch, seq, hash_, holder, until_us))

    async def renew(self, stream: str, *, epoch: int, lease_s: float) -> Head:
        values = (self._now_us(), round(lease_s * 1_000_000), stream, epoch)
        rows = await self._shielded(self._after(stream, _RENEW, values))
        if not rows:
            raise AppendConflict("Another writer holds this session.", detail=f"lease {stream}")
        return head_of(rows[0])

    async def release(self, stream: str, *, epoch: int) -> None:
        await self._shielded(self._after(stream, _RELEASE, (stream, epoch)))

    def append(self, batch: Append) -> asyncio.Future[None]:
        return self._writer.submit(batch, batch.stream)

    async def head(self, stream: str) -> Head | None:
        rows = await self._read(reading.HEAD, (stream,))
        return head_of(rows[0]) if rows else None

    # reading

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        found = await self._read(reading.ROWS, (stream, after_seq, limit))
        return [row_of(stream, columns) for columns in found]

    async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
        return [feed_row_of(columns) for columns in await self._read(reading.FEED, (after, limit))]

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        wanted = list(dict.fromkeys(digests))
        if not wanted:
            return []
        found = await self._read(reading.BODIES, (owner, Texts.of(wanted)))
        return [reading.body_of(owner, columns) for columns in found]

    async def put_bodies(self, bodies: Sequence[BodyRow]) -> None:
        found = {(body.owner, body.digest): body for body in reversed(bodies)}
        ordered = [found[place] for place in sorted(found)]
        if not ordered:
            return
        values = (
            *owners_of(ordered),
            Texts.of([body.owner for body in ordered]),
            Texts.of([body.digest for body in ordered]),
            Bytes.of([body.sealed for body in ordered]),
        )
        await self._shielded(self._put(values))

    async def entry(self, kind: str, id: str) -> Entry | None:
        rows = await self._read(reading.ENTRY, (kind, id))
        return entry_of(rows[0]) if rows else None

    async def entries(self, query: EntryQuery) -> Sequence[Entry]:
        return [entry_of(columns) for columns in await self._read(*reading.entries(query))]

    # inbox

    async def post(self, item: InboxItem) -> bool:
        values = (item.id, item.stream, item.key, item.data, item.at_us)
        added = bool(await self._shielded(self._after(item.stream, _POST, values)))
        if added:
            self._post.tell(inbox=(item.stream,))
        return added

    async def inbox(self, stream: str) -> Sequence[InboxItem]:
        return [reading.item_of(columns) for columns in await self._read(reading.INBOX, (stream,))]

    async def streams_with_inbox(self) -> Sequence[str]:
        return [row[0] for row in await self._read(reading.STREAMS_WITH_INBOX)]

    # owners, erasure, retention

    async def owner_key(self, owner: str) -> OwnerKey | None:
        rows = await self._read(reading.OWNER_KEY, (owner,))
        return reading.key_of(rows[0]) if rows else None

    async def create_owner_key(self, key: OwnerKey) -> OwnerKey:
        values = (key.owner, key.wrapped, key.created_us)
        return reading.key_of((await self._shielded(self._change(_CREATE_KEY, values)))[0])

    async def erase_owner(self, owner: str, *, at_us: int) -> Sequence[str]:
        return await self._shielded(self._erase(owner, at_us))

    def delete_stream(self, stream: str, *, audit: Append) -> asyncio.Future[None]:
        return self._writer.submit(Deletion(stream, audit), audit.stream)

    # settings, seals, health

    async def setting(self, name: str) -> str | None:
        rows = await self._read(reading.SETTING, (name,))
        return rows[0][0] if rows else None

    async def put_setting(self, name: str, value: str) -> None:
        await self._shielded(self._change(_SET, (name, value)))

    async def first_setting(self, name: str, value: str) -> str:
        return str((await self._shielded(self._change(_SET_FIRST, (name, value))))[0][0])

    async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
        rows = await self._shielded(
            self._connections.read(reading.CHANGED, (position,), patience_s=owners.LONG_S)
        )
        return rows[0][0], [head_of(row[1:]) for row in rows if row[1]]

    async def ping(self) -> None:
        """Prove that a durable write is possible: by one within the last second, and by an answer now."""
        now_s = asyncio.get_running_loop().time()
        if self._pinged_at_s is not None and now_s - self._pinged_at_s < PING_FRESH_S:
            await self._read("SELECT 1")
            return
        await self._shielded(self._change(_PINGED, (PING_SETTING,)))
        self._pinged_at_s = now_s

    # how it is done

    def _now_us(self) -> int | None:
        return None if self._clock is None else micros(self._clock.now())

    async def _read(self, query: str, values: Sequence[object] = ()) -> list[Columns]:
        return await self._shielded(self._connections.read(query, values))

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        # Whoever is cancelled while waiting must neither take a write back that others may have seen nor break a
        # connection in the middle of an answer.
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may have gone; then nobody else looks at it

    async def _after(self, stream: str, query: str, values: Sequence[object]) -> list[Columns]:
        await self._writer.settled(stream)
        return await self._change(query, values)

    async def _change(self, query: str, values: Sequence[object]) -> list[Columns]:
        try:
            return await self._connections.fetch(query, values)
        except Error as error:
            if is_unwritable(error):
                raise AppendConflict("This cannot be written.", detail=repr(error)) from error
            raise self._connections.unavailable(error) from error

    async def _put(self, values: Sequence[object]) -> None:
        try:
            await self._connections.fetch(_PUT_BODIES, values)
        except Error as error:
            if error.sqlstate == "CG003":
                raise SessionEnded("This user's data has been erased.", detail="owner") from error
            raise self._connections.unavailable(error) from error

    async def _erase(self, owner: str, at_us: int) -> list[str]:
        """Erase a user: first on the list, then in the database."""
        try:
            async with self._connections.use(patience_s=owners.LONG_S) as connection:
                if not await owners.has_anything(connection, owner):
                    return await owners.sessions_of(connection, owner)
                await asyncio.to_thread(self._ledger.record, owner, at_us)
                return await owners.erase(connection, owner)
        except OSError as error:
            detail = f"{self._ledger.path}: {error}"
            raise StoreUnavailable("The list of erasures cannot be written.", detail=detail) from error
        except Error as error:
            raise self._connections.unavailable(error) from error

    async def _erase_again(self) -> list[str]:
        """Erase whom a restored backup has brought back: listed users whose key is not younger than their erasure."""
        again: list[str] = []
        for owner, at_us in self._ledger.read().items():
            found = await self._read(_LISTED, (owner,))
            if not found or found[0][0] > at_us:
                continue
            try:
                async with self._connections.use(patience_s=owners.LONG_S) as connection:
                    await owners.erase(connection, owner)
            except Error as error:
                raise self._connections.unavailable(error) from error
            again.append(owner)
        return again
