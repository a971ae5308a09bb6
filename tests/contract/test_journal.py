"""Every store keeps the contract of the journal."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.journal.store import JournalStore
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.contracts.journal import JournalContract, JournalUnderTest
from cattlegrid.testing.memory import MemoryJournal
from tests.postgres import Cluster

pytestmark = pytest.mark.anyio


class InMemory:
    """The journal in memory: a restart finds the same object."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store: JournalStore = MemoryJournal(self.clock)

    async def reopen(self) -> JournalStore:
        await self.store.close()
        return self.store

    async def another(self) -> JournalStore:
        return self.store


@pytest.mark.requirement(
    "journal:contract",
    "journal:streams",
    "journal:lease",
    "journal:compare-and-set",
    "journal:inbox",
    "journal:feed",
)
class TestTheJournalInMemory(JournalContract):
    @pytest.fixture
    def journal(self) -> JournalUnderTest:
        return InMemory()


class InSqlite:
    """The journal in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.store: JournalStore
        self._path = path
        self._opened: list[SqliteJournal] = []

    async def open(self) -> SqliteJournal:
        store = await SqliteJournal.open(self._path, clock=self.clock)
        self._opened.append(store)
        return store

    async def reopen(self) -> JournalStore:
        await self.close()
        self.store = await self.open()
        return self.store

    async def another(self) -> JournalStore:
        return await self.open()

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
        self._opened.clear()


@pytest.mark.requirement(
    "journal:contract",
    "journal:streams",
    "journal:lease",
    "journal:compare-and-set",
    "journal:inbox",
    "journal:feed",
)
class TestTheJournalInSqlite(JournalContract):
    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncGenerator[JournalUnderTest]:
        subject = InSqlite(tmp_path / "journal.db")
        await subject.reopen()
        yield subject
        await subject.close()


class InPostgres:
    """The journal in a database of its own. Leases end by the test's clock."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = ManualClock()
        self.store: JournalStore
        self._url = url
        self._ledger = folder / "erasures.jsonl"
        self._opened: list[PostgresJournal] = []

    async def open(self) -> PostgresJournal:
        store = await PostgresJournal.open(self._url, ledger=self._ledger, clock=self.clock)
        self._opened.append(store)
        return store

    async def reopen(self) -> JournalStore:
        await self.close()
        self.store = await self.open()
        return self.store

    async def another(self) -> JournalStore:
        return await self.open()

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
        self._opened.clear()


@pytest.mark.requirement(
    "journal:contract",
    "journal:streams",
    "journal:lease",
    "journal:compare-and-set",
    "journal:inbox",
    "journal:feed",
)
class TestTheJournalInPostgres(JournalContract):
    @pytest.fixture
    async def journal(self, database: str, tmp_path: Path) -> AsyncGenerator[JournalUnderTest]:
        subject = InPostgres(database, tmp_path)
        await subject.reopen()
        yield subject
        await subject.close()


@pytest.mark.requirement("journal:contract", "journal:pooler")
class TestTheJournalBehindAPooler(JournalContract):
    """Every transaction may run on another connection of the server: nothing is kept in a session."""

    @pytest.fixture
    async def journal(
        self, postgres: Cluster, pooled: Path, database: str, tmp_path: Path
    ) -> AsyncGenerator[JournalUnderTest]:
        name = database.rpartition("@/")[2].partition("?")[0]
        subject = InPostgres(postgres.url(name, folder=pooled), tmp_path)
        await subject.reopen()
        yield subject
        await subject.close()
