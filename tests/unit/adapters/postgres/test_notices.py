"""What one process writes, the others hear of; where nobody can LISTEN, they look."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.journal.events import NewEvent, OperatorActed
from cattlegrid.journal.notices import Notice
from cattlegrid.journal.store import InboxItem
from cattlegrid.journal.writer import new_stream
from cattlegrid.testing.clock import ManualClock
from tests.postgres import Cluster
from tests.unit.adapters.postgres.conftest import Open

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("journal:notices")]


class Ear:
    """Listens, and waits until it has heard of a stream."""

    def __init__(self, store: PostgresJournal) -> None:
        self.events: list[str] = []
        self.inbox: list[str] = []
        self._heard = asyncio.Event()
        self._store = store
        self.stop = store.listen(self._hear)

    def _hear(self, notice: Notice) -> None:
        self.events.extend(notice.events)
        self.inbox.extend(notice.inbox)
        self._heard.set()

    async def anything(self, *, within_s: float) -> None:
        """Return when something was heard, or not in time."""
        self._heard.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), within_s)

    async def until(self, *, events: set[str], inbox: set[str]) -> None:
        async with asyncio.timeout(10):
            while not (events <= set(self.events) and inbox <= set(self.inbox)):
                self._heard.clear()
                await self._heard.wait()


async def write(store: PostgresJournal, *streams: str) -> None:
    clock = ManualClock()
    writers = [new_stream(store, stream, holder="a", lease_s=30, clock=clock) for stream in streams]
    for ticket in [writer.append([NewEvent(OperatorActed(action="test", by="x"))]) for writer in writers]:
        await ticket


async def post(store: PostgresJournal, stream: str) -> None:
    assert await store.post(InboxItem(id=f"inb_{stream}", stream=stream, key="k", data=b"", at_us=1))


async def test_writes_and_posts_of_another_process_are_heard_of(
    store: PostgresJournal, another: Open
) -> None:
    ear = Ear(store)
    await store.listening()
    other = await another()
    await write(other, "ses_1")
    await post(other, "ses_2")
    await ear.until(events={"ses_1"}, inbox={"ses_2"})


async def test_many_streams_at_once_are_all_named(store: PostgresJournal, another: Open) -> None:
    ear = Ear(store)
    await store.listening()
    names = {f"ses_{number:030}" for number in range(700)}
    await write(await another(), *sorted(names))
    await ear.until(events=names, inbox=set())


async def test_hearing_begins_again_after_the_connection_was_cut(
    postgres: Cluster, database: str, store: PostgresJournal, another: Open
) -> None:
    ear = Ear(store)
    await store.listening()
    other = await another()
    await write(other, "ses_1")
    await ear.until(events={"ses_1"}, inbox=set())
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
        f"AND datname = '{database.rpartition('@/')[2].partition('?')[0]}'"
    )
    for number in range(2, 200):
        await write(other, f"ses_{number}")
        if len(set(ear.events)) > 1:
            break
        await ear.anything(within_s=0.05)
    assert len(set(ear.events)) > 1


@pytest.fixture
async def behind(
    postgres: Cluster, pooled: Path, database: str, tmp_path: Path
) -> AsyncGenerator[PostgresJournal]:
    """A store behind a pooler."""
    url = postgres.url(database.rpartition("@/")[2].partition("?")[0], folder=pooled)
    store = await PostgresJournal.open(url, ledger=tmp_path / "erasures.jsonl")
    yield store
    await store.close()


@pytest.mark.requirement("journal:pooler")
async def test_behind_a_pooler_others_are_heard_of_too(behind: PostgresJournal, another: Open) -> None:
    assert behind.facts.pooled
    ear = Ear(behind)
    await behind.listening()
    other = await another()
    assert not other.facts.pooled
    await write(other, "ses_1")
    await post(other, "ses_2")
    await ear.until(events={"ses_1"}, inbox={"ses_2"})
