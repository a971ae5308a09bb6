"""What the tests of the SQLite journal share."""

import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.journal.events import CancelRequested, NewEvent
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter, open_stream
from cattlegrid.testing.clock import ManualClock

KEK = Kek(bytes(range(32)))
LEASE_S = 60.0


@asynccontextmanager
async def opened(
    path: Path, *, clock: ManualClock | None = None, busy_s: float = 0.2
) -> AsyncGenerator[SqliteJournal]:
    """A journal in a file, closed at the end."""
    store = await SqliteJournal.open(path, clock=clock or ManualClock(), busy_s=busy_s)
    try:
        yield store
    finally:
        await store.close()


async def writer_of(
    store: JournalStore, stream: str = "ses_1", *, clock: ManualClock | None = None
) -> SessionWriter:
    """The writer of a stream."""
    writer, _ = await open_stream(store, stream, holder="test", lease_s=LEASE_S, clock=clock or ManualClock())
    return writer


def vault_of(store: JournalStore, clock: ManualClock | None = None) -> Vault:
    """A vault with the tests' key."""
    return Vault(store, KEK, clock or ManualClock())


def said(by: str = "ann") -> NewEvent:
    """Some event."""
    return NewEvent(CancelRequested(by=by), "run_1")


@contextmanager
def raw(path: Path) -> Generator[sqlite3.Connection]:
    """The file as another program sees it."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        yield connection
    finally:
        connection.close()
