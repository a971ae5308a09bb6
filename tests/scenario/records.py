"""Reads a project's journal beside a running server: the events as they are stored, and whatever else is asked."""

import sqlite3
from contextlib import closing
from pathlib import Path

from cattlegrid.journal.codec import decode
from cattlegrid.journal.events import Data
from cattlegrid.journal.store import Row

_EVENTS = (
    "SELECT events.seq, run_id, type, at_us, data, prev_hash, events.hash FROM events JOIN heads ON heads.id = stream_id "
    "WHERE stream = ? ORDER BY events.seq"
)


def journal(state: Path) -> Path:
    """The database file of a state folder."""
    return state / "journal.db"


def query(state: Path, statement: str, *values: str) -> list[tuple[object, ...]]:
    """The rows that a statement finds."""
    with closing(sqlite3.connect(f"file:{journal(state)}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, values).fetchall()


def rows(state: Path, stream: str) -> list[Row]:
    """The events of a stream as they are stored."""
    found = query(state, _EVENTS, stream)
    names = ("seq", "run_id", "type", "at_us", "data", "prev_hash", "hash")
    return [Row(stream=stream, **dict(zip(names, row, strict=True))) for row in found]  # pyright: ignore[reportArgumentType]


def events(state: Path, stream: str) -> list[Data]:
    """What the events of a stream say."""
    return [decode(row).data for row in rows(state, stream)]
