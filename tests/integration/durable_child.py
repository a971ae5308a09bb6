"""A process under trace: appends to a journal and says on stderr when each append is acknowledged.

python durable_child.py DATABASE COUNT          through the SQLite journal
python durable_child.py DATABASE COUNT careless through plain sqlite3 that never syncs, to show that it is noticed
"""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.journal.events import CancelRequested, NewEvent
from cattlegrid.journal.writer import open_stream


def acknowledge(number: int) -> None:
    """One system call, so that the trace has it at its place."""
    os.write(2, b"acknowledged %d\n" % number)


async def append(path: Path, count: int) -> None:
    """Append and await."""
    clock = SystemClock()
    store = await SqliteJournal.open(path, clock=clock)
    writer, _ = await open_stream(store, "ses_1", holder="child", lease_s=60, clock=clock)
    os.write(2, b"begin\n")
    for number in range(count):
        await writer.append([NewEvent(CancelRequested(by=f"user {number}"))])
        acknowledge(number)
    await store.close()


def careless(path: Path, count: int) -> None:
    """Commit without syncing."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE rows (number INTEGER)")
    os.write(2, b"begin\n")
    for number in range(count):
        connection.execute("INSERT INTO rows VALUES (?)", (number,))
        acknowledge(number)
    connection.close()


if __name__ == "__main__":
    if sys.argv[3:] == ["careless"]:
        careless(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        asyncio.run(append(Path(sys.argv[1]), int(sys.argv[2])))
