"""Every store keeps the contract of the journal."""

import pytest

from cattlegrid.journal.store import JournalStore
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.contracts.journal import JournalContract, JournalUnderTest
from cattlegrid.testing.memory import MemoryJournal

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


class TestTheJournalInMemory(JournalContract):
    @pytest.fixture
    def journal(self) -> JournalUnderTest:
        return InMemory()
