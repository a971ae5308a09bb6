"""`JournalStore` over one SQLite file: hands writes to the writer thread and long queries to the reader thread.

Nothing here waits for a lock or for a sync of the disk. Looking up a few rows by their key is done where it is asked for:
it takes some 20 us, a tenth of what it costs to hand the question to a thread and its answer back to the event loop.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar

from cattlegrid.adapters.sqlite import operations, reading
from cattlegrid.adapters.sqlite.database import Database
from cattlegrid.adapters.sqlite.ledger import ErasureLedger
from cattlegrid.adapters.sqlite.reading import Query, Reader
from cattlegrid.adapters.sqlite.threads import Worker
from cattlegrid.adapters.sqlite.writing import Operation, Writer
from cattlegrid.core.errors import CattlegridError, StoreUnavailable
from cattlegrid.core.ports import Clock
from cattlegrid.journal.codec import micros
from cattlegrid.journal.notices import Notice, Notices
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
FEW: Final = 100
"""Up to this many rows are looked up without another thread."""


class SqliteJournal:
    """The journal in a file. Made by `open`, for the event loop that runs then."""

    def __init__(self, database: Database, ledger: ErasureLedger, clock: Clock) -> None:
        self.erased_again: tuple[str, ...] = ()
        """Owners that a restored backup had brought back, erased again when the store was opened."""
        self._clock = clock
        self._ledger = ledger
        self._database = database
        self._writing = Writer(database, clock.now)
        self._reading = Reader(database)
        self._lookup = Reader(database, busy_s=0.0)
        self._writer = Worker("journal writer", self._writing.handle)
        self._reader = Worker("journal reader", self._reading.handle)
        self._pinged_at_s: float | None = None
        self._notices = Notices()

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, busy_s: float = 5.0, ledger: Path | None = None) -> Self:
        """Open the journal in `path`, made when new, brought up to date when old.

        Args:
            path: the database file.
            clock: the time by which leases end; the same for all processes that share the file.
            busy_s: how long a write waits while another process writes.
            ledger: the list of erasures; beside the database by default.

        Raises:
            StoreUnavailable: the file cannot be opened or written.
            ConfigurationError: it is no journal, a newer version's, or the list of erasures is damaged.
        """
        database = Database(path, busy_s=busy_s)
        erasures = ErasureLedger(ledger or path.with_name(path.name + ".erasures.jsonl"))
        store = cls(database, erasures, clock)
        try:
            await store._writer.submit(Operation(lambda _: database.prepare(), outside=True))
            store.erased_again = tuple(await store._writer.submit(operations.erase_again(erasures)))
            await store.setting("kek_id")  # the reader's connection, too, is known to work
        except CattlegridError:
            await store.close()
            raise
        return store

    @property
    def commits(self) -> int:
        """How many transactions this store has made durable; many appends share one."""
        return self._writing.commits

    async def close(self) -> None:
        """Write what is queued, then close the file. Idempotent."""
        await self._writer.close()
        await self._reader.close()
        self._reading.close()
        self._lookup.close()
        self._writing.close()
        self._database.close()

    # leases and appends

    async def acquire(self, stream: str, *, holder: str, lease_s: float) -> Head:
        return await self._write(operations.acquire(stream, holder, lease_s=lease_s, now=self._clock.now))

    async def renew(self, stream: str, *, epoch: int, lease_s: float) -> Head:
        return await self._write(operations.renew(stream, epoch, lease_s=lease_s, now=self._clock.now))

    async def release(self, stream: str, *, epoch: int) -> None:
        await self._write(operations.release(stream, epoch))

    def append(self, batch: Append) -> asyncio.Future[None]:
        written = self._writer.submit(batch)
        if self._notices and batch.rows:
            notice = Notice(events=(batch.stream,))
            written.add_done_callback(lambda done: None if _failed(done) else self._notices.tell(notice))
        return written

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        """What other processes write is not heard of: they share a file, and nothing that could tell."""
        return self._notices.listen(hear)

    async def head(self, stream: str) -> Head | None:
        return await self._look_up(lambda connection: reading.head(connection, stream))

    # reading

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        few = limit is not None and limit <= FEW
        read = self._look_up if few else self._read
        return await read(lambda connection: reading.rows(connection, stream, after_seq, limit))

    async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
        return await self._read(lambda connection: reading.feed(connection, after, limit))

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        read = self._look_up if len(digests) <= FEW else self._read
        return await read(lambda connection: reading.bodies(connection, owner, digests))

    async def put_bodies(self, bodies: Sequence[BodyRow]) -> None:
        await self._write(operations.put_bodies(bodies))

    async def entry(self, kind: str, id: str) -> Entry | None:
        return await self._look_up(lambda connection: reading.entry(connection, kind, id))

    async def entries(self, query: EntryQuery) -> Sequence[Entry]:
        return await self._read(lambda connection: reading.entries(connection, query))

    # inbox

    async def post(self, item: InboxItem) -> bool:
        added = await self._write(operations.post(item))
        if added:
            self._notices.tell(Notice(inbox=(item.stream,)))
        return added

    async def inbox(self, stream: str) -> Sequence[InboxItem]:
        return await self._look_up(lambda connection: reading.inbox(connection, stream))

    async def streams_with_inbox(self) -> Sequence[str]:
        return await self._read(reading.streams_with_inbox)

    # owners, erasure, retention

    async def owner_key(self, owner: str) -> OwnerKey | None:
        return await self._look_up(lambda connection: reading.owner_key(connection, owner))

    async def create_owner_key(self, key: OwnerKey) -> OwnerKey:
        return await self._write(operations.create_owner_key(key))

    async def erase_owner(self, owner: str, *, at_us: int) -> Sequence[str]:
        return await self._write(operations.erase_owner(owner, at_us, self._ledger))

    def delete_stream(self, stream: str, *, audit: Append) -> asyncio.Future[None]:
        return self._writer.submit(operations.delete_stream(stream, audit))

    # settings, seals, health

    async def setting(self, name: str) -> str | None:
        return await self._look_up(lambda connection: reading.setting(connection, name))

    async def put_setting(self, name: str, value: str) -> None:
        await self._write(operations.put_setting(name, value))

    async def first_setting(self, name: str, value: str) -> str:
        return await self._write(operations.first_setting(name, value))

    async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
        return await self._read(lambda connection: reading.heads_changed_since(connection, position))

    async def ping(self) -> None:
        """Prove that a durable write is possible: by one within the last second, and by the file still being there."""
        now_s = self._clock.monotonic_s()
        if self._pinged_at_s is not None and now_s - self._pinged_at_s < PING_FRESH_S:
            await self._write(Operation(lambda _: self._database.check_identity(), outside=True))
            return
        await self._write(operations.put_setting(PING_SETTING, str(micros(self._clock.now()))))
        self._pinged_at_s = now_s

    # the threads

    async def _write(self, operation: Operation[T]) -> T:
        # Whoever is cancelled while waiting must not take a write back that others may have seen.
        return await asyncio.shield(self._writer.submit(operation))

    async def _read(self, query: Query[T]) -> T:
        return await self._reader.submit(query)

    async def _look_up(self, query: Query[T]) -> T:
        """The answer from this thread; where it is not to be had at once, as when the file is locked, from the reader."""
        if self._reader.closing:
            return await self._read(query)
        try:
            return self._lookup.answer(query)
        except (StoreUnavailable, sqlite3.Error):
            self._lookup.close()
            return await self._read(query)


def _failed(done: asyncio.Future[None]) -> bool:
    return done.cancelled() or done.exception() is not None
