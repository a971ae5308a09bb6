"""Opens what a process is told to use, the journal and the jobs: of this machine, or a PostgreSQL database of many."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from cattlegrid.adapters.jobs import InProcessJobs
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.core.ports import Clock, Jobs
from cattlegrid.journal.store import JournalStore


class WorkingJobs(Jobs, AbstractAsyncContextManager[object], Protocol):
    """Jobs that this process does for as long as they are entered as a context."""

    async def close(self) -> None:
        """Let go of what they are kept in. Idempotent."""
        ...


async def open_journal(*, url: str, folder: Path, clock: Clock, durable: bool) -> JournalStore:
    """Open a journal; an empty one is made.

    Args:
        url: of the database; empty for a file in `folder`.
        folder: where the file is, and the list of erasures.
        clock: by which leases of a file end; a database has its own.
        durable: refuse a server that may lose what it has acknowledged.

    Raises:
        StoreUnavailable: it cannot be made or opened.
        ConfigurationError: it is not one of this version, or may not be used.
    """
    if not url:
        return await SqliteJournal.open(folder / "journal.db", clock=clock)
    # Whoever uses a file need not wait until psycopg is loaded.
    from cattlegrid.adapters.postgres.journal import PostgresJournal

    return await PostgresJournal.open(url, ledger=folder / "erasures.jsonl", durable=durable)


def jobs_of(*, url: str, clock: Clock, concurrency: int) -> WorkingJobs:
    """The work of a store; nothing is connected yet.

    Args:
        url: of the database; empty for work in this process alone.
        clock: by which that work is due; a database has its own.
        concurrency: how many tasks may be under way at once in this process.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    if not url:
        return InProcessJobs(clock, concurrency=concurrency)
    from cattlegrid.adapters.spread.jobs import SpreadJobs, SpreadSettings

    return SpreadJobs(url, SpreadSettings(concurrency=concurrency))
