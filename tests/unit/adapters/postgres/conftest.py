"""Journals in databases of the tests' own, closed at their end."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.testing.clock import ManualClock

Open = Callable[[], Awaitable[PostgresJournal]]


@pytest.fixture
async def another(database: str, tmp_path: Path) -> AsyncGenerator[Open]:
    """Opens one more store on the test's database; leases end by the server's clock."""
    opened: list[PostgresJournal] = []

    async def open_another() -> PostgresJournal:
        store = await PostgresJournal.open(database, ledger=tmp_path / "erasures.jsonl")
        opened.append(store)
        return store

    yield open_another
    for store in opened:
        await store.close()


@pytest.fixture
async def store(another: Open) -> PostgresJournal:
    """A store on the test's database."""
    return await another()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of writers."""
    return ManualClock()
