"""The writer numbers and chains at once, says when it is durable, and writes nothing after a failure."""

import asyncio
from datetime import datetime, timedelta

import pytest

from cattlegrid.core.errors import (
    AppendConflict,
    CattlegridError,
    IntegrityError,
    LeaseHeld,
    StoreUnavailable,
)
from cattlegrid.journal.codec import check_chain, decode
from cattlegrid.journal.events import CONTROL_STREAM, CancelRequested, NewEvent, SessionRetired
from cattlegrid.journal.store import InboxItem, JournalStore
from cattlegrid.journal.writer import SessionWriter, open_stream
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from tests.unit.journal.examples import EXAMPLES, RUN

pytestmark = pytest.mark.anyio

LEASE_S = 10.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryJournal:
    return MemoryJournal(clock)


async def opened(store: JournalStore, clock: ManualClock, stream: str = "ses_1") -> SessionWriter:
    writer, _ = await open_stream(store, stream, holder="test", lease_s=LEASE_S, clock=clock)
    return writer


def said(by: str = "ann") -> NewEvent:
    return NewEvent(CancelRequested(by=by), "run_1")


async def test_what_was_written_is_read_back_as_the_same_events(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    tickets = [writer.append([NewEvent(data, RUN)]) for data in EXAMPLES]
    await writer.barrier()
    await writer.release()
    _, events = await open_stream(store, "ses_1", holder="test", lease_s=LEASE_S, clock=clock)
    assert events == [event for ticket in tickets for event in ticket.events]
    assert [event.seq for event in events] == list(range(1, len(EXAMPLES) + 1))


@pytest.mark.requirement("journal:barrier")
async def test_an_append_returns_at_once_and_its_ticket_tells_when_it_is_durable(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    store.pause()
    ticket = writer.append([said(), said()])
    assert [event.seq for event in ticket.events] == [1, 2]
    waiting = asyncio.ensure_future(writer.barrier())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not ticket.durable
    assert await store.rows("ses_1") == []
    store.resume()
    await waiting
    await ticket
    await ticket
    assert ticket.durable
    assert [decode(row) for row in await store.rows("ses_1")] == list(ticket.events)


@pytest.mark.requirement("journal:writer")
async def test_parallel_calls_hand_in_their_events_and_the_chain_holds(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)

    async def call(name: str) -> None:
        for _ in range(5):
            await writer.append([said(name)])
            writer.append([said(name)])

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(call(str(number)))
    await writer.barrier()
    rows = await store.rows("ses_1")
    assert check_chain(rows) == (100, writer.hash)


async def test_a_task_that_stops_waiting_does_not_take_the_write_back(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    store.pause()
    ticket = writer.append([said()])

    async def wait() -> None:
        await ticket

    impatient, patient = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    store.resume()
    await patient
    assert impatient.cancelled()
    assert not writer.poisoned


@pytest.mark.requirement("journal:poisoned")
async def test_a_failed_write_poisons_the_writer_once_and_fails_everything_after_it(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    heard: list[CattlegridError] = []
    writer.on_poisoned = heard.append
    await writer.append([said()])
    store.available = False
    tickets = [writer.append([said()]), writer.append([said()])]
    for ticket in tickets:
        with pytest.raises(StoreUnavailable):
            await ticket
    store.available = True
    assert writer.poisoned
    assert isinstance(writer.failure, StoreUnavailable)
    assert heard == [writer.failure]
    with pytest.raises(StoreUnavailable):
        writer.append([said()])
    with pytest.raises(StoreUnavailable):
        await writer.barrier()
    assert not writer.lease_valid()
    assert len(await store.rows("ses_1")) == 1


async def test_a_failure_that_nobody_waits_for_is_heard_of_at_the_next_append(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    store.available = False
    writer.append([said()])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        writer.append([said()])


async def test_a_zombie_learns_that_it_is_one(store: MemoryJournal, clock: ManualClock) -> None:
    zombie = await opened(store, clock)
    clock.advance(LEASE_S + 1)
    heir = await opened(store, clock)
    with pytest.raises(AppendConflict):
        await zombie.append([said()])
    with pytest.raises(AppendConflict):
        zombie.append([said()])
    with pytest.raises(AppendConflict):
        await zombie.renew()
    await zombie.release()
    await heir.append([said()])


async def test_a_lease_that_cannot_be_renewed_poisons_only_when_it_is_lost(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    store.available = False
    with pytest.raises(StoreUnavailable):
        await writer.renew()
    store.available = True
    assert not writer.poisoned
    clock.advance(LEASE_S + 1)
    await opened(store, clock)
    with pytest.raises(AppendConflict):
        await writer.renew()
    assert writer.poisoned


async def test_a_side_effect_may_start_only_well_within_the_lease(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    assert writer.lease_valid()
    assert writer.lease_valid(needed_s=8)
    assert not writer.lease_valid(needed_s=9)
    clock.advance(8.9)
    assert writer.lease_valid()
    clock.advance(0.1)
    assert not writer.lease_valid()
    await writer.renew()
    assert writer.lease_valid(needed_s=8)


async def test_a_writer_that_gave_its_lease_back_writes_no_more(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    heard: list[CattlegridError] = []
    writer.on_poisoned = heard.append
    writer.append([said()])
    await writer.release()
    with pytest.raises(AppendConflict):
        writer.append([said()])
    assert heard == []
    assert (await opened(store, clock)).seq == 1


async def test_a_second_writer_is_refused(store: MemoryJournal, clock: ManualClock) -> None:
    await opened(store, clock)
    with pytest.raises(LeaseHeld):
        await opened(store, clock)


async def test_the_time_of_a_stream_never_runs_backwards(store: MemoryJournal) -> None:
    class Jumping(ManualClock):
        back = timedelta(0)

        def now(self) -> datetime:
            return super().now() - self.back

    clock = Jumping()
    writer = await opened(store, clock)
    first = writer.append([said()]).events[0]
    clock.back = timedelta(hours=1)
    assert writer.append([said()]).events[0].at == first.at
    await writer.release()
    assert (await opened(store, clock)).append([said()]).events[0].at == first.at


async def test_an_inbox_item_is_folded_in_with_the_event(store: MemoryJournal, clock: ManualClock) -> None:
    await store.post(InboxItem(id="inb_1", stream="ses_1", key="k", data=b"", at_us=1))
    writer = await opened(store, clock)
    await writer.append([said()], consumed=["inb_1"])
    assert await store.inbox("ses_1") == []


async def test_retiring_a_stream_keeps_its_place_among_the_audits(
    store: MemoryJournal, clock: ManualClock
) -> None:
    await (await opened(store, clock)).append([said()])
    control = await opened(store, clock, CONTROL_STREAM)
    control.append([said()])
    audit = NewEvent(SessionRetired(session="ses_1", last_seq=1, last_hash=""))
    retired = control.retire("ses_1", [audit])
    control.append([said()])
    await control.barrier()
    assert retired.events[0].seq == 2
    assert await store.rows("ses_1") == []
    assert check_chain(await store.rows(CONTROL_STREAM)) == (3, control.hash)


async def test_a_record_that_does_not_verify_is_not_opened_and_its_lease_is_free(clock: ManualClock) -> None:
    class Cut(MemoryJournal):
        async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None):  # noqa: ANN202
            return (await super().rows(stream, after_seq=after_seq, limit=limit))[:-1]

    cut = Cut(clock)
    writer = await opened(cut, clock)
    writer.append([said()])
    await writer.append([said()])
    await writer.release()
    for _ in range(2):
        with pytest.raises(IntegrityError):
            await opened(cut, clock)


async def test_events_that_cannot_be_encoded_leave_the_writer_as_it_was(
    store: MemoryJournal, clock: ManualClock
) -> None:
    writer = await opened(store, clock)
    with pytest.raises(UnicodeEncodeError):
        writer.append([said(), said("\ud800"), said()])
    assert writer.seq == 0
    await writer.append([said()])
    assert check_chain(await store.rows("ses_1")) == (1, writer.hash)
