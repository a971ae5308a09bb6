"""Every store through the machine: what was acknowledged is there, once, whatever happens in whichever order."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, cast

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.journal.store import JournalStore
from cattlegrid.testing.memory import MemoryJournal
from tests.contract.machine import JournalMachine
from tests.postgres import Cluster


class MemoryMachine(JournalMachine):
    """The journal in memory; a crash loses what is queued."""

    async def make(self) -> JournalStore:
        return MemoryJournal(self.clock)

    async def reopen(self) -> JournalStore:
        await self.store.close()
        return self.store

    async def crash(self) -> JournalStore:
        cast("MemoryJournal", self.store).lose_queued()
        return self.store


class SqliteMachine(JournalMachine):
    """The journal in a file; a crash leaves the file and its log as they are at some moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cattlegrid-machine-"))
        self.path = self.folder / "journal.db"

    async def make(self) -> JournalStore:
        return await SqliteJournal.open(self.path, clock=self.clock)

    async def reopen(self) -> JournalStore:
        await self.store.close()
        return await self.make()

    async def crash(self) -> JournalStore:
        after = self.path.with_name(f"after{self.number()}.db")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self.path}{suffix}", f"{after}{suffix}")
        await self.store.close()
        self.path = after
        return await self.make()

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


class PostgresMachine(JournalMachine):
    """The journal in a database; a crash cuts every connection, and what was under way is written or not."""

    cluster: ClassVar[Cluster]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cattlegrid-machine-"))
        self.database = self.cluster.journal()

    async def make(self) -> JournalStore:
        url = self.cluster.url(self.database)
        return await PostgresJournal.open(url, ledger=self.folder / "erasures.jsonl", clock=self.clock)

    async def reopen(self) -> JournalStore:
        await self.store.close()
        return await self.make()

    async def crash(self) -> JournalStore:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        self.cluster.disconnect(self.database)
        return await self.make()

    def teardown(self) -> None:
        super().teardown()
        self.cluster.drop(self.database)
        shutil.rmtree(self.folder)


@pytest.mark.requirement("journal:state-machine")
def test_the_machine_in_postgres(postgres: Cluster) -> None:
    PostgresMachine.cluster = postgres
    run_state_machine_as_test(PostgresMachine, settings=settings(max_examples=12, stateful_step_count=30))


TestTheMachineInMemory = pytest.mark.requirement("journal:state-machine")(MemoryMachine.TestCase)
TestTheMachineInMemory.settings = settings(max_examples=60, stateful_step_count=40)
TestTheMachineInSqlite = pytest.mark.requirement("journal:state-machine")(SqliteMachine.TestCase)
TestTheMachineInSqlite.settings = settings(max_examples=25, stateful_step_count=30)
