"""The journal in memory: the same semantics as a database, for tests, with a hand on its disk.

Writes are applied in the order of their calls in the next turn of the event loop, as one shared transaction. A test
may hold that transaction back (`pause`, `resume`), lose what is queued as a crash would (`lose_queued`), or take the
whole store away (`available = False`).
"""

import asyncio
import bisect
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec

from cattlegrid.core.errors import AppendConflict, LeaseHeld, SessionEnded, StoreUnavailable
from cattlegrid.core.ports import Clock
from cattlegrid.journal.bodies import BUNDLE_PREFIX
from cattlegrid.journal.codec import GENESIS, references
from cattlegrid.journal.notices import Notice, Notices
from cattlegrid.journal.store import (
    Append,
    BodyRow,
    Entry,
    EntryChange,
    EntryQuery,
    FeedRow,
    Head,
    InboxItem,
    OwnerKey,
    Row,
)

T = TypeVar("T")


class MemoryJournal:
    """A `JournalStore` in memory. Everything in it is as durable as the object."""

    def __init__(self, clock: Clock) -> None:
        self.available = True
        """False makes every call fail with StoreUnavailable."""
        self._clock = clock
        self._paused = False
        self._scheduled = False
        self._queue: list[Callable[[], None]] = []
        self._heads: dict[str, Head] = {}
        self._rows: dict[str, list[Row]] = {}
        self._feed: list[FeedRow] = []
        self._last_position = 0
        self._bodies: dict[tuple[str, str], BodyRow] = {}
        self._entries: dict[tuple[str, str], Entry] = {}
        self._inbox: dict[str, InboxItem] = {}
        self._inbox_keys: set[tuple[str, str]] = set()
        self._keys: dict[str, OwnerKey] = {}
        self._settings: dict[str, str] = {}
        self._notices = Notices()

    # a hand on the disk

    def pause(self) -> None:
        """Queue writes without applying them."""
        self._paused = True

    def resume(self) -> None:
        """Apply what is queued, and go on as usual."""
        self._paused = False
        self._apply_queued()

    def lose_queued(self) -> int:
        """Forget the writes that are not applied yet; nobody hears of them again. Returns how many."""
        lost = len(self._queue)
        self._queue.clear()
        return lost

    # leases and appends

    async def acquire(self, stream: str, *, holder: str, lease_s: float) -> Head:
        def take() -> Head:
            now = self._clock.now()
            head = self._heads.get(stream) or _unheld(stream)
            if head.lease_until is not None and head.lease_until > now:
                left_s = (head.lease_until - now).total_seconds()
                raise LeaseHeld("Another writer holds this session.", detail=stream, retry_after_s=left_s)
            until = now + timedelta(seconds=lease_s)
            taken = msgspec.structs.replace(head, epoch=head.epoch + 1, holder=holder, lease_until=until)
            self._heads[stream] = taken
            return taken

        return await self._write(take)

    async def renew(self, stream: str, *, epoch: int, lease_s: float) -> Head:
        def lengthen() -> Head:
            head = self._heads.get(stream)
            if head is None or head.epoch != epoch or head.lease_until is None:
                raise AppendConflict("Another writer holds this session.", detail=f"lease {stream}")
            until = self._clock.now() + timedelta(seconds=lease_s)
            self._heads[stream] = msgspec.structs.replace(head, lease_until=until)
            return self._heads[stream]

        return await self._write(lengthen)

    async def release(self, stream: str, *, epoch: int) -> None:
        def end() -> None:
            head = self._heads.get(stream)
            if head is not None and head.epoch == epoch:
                self._heads[stream] = msgspec.structs.replace(head, holder="", lease_until=None)

        await self._write(end)

    def append(self, batch: Append) -> asyncio.Future[None]:
        return self._enqueue(lambda: self._append(batch))

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        return self._notices.listen(hear)

    async def head(self, stream: str) -> Head | None:
        self._check()
        return self._heads.get(stream)

    # reading

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        self._check()
        later = [row for row in self._rows.get(stream, ()) if row.seq > after_seq]
        return later if limit is None else later[:limit]

    async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
        self._check()
        start = bisect.bisect_right(self._feed, after, key=lambda item: item.position)
        return self._feed[start : start + limit]

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        self._check()
        found = (self._bodies.get((owner, digest)) for digest in dict.fromkeys(digests))
        return [body for body in found if body is not None]

    async def put_bodies(self, bodies: Sequence[BodyRow]) -> None:
        def put() -> None:
            if not self._all_keyed(bodies):
                raise SessionEnded("This user's data has been erased.", detail=bodies[0].owner)
            self._store(bodies)

        await self._write(put)

    async def entry(self, kind: str, id: str) -> Entry | None:
        self._check()
        return self._entries.get((kind, id))

    async def entries(self, query: EntryQuery) -> Sequence[Entry]:
        self._check()
        found = [entry for entry in self._entries.values() if _matches(entry, query)]
        return sorted(found, key=lambda entry: entry.id, reverse=True)[: query.limit]

    # inbox

    async def post(self, item: InboxItem) -> bool:
        def add() -> bool:
            if (item.stream, item.key) in self._inbox_keys:
                return False
            self._inbox_keys.add((item.stream, item.key))
            self._inbox[item.id] = item
            self._notices.tell(Notice(inbox=(item.stream,)))
            return True

        return await self._write(add)

    async def inbox(self, stream: str) -> Sequence[InboxItem]:
        self._check()
        return [item for item in self._inbox.values() if item.stream == stream]

    async def streams_with_inbox(self) -> Sequence[str]:
        self._check()
        return sorted({item.stream for item in self._inbox.values()})

    # owners, erasure, retention

    async def owner_key(self, owner: str) -> OwnerKey | None:
        self._check()
        return self._keys.get(owner)

    async def create_owner_key(self, key: OwnerKey) -> OwnerKey:
        return await self._write(lambda: self._keys.setdefault(key.owner, key))

    async def erase_owner(self, owner: str, *, at_us: int) -> Sequence[str]:
        def erase() -> Sequence[str]:
            streams = sorted(self._sessions_of(owner))
            had_bodies = [place for place in self._bodies if place[0] == owner]
            if self._keys.pop(owner, None) is None and not had_bodies:
                return streams
            for place in had_bodies:
                del self._bodies[place]
            for stream in streams:
                head = self._heads.get(stream) or _unheld(stream)
                fenced = msgspec.structs.replace(head, epoch=head.epoch + 1, holder="", lease_until=None)
                self._heads[stream] = fenced
            return streams

        return await self._write(erase)

    def delete_stream(self, stream: str, *, audit: Append) -> asyncio.Future[None]:
        def delete() -> None:
            self._append(audit)
            self._delete(stream)

        return self._enqueue(delete)

    # settings, seals, health

    async def setting(self, name: str) -> str | None:
        self._check()
        return self._settings.get(name)

    async def put_setting(self, name: str, value: str) -> None:
        await self._write(lambda: self._settings.__setitem__(name, value))

    async def first_setting(self, name: str, value: str) -> str:
        return await self._write(lambda: self._settings.setdefault(name, value))

    async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
        self._check()
        changed = {item.row.stream for item in self._feed if item.position > position}
        return self._last_position, [self._heads[stream] for stream in sorted(changed)]

    async def ping(self) -> None:
        await self._write(lambda: None)

    async def close(self) -> None:
        if self.available:
            self._apply_queued()

    # the shared transaction

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("The journal is not available.")

    def _enqueue(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        ticket: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                self._check()
                result = work()
            except (AppendConflict, LeaseHeld, SessionEnded, StoreUnavailable) as error:
                if not ticket.done():
                    ticket.set_exception(error)
            else:
                if not ticket.done():
                    ticket.set_result(result)

        self._queue.append(run)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn)
        return ticket

    async def _write(self, work: Callable[[], T]) -> T:
        return await self._enqueue(work)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._paused:
            self._apply_queued()

    def _apply_queued(self) -> None:
        queued, self._queue = self._queue, []
        for run in queued:
            run()

    def _append(self, batch: Append) -> None:
        """Apply all of a batch or nothing: everything is checked before the first change."""
        head = self._checked_head(batch)
        for row in batch.rows:
            self._last_position += 1
            self._feed.append(FeedRow(position=self._last_position, row=row))
        self._rows.setdefault(batch.stream, []).extend(batch.rows)
        if batch.rows:
            last = batch.rows[-1]
            self._heads[batch.stream] = msgspec.structs.replace(head, seq=last.seq, hash=last.hash)
        self._store(batch.bodies)
        for change in batch.changes:
            self._change(change)
        for id in batch.consumed:
            del self._inbox[id]
        if batch.rows:
            self._notices.tell(Notice(events=(batch.stream,)))

    def _checked_head(self, batch: Append) -> Head:
        head = self._heads.get(batch.stream)
        if batch.claim is not None and head is None:
            until = self._clock.now() + timedelta(seconds=batch.claim.lease_s)
            head = msgspec.structs.replace(
                _unheld(batch.stream), epoch=1, holder=batch.claim.holder, lease_until=until
            )
        elif batch.claim is not None:
            head = None
        expected = (batch.epoch, batch.expected_seq, batch.expected_hash)
        if head is None or (head.epoch, head.seq, head.hash) != expected:
            raise AppendConflict("This writer is no longer the writer.", detail=f"head {batch.stream}")
        made: set[tuple[str, str]] = set()
        for change in batch.changes:
            place = (change.entry.kind, change.entry.id)
            if change.create and (place in made or place in self._entries):
                raise AppendConflict("This exists already.", detail=f"entry {change.entry.kind}")
            made.add(place)
        for place, id in enumerate(batch.consumed):
            twice = id in batch.consumed[:place]
            if twice or id not in self._inbox or self._inbox[id].stream != batch.stream:
                raise AppendConflict("This was folded in already.", detail="inbox")
        if not self._all_keyed(batch.bodies):
            raise AppendConflict("This user's data has been erased.", detail="owner")
        return head

    def _change(self, change: EntryChange) -> None:
        new = change.entry
        old = self._entries.get((new.kind, new.id))
        self._entries[new.kind, new.id] = new if old is None else _merged(old, new)

    def _store(self, bodies: Iterable[BodyRow]) -> None:
        for body in bodies:
            self._bodies.setdefault((body.owner, body.digest), body)

    def _all_keyed(self, bodies: Iterable[BodyRow]) -> bool:
        return all(body.owner in self._keys or body.owner.startswith(BUNDLE_PREFIX) for body in bodies)

    def _sessions_of(self, owner: str) -> set[str]:
        return {
            entry.stream
            for entry in self._entries.values()
            if entry.kind == "session" and entry.owner == owner
        }

    def _delete(self, stream: str) -> None:
        session = self._entries.get(("session", stream))
        owner = session.owner if session is not None else ""
        wanted = self._needs(stream)
        for other in self._sessions_of(owner) - {stream}:
            wanted -= self._needs(other)
        for digest in wanted:
            self._bodies.pop((owner, digest), None)
        self._rows.pop(stream, None)
        self._heads.pop(stream, None)
        self._feed = [item for item in self._feed if item.row.stream != stream]
        self._entries = {place: entry for place, entry in self._entries.items() if entry.stream != stream}
        self._inbox = {id: item for id, item in self._inbox.items() if item.stream != stream}
        self._inbox_keys = {pair for pair in self._inbox_keys if pair[0] != stream}

    def _needs(self, stream: str) -> set[str]:
        needed: set[str] = set()
        for row in self._rows.get(stream, ()):
            needed |= references(row.data)
        for item in self._inbox.values():
            if item.stream == stream:
                needed |= references(item.data)
        return needed


def _unheld(stream: str) -> Head:
    return Head(stream=stream, epoch=0, seq=0, hash=GENESIS, holder="", lease_until=None)


def _merged(old: Entry, new: Entry) -> Entry:
    return msgspec.structs.replace(
        old,
        status=new.status or old.status,
        ref=new.ref or old.ref,
        due_us=new.due_us or old.due_us,
        updated_us=new.updated_us or old.updated_us,
    )


def _matches(entry: Entry, query: EntryQuery) -> bool:
    return (
        entry.kind == query.kind
        and (not query.tenant or entry.tenant == query.tenant)
        and (not query.owner or entry.owner == query.owner)
        and (not query.agent or entry.agent == query.agent)
        and (not query.stream or entry.stream == query.stream)
        and (not query.statuses or entry.status in query.statuses)
        and (query.updated_before_us is None or entry.updated_us < query.updated_before_us)
        and (query.due_before_us is None or 0 < entry.due_us < query.due_before_us)
        and (not query.before_id or entry.id < query.before_id)
    )
