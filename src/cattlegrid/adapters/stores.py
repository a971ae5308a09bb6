"""Opens the journal that a process is told to use: a file of this machine, or a PostgreSQL database that many share."""

from pathlib import Path

from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.core.ports import Clock
from cattlegrid.journal.store import JournalStore


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
