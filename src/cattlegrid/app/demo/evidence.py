"""Reads what is true, from outside: the journal's database and the shop's, opened read-only beside the server."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec


class Recorded(msgspec.Struct, frozen=True):
    """One event as it stands in the journal: enough to tell whether it is still the same."""

    seq: int
    type: str
    hash: bytes


class Evidence:
    """The two databases of the demo."""

    def __init__(self, *, journal: Path, shop: Path) -> None:
        self._journal = journal
        self._shop = shop

    def refunds(self, order: int) -> tuple[int, int]:
        """How many refunds of an order the shop has made that were not taken back, and their sum in cents."""
        query = "SELECT count(*), coalesce(sum(amount_cents), 0) FROM refunds WHERE order_number = ? AND taken_back_at IS NULL"
        with closing(_read_only(self._shop)) as shop:
            count, cents = shop.execute(query, (order,)).fetchone()
        return count, cents

    def events(self, session_id: str) -> tuple[Recorded, ...]:
        """Everything recorded of a session, in order."""
        query = "SELECT events.seq, type, events.hash FROM events JOIN heads ON heads.id = stream_id WHERE stream = ? ORDER BY events.seq"
        with closing(_read_only(self._journal)) as journal:
            return tuple(Recorded(*row) for row in journal.execute(query, (session_id,)))


def lost(before: tuple[Recorded, ...], after: tuple[Recorded, ...]) -> int:
    """How many of the events that were there are missing or changed."""
    return len(set(before) - set(after))


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
