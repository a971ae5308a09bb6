"""Writers, crashes, zombies, take-overs, erasures and restarts in any order: what was acknowledged is there, once.

A model keeps what each writer handed in and what was acknowledged to it. After every step the journal must hold what
was acknowledged, and beyond it nothing but whole writes that were handed in, with chains, feed and inbox that agree.
"""

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from cattlegrid.core.errors import AppendConflict, LeaseHeld, StoreUnavailable
from cattlegrid.journal.codec import check_chain, decode
from cattlegrid.journal.events import CancelRequested, Data, NewEvent, SessionOpened
from cattlegrid.journal.store import BodyRow, InboxItem, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter, Ticket, open_stream
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.contracts.support import KEK, opened

T = TypeVar("T")

LEASE_S = 30.0
STREAMS = ("ses_1", "ses_2", "ses_3")
OWNERS = {"ses_1": "usr_ann", "ses_2": "usr_ann", "ses_3": "usr_bob"}


@dataclass
class Write:
    """One write that was handed in."""

    ticket: Ticket
    data: list[Data]
    bodies: list[BodyRow]
    folded: list[str]


@dataclass
class Held:
    """A writer, living or not, and what it handed in that nobody has heard of yet."""

    writer: SessionWriter
    pending: list[Write] = field(default_factory=list[Write])


@dataclass
class Stream:
    """What must be true of one stream."""

    epoch: int = 0
    lease_ends_s: float = 0.0
    events: list[Data] = field(default_factory=list[Data])
    """Acknowledged, oldest first."""
    posted: dict[str, str] = field(default_factory=dict[str, str])
    """Keys ever used, with the id of the item."""
    waiting: list[str] = field(default_factory=list[str])
    """Keys of the items that are not folded in."""


class JournalMachine(RuleBasedStateMachine):
    """See the module; subclasses say which store."""

    store: JournalStore

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.streams = {name: Stream() for name in STREAMS}
        self.writers: list[Held] = []
        self.stored: dict[str, set[str]] = {owner: set() for owner in OWNERS.values()}
        self.erased: dict[str, set[str]] = {owner: set() for owner in OWNERS.values()}
        self.count = 0

    async def make(self) -> JournalStore:
        """A new store."""
        raise NotImplementedError

    async def reopen(self) -> JournalStore:
        """The store after an orderly end."""
        raise NotImplementedError

    async def crash(self) -> JournalStore:
        """The store as a crash would leave it at this moment."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.store = self.run(self.make())

    # what happens

    @rule(stream=st.sampled_from(STREAMS))
    def take(self, stream: str) -> None:
        """A process opens a session."""
        known = self.streams[stream]
        opening = open_stream(self.store, stream, holder="machine", lease_s=LEASE_S, clock=self.clock)
        if self.clock.monotonic_s() < known.lease_ends_s:
            with pytest.raises(LeaseHeld):
                self.run(opening)
            return
        writer, events = self.run(opening)
        self.settle(stream)
        known.epoch += 1
        known.lease_ends_s = self.clock.monotonic_s() + LEASE_S
        assert writer.epoch == known.epoch
        assert [event.data for event in events] == known.events
        self.writers.append(Held(writer))

    @precondition(lambda self: self.writers)
    @rule(
        data=st.data(), size=st.integers(0, 3), wait=st.booleans(), text=st.sampled_from(["", "a", "b" * 300])
    )
    def write(self, data: st.DataObject, size: int, *, wait: bool, text: str) -> None:
        """A writer, perhaps a zombie, hands events in, and perhaps waits for them."""
        held = data.draw(st.sampled_from(self.writers))
        stream = held.writer.stream
        known = self.streams[stream]
        current = held.writer.epoch == known.epoch and not held.writer.poisoned
        bodies = self.seal(OWNERS[stream], text)
        new = [self.event(held, bodies, first=not place and not held.writer.seq) for place in range(size)]
        folded = known.waiting[:1] if current and wait else []
        try:
            ticket = self.run(hand_in(held, new, bodies, [known.posted[key] for key in folded]))
        except (AppendConflict, StoreUnavailable):
            assert held.writer.poisoned
            assert not current
            self.writers.remove(held)
            return
        held.pending.append(Write(ticket, new, bodies, folded))
        if wait:
            assert self.learn(held) == current

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """A writer lengthens its lease."""
        held = data.draw(st.sampled_from(self.writers))
        known = self.streams[held.writer.stream]
        current = held.writer.epoch == known.epoch and not held.writer.poisoned
        try:
            self.run(held.writer.renew())
        except (AppendConflict, StoreUnavailable):
            assert not current
        else:
            assert current
            known.lease_ends_s = self.clock.monotonic_s() + LEASE_S

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A writer gives its lease back; what it handed in counts."""
        held = data.draw(st.sampled_from(self.writers))
        known = self.streams[held.writer.stream]
        self.run(held.writer.release())
        self.learn(held)
        self.writers.remove(held)
        if held.writer.epoch == known.epoch:
            known.lease_ends_s = 0.0

    @rule()
    def let_leases_end(self) -> None:
        """Every process pauses for longer than its lease: all writers may become zombies."""
        self.clock.advance(LEASE_S + 1)

    @rule(stream=st.sampled_from(STREAMS), key=st.sampled_from(["a", "b", "c"]))
    def post(self, stream: str, key: str) -> None:
        """Somebody leaves word."""
        known = self.streams[stream]
        item = InboxItem(id=f"inb_{self.number():06d}", stream=stream, key=key, data=b"x", at_us=self.count)
        assert self.run(self.store.post(item)) == (key not in known.posted)
        if key not in known.posted:
            known.posted[key] = item.id
            known.waiting.append(key)

    @rule(owner=st.sampled_from(sorted(set(OWNERS.values()))))
    def erase(self, owner: str) -> None:
        """A user is erased: their writers are fenced."""
        for stream in STREAMS:
            self.settle(stream)
        had_key = self.run(self.store.owner_key(owner)) is not None
        told = self.run(self.store.erase_owner(owner, at_us=self.number()))
        sessions = [name for name in STREAMS if self.is_session_of(name, owner)]
        assert sorted(told) == sessions
        if had_key:
            for stream in sessions:
                self.streams[stream].epoch += 1
                self.streams[stream].lease_ends_s = 0.0
        self.erased[owner] |= self.stored[owner]
        self.stored[owner] = set()

    @rule()
    def restart(self) -> None:
        """The process ends in an orderly way and starts anew; nobody gives a lease back."""
        self.store = self.run(self.reopen())
        for stream in STREAMS:
            self.settle(stream)
        self.writers.clear()

    @rule()
    def die(self) -> None:
        """The process is killed: what nobody waited for may be there or not, each write wholly."""
        self.store = self.run(self.crash())
        for name, known in self.streams.items():
            found = [decode(row).data for row in self.run(self.store.rows(name))]
            ends = [known.events]
            for held in self.writers:
                if held.writer.stream == name and held.writer.epoch == known.epoch:
                    whole = (write.data for write in held.pending)
                    ends = list(
                        itertools.accumulate(whole, lambda before, more: before + more, initial=known.events)
                    )
            assert found in ends
            known.events = found
        self.writers.clear()

    # what must be true

    @invariant()
    def everything_agrees(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        ends: dict[str, int] = {}
        for name, known in self.streams.items():
            rows = await self.store.rows(name)
            ends[name], last_hash = check_chain(rows)
            head = await self.store.head(name)
            assert head is None or (head.epoch == known.epoch and ends[name] <= head.seq)
            assert head is None or head.seq > ends[name] or head.hash == last_hash
            assert [decode(row).data for row in rows][: len(known.events)] == known.events
            assert [item.key for item in await self.store.inbox(name)] == known.waiting
        in_feed: dict[str, list[int]] = {name: [] for name in STREAMS}
        for found in await self.store.feed(0, limit=100_000):
            in_feed[found.row.stream].append(found.row.seq)
        for name, end in ends.items():
            assert in_feed[name] == list(range(1, len(in_feed[name]) + 1))
            assert len(in_feed[name]) >= end
        for owner, digests in self.stored.items():
            asked = sorted(digests | self.erased[owner])
            assert {body.digest for body in await self.store.bodies(owner, asked)} == digests

    def settle(self, stream: str) -> None:
        """Learn what became of everything that was handed in to a stream."""
        for held in self.writers:
            if held.writer.stream == stream:
                self.learn(held)

    def learn(self, held: Held) -> bool:
        """Wait for what a writer handed in: all of it counts, or nothing after the first failure does."""
        known = self.streams[held.writer.stream]
        succeeded = True
        for write in held.pending:
            try:
                self.run(write.ticket)
            except (AppendConflict, StoreUnavailable):
                succeeded = False
                continue
            assert succeeded, "a write counts although one before it does not"
            known.events.extend(write.data)
            self.stored[OWNERS[held.writer.stream]] |= {body.digest for body in write.bodies}
            for key in write.folded:
                known.waiting.remove(key)
        held.pending.clear()
        assert succeeded or held.writer.poisoned
        return succeeded

    # helpers

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.loop.run_until_complete(bounded())

    def number(self) -> int:
        self.count += 1
        return self.count

    def event(self, held: Held, bodies: list[BodyRow], *, first: bool) -> Data:
        number = self.number()
        if first and number % 2:
            return opened(OWNERS[held.writer.stream])
        return CancelRequested(by=str(number), reason=bodies[0].digest if bodies else "")

    def is_session_of(self, stream: str, owner: str) -> bool:
        events = self.streams[stream].events
        return any(isinstance(data, SessionOpened) and data.owner == owner for data in events)

    def seal(self, owner: str, text: str) -> list[BodyRow]:
        if not text:
            return []
        box = self.run(Vault(self.store, KEK, self.clock).create_owner(owner))
        return [box.seal(text)]

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


async def hand_in(held: Held, new: list[Data], bodies: list[BodyRow], consumed: list[str]) -> Ticket:
    return held.writer.append([NewEvent(one, "run_1") for one in new], bodies=bodies, consumed=consumed)
