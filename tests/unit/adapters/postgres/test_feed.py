"""The feed skips nothing: an event of a transaction that ends late is not passed over by a reader who was quick."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.journal.events import NewEvent, OperatorActed
from cattlegrid.journal.store import InboxItem
from cattlegrid.journal.verify import verify
from cattlegrid.journal.writer import SessionWriter, Ticket, new_stream
from cattlegrid.testing.clock import ManualClock
from tests.unit.adapters.postgres.conftest import Open

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("journal:feed-late")]

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


def event() -> NewEvent:
    return NewEvent(OperatorActed(action="test", by="somebody"))


@asynccontextmanager
async def held_up(database: str, store: PostgresJournal, writer: SessionWriter) -> AsyncGenerator[Ticket]:
    """An append that has its positions and cannot end before the block does: a row that it needs is locked."""
    await store.post(InboxItem(id="inb_1", stream=writer.stream, key="k", data=b"", at_us=1))
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT 1 FROM cattlegrid.inbox WHERE id = 'inb_1' FOR UPDATE")
        ticket = writer.append([event(), event()], consumed=["inb_1"])
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as watch:
            async with asyncio.timeout(10):
                while (await (await watch.execute(WAITING)).fetchone()) != (1,):
                    pass
        yield ticket
        await other.rollback()
    await ticket


async def test_what_was_written_meanwhile_waits_for_a_late_writer_and_nothing_is_skipped(
    database: str, store: PostgresJournal, another: Open, clock: ManualClock
) -> None:
    other = await another()
    late = new_stream(store, "ses_late", holder="a", lease_s=30, clock=clock)
    quick = new_stream(other, "ses_quick", holder="b", lease_s=30, clock=clock)
    await late.append([event()])
    await quick.append([event()])
    before = await other.feed(0)
    async with held_up(database, store, late) as ticket:
        await quick.append([event()])
        assert not ticket.durable
        assert await other.feed(before[-1].position) == []
        assert (await other.heads_changed_since(before[-1].position))[1] == []
    found = [(one.row.stream, one.row.seq) for one in await other.feed(before[-1].position)]
    assert found == [("ses_late", 2), ("ses_late", 3), ("ses_quick", 2)]


async def test_a_journal_with_a_late_writer_verifies_as_far_as_its_feed_goes(
    database: str, store: PostgresJournal, another: Open, clock: ManualClock
) -> None:
    other = await another()
    late = new_stream(store, "ses_late", holder="a", lease_s=30, clock=clock)
    quick = new_stream(other, "ses_quick", holder="b", lease_s=30, clock=clock)
    await late.append([event()])
    await quick.append([event()])
    async with held_up(database, store, late):
        await quick.append([event(), event()])
        report = await verify(other)
        assert (report.ok, report.events) == (True, 2)
    report = await verify(other)
    assert (report.ok, report.events) == (True, 6)


async def test_a_long_transaction_of_somebody_else_stops_no_feed(
    database: str, store: PostgresJournal, clock: ManualClock
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("CREATE TABLE theirs (x int)")
        await other.execute("SELECT pg_advisory_xact_lock_shared(1)")
        await new_stream(store, "ses_1", holder="a", lease_s=30, clock=clock).append([event()])
        assert len(await store.feed(0)) == 1
        await other.rollback()


async def test_positions_that_a_failed_append_took_are_only_gaps(
    store: PostgresJournal, clock: ManualClock
) -> None:
    first = new_stream(store, "ses_1", holder="a", lease_s=30, clock=clock)
    await first.append([event()])
    with pytest.raises(Exception, match="folded in"):
        await first.append([event()], consumed=["inb_none"])
    await new_stream(store, "ses_2", holder="a", lease_s=30, clock=clock).append([event()])
    assert [one.row.stream for one in await store.feed(0)] == ["ses_1", "ses_2"]
