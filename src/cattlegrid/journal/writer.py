"""Gives each event of a stream its place, time and hash, and hands it to the store: the one writer of one stream.

`append` never waits: it numbers, chains and queues, so that parallel calls of one run hand their events in as they
come. Whoever needs durability awaits the ticket, or `barrier` for everything so far. A write that fails poisons the
writer: nothing after it can be written, since what it would follow is not there. Whoever goes on takes the lease anew.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from cattlegrid.core.errors import (
    AppendConflict,
    CattlegridError,
    IntegrityError,
    StoreError,
    StoreUnavailable,
)
from cattlegrid.core.ports import Clock
from cattlegrid.journal.codec import GENESIS, check_chain, decode, encode
from cattlegrid.journal.directory import StreamContext, context_of, index
from cattlegrid.journal.events import Event, NewEvent
from cattlegrid.journal.store import Append, BodyRow, Claim, EntryChange, Head, JournalStore, Row

LEASE_MARGIN: Final = 0.1
"""The part of a lease at its end in which no side effect may start: clocks differ, and a call takes time to leave."""


class Ticket:
    """Numbered events on their way to the store. Await it, as often as needed, to know that they are durable.

    Raises (when awaited):
        AppendConflict: this writer is no longer the writer, or the write does not fit what is there.
        StoreUnavailable: the store could not write, or nobody knows.
    """

    __slots__ = ("_written", "events")

    def __init__(self, events: tuple[Event, ...], written: asyncio.Future[None]) -> None:
        self.events = events
        self._written = written

    @property
    def durable(self) -> bool:
        """Whether the events are durable already."""
        written = self._written
        return written.done() and not written.cancelled() and written.exception() is None

    def when_durable(self, callback: Callable[[], object]) -> None:
        """Have something called once the events are durable; never, if they do not become so."""
        self._written.add_done_callback(lambda _: callback() if self.durable else None)

    def __await__(self) -> Generator[object, None, None]:
        # A task that is cancelled while it waits must not cancel the write that others wait for.
        if self._written.done():
            return self._written.result()
        return (yield from asyncio.shield(self._written).__await__())


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """How long a lease was asked for, and when by the monotonic clock, before the store was asked."""

    length_s: float
    taken_at_s: float
    claim: Claim | None = None
    """What the first append takes it with; None when it is held already."""


class SessionWriter:
    """The writer of a stream whose lease is held. Made by `open_stream`; for one event loop."""

    def __init__(
        self,
        store: JournalStore,
        head: Head,
        *,
        clock: Clock,
        lease: Lease,
        context: StreamContext,
        last_at: datetime | None,
    ) -> None:
        self.stream: Final = head.stream
        self.epoch: Final = head.epoch
        self.on_poisoned: Callable[[CattlegridError], None] | None = None
        """Called once, with the reason, when this writer can write no more."""
        self._store = store
        self._clock = clock
        self._seq = head.seq
        self._hash: bytes = head.hash
        self._at = last_at
        self._lease = lease
        self._context = context
        self._claim = lease.claim
        self._last: Ticket | None = None
        self._failure: CattlegridError | None = None

    @property
    def seq(self) -> int:
        """Sequence number of the last event that was handed in."""
        return self._seq

    @property
    def hash(self) -> bytes:
        """Hash of the last event that was handed in."""
        return self._hash

    @property
    def poisoned(self) -> bool:
        """Whether a write has failed, or the lease was given up or lost."""
        return self._failure is not None

    @property
    def failure(self) -> CattlegridError | None:
        """Why nothing more can be written."""
        return self._failure

    def append(
        self, events: Sequence[NewEvent], *, bodies: Iterable[BodyRow] = (), consumed: Iterable[str] = ()
    ) -> Ticket:
        """Number, chain and queue events, all of them or none, with their bodies and the inbox items they fold in.

        Raises:
            AppendConflict, StoreUnavailable: this writer is poisoned; nothing was queued.
        """
        numbered, batch = self._batch(events, tuple(bodies), tuple(consumed))
        return self._queued(numbered, self._store.append(batch))

    def retire(self, stream: str, events: Sequence[NewEvent]) -> Ticket:
        """Delete another stream, and append the events that say so to this one, both or neither.

        Raises:
            AppendConflict, StoreUnavailable: this writer is poisoned; nothing was queued.
        """
        numbered, batch = self._batch(events, (), ())
        return self._queued(numbered, self._store.delete_stream(stream, audit=batch))

    async def barrier(self) -> None:
        """Return once everything that was handed in so far is durable.

        Raises:
            AppendConflict, StoreUnavailable: it is not, and this writer is poisoned.
        """
        if self._last is not None:
            await self._last
        self._refuse_when_poisoned()

    def lease_valid(self, *, needed_s: float = 0.0) -> bool:
        """Whether the lease surely still holds, and will for `needed_s`: ask just before a side effect leaves."""
        if self._failure is not None:
            return False
        end_s = self._lease.taken_at_s + self._lease.length_s * (1 - LEASE_MARGIN)
        return self._clock.monotonic_s() + needed_s < end_s

    @property
    def renewal_due(self) -> bool:
        """Whether half of the lease is over; most runs end before that, and cost no renewal."""
        return not self.lease_valid(needed_s=self._lease.length_s / 2)

    async def renew(self) -> None:
        """Lengthen the lease to its full time from now.

        Raises:
            AppendConflict: somebody else has it; this writer is poisoned.
            StoreUnavailable: not lengthened now; the lease still lasts as long as it did.
        """
        self._refuse_when_poisoned()
        asked_at_s = self._clock.monotonic_s()
        try:
            await self._store.renew(self.stream, epoch=self.epoch, lease_s=self._lease.length_s)
        except AppendConflict as error:
            self._poison(error)
            raise
        self._lease = Lease(length_s=self._lease.length_s, taken_at_s=asked_at_s)

    async def release(self) -> None:
        """Give the lease back, after what was handed in before; this writer writes no more.

        Raises:
            StoreUnavailable: the lease ends by itself, later.
        """
        if not self.poisoned:
            self._poison(
                AppendConflict("This writer has given its lease back.", detail=self.stream), tell=False
            )
        await self._store.release(self.stream, epoch=self.epoch)

    # inside

    def _batch(
        self, events: Sequence[NewEvent], bodies: tuple[BodyRow, ...], consumed: tuple[str, ...]
    ) -> tuple[tuple[Event, ...], Append]:
        self._refuse_when_poisoned()
        at = self._clock.now()
        if self._at is not None and at < self._at:
            at = self._at  # wall time may run backwards; a stream's does not
        seq, last_hash, context = self._seq, self._hash, self._context
        numbered: list[Event] = []
        rows: list[Row] = []
        changes: list[EntryChange] = []
        for new in events:
            seq += 1
            event = Event(
                stream=self.stream, seq=seq, run_id=new.run_id, at=at, data=new.data, prev_hash=last_hash
            )
            row = encode(event)
            context, made = index(context, event)
            changes.extend(made)
            numbered.append(event)
            rows.append(row)
            last_hash = row.hash
        batch = Append(
            stream=self.stream,
            epoch=self.epoch,
            expected_seq=self._seq,
            expected_hash=self._hash,
            rows=tuple(rows),
            bodies=bodies,
            changes=tuple(changes),
            consumed=consumed,
            claim=self._claim,
        )
        # Only now: an event that cannot be encoded must leave the writer as it was.
        self._claim = None
        self._seq, self._hash, self._at, self._context = seq, last_hash, at, context
        return tuple(numbered), batch

    def _queued(self, events: tuple[Event, ...], written: asyncio.Future[None]) -> Ticket:
        written.add_done_callback(self._on_written)
        self._last = Ticket(events, written)
        return self._last

    def _on_written(self, written: asyncio.Future[None]) -> None:
        error = None if written.cancelled() else written.exception()
        if error is None:
            return
        if not isinstance(error, CattlegridError):
            error = StoreUnavailable("The journal could not be written.", detail=repr(error))
        self._poison(error)

    def _poison(self, error: CattlegridError, *, tell: bool = True) -> None:
        if self._failure is not None:
            return
        self._failure = error
        if tell and self.on_poisoned is not None:
            self.on_poisoned(error)

    def _refuse_when_poisoned(self) -> None:
        if self._failure is None:
            return
        kind = AppendConflict if isinstance(self._failure, AppendConflict) else StoreUnavailable
        raise kind("This writer can write no more.", detail=str(self._failure)) from self._failure


def new_stream(
    store: JournalStore, stream: str, *, holder: str, lease_s: float, clock: Clock
) -> SessionWriter:
    """The writer of a stream that does not exist: its first append makes it, and takes its lease.

    That append fails with AppendConflict when the stream exists after all.
    """
    return SessionWriter(
        store,
        Head(stream=stream, epoch=1, seq=0, hash=GENESIS, holder=holder, lease_until=None),
        clock=clock,
        lease=Lease(
            length_s=lease_s,
            taken_at_s=clock.monotonic_s(),
            claim=Claim(holder=holder, lease_s=lease_s),
        ),
        context=StreamContext(stream=stream),
        last_at=None,
    )


async def open_stream(
    store: JournalStore, stream: str, *, holder: str, lease_s: float, clock: Clock, read: bool = True
) -> tuple[SessionWriter, list[Event]]:
    """Take the lease of a stream and read it, oldest event first; every link of its chain is checked.

    Without `read`, nothing is read or checked: for a stream that is only added to, and is no session (a session's
    writer must know what it is of).

    Raises:
        LeaseHeld: another writer holds it.
        IntegrityError: the chain does not verify, or an event cannot be read; the lease is given back.
        StoreUnavailable: the store does not answer.
    """
    lease = Lease(length_s=lease_s, taken_at_s=clock.monotonic_s())
    head = await store.acquire(stream, holder=holder, lease_s=lease_s)
    try:
        rows = await store.rows(stream) if head.seq and read else ()
        if read and check_chain(rows) != (head.seq, head.hash):
            raise IntegrityError("The record of this session does not verify.", detail=f"{stream}: its end")
        events = [decode(row) for row in rows]
    except StoreError:
        await store.release(stream, epoch=head.epoch)
        raise
    context = StreamContext(stream=stream)
    for event in events:
        context = context_of(context, event)
    last_at = events[-1].at if events else None
    return SessionWriter(store, head, clock=clock, lease=lease, context=context, last_at=last_at), events
