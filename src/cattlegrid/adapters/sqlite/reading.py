"""The queries of the port, each from a connection to frozen values, and what holds the connection they need."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from cattlegrid.adapters.rows import ENTRY, HEAD, LIVE, ROW, entry_of, feed_row_of, head_of, row_of
from cattlegrid.adapters.sqlite.database import Database, unavailable
from cattlegrid.adapters.sqlite.threads import Job
from cattlegrid.core.errors import StoreUnavailable
from cattlegrid.journal.directory import LIVE_STATUSES
from cattlegrid.journal.store import BodyRow, Entry, EntryQuery, FeedRow, Head, InboxItem, OwnerKey, Row

T = TypeVar("T")
Query = Callable[[sqlite3.Connection], T]

_AT_ONCE: Final = 500


class Reader:
    """A connection that reads, for one thread."""

    def __init__(self, database: Database, *, busy_s: float | None = None) -> None:
        self._database = database
        self._busy_s = busy_s
        self._connection: sqlite3.Connection | None = None

    def handle(self, jobs: Sequence[Job]) -> None:
        """Answer queries, each on its own."""
        for job in jobs:
            try:
                job.result = self.answer(cast("Query[object]", job.work))
            except StoreUnavailable as error:
                job.error = error
            except sqlite3.Error as error:
                job.error = unavailable(error, self._database.path)
                self.close()

    def answer(self, query: Query[T]) -> T:
        """What a query finds. Raises sqlite3.Error, StoreUnavailable."""
        if self._connection is None:
            self._connection = self._database.connect(read_only=True, busy_s=self._busy_s)
        return query(self._connection)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def head(connection: sqlite3.Connection, stream: str) -> Head | None:
    """Where a stream ends."""
    row = connection.execute(f"SELECT {HEAD} FROM heads WHERE stream=?", (stream,)).fetchone()  # noqa: S608
    return None if row is None else head_of(row)


def rows(connection: sqlite3.Connection, stream: str, after_seq: int, limit: int | None) -> list[Row]:
    """Events of one stream, oldest first."""
    found = connection.execute(
        f"SELECT {ROW} FROM events WHERE stream_id=(SELECT id FROM heads WHERE stream=?) AND seq>? "  # noqa: S608
        "ORDER BY seq LIMIT ?",
        (stream, after_seq, -1 if limit is None else limit),
    )
    return [row_of(stream, columns) for columns in found]


def feed(connection: sqlite3.Connection, after: int, limit: int) -> list[FeedRow]:
    """Events of all streams, oldest first."""
    found = connection.execute(
        f"SELECT position, (SELECT stream FROM heads WHERE id=stream_id), {ROW} FROM events "  # noqa: S608
        "WHERE position>? ORDER BY position LIMIT ?",
        (after, limit),
    )
    return [feed_row_of(columns) for columns in found]


def bodies(connection: sqlite3.Connection, owner: str, digests: Sequence[str]) -> list[BodyRow]:
    """Those bodies of an owner that exist."""
    wanted = list(dict.fromkeys(digests))
    made: list[BodyRow] = []
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        found = connection.execute(
            "SELECT digest, sealed FROM bodies "  # noqa: S608
            f"WHERE owner_id=(SELECT id FROM owners WHERE owner=?) AND digest IN ({marks})",
            (owner, *part),
        )
        made.extend(BodyRow(owner=owner, digest=digest, sealed=sealed) for digest, sealed in found)
    return made


def entry(connection: sqlite3.Connection, kind: str, id: str) -> Entry | None:
    """One line of the directory."""
    row = connection.execute(f"SELECT {ENTRY} FROM entries WHERE kind=? AND id=?", (kind, id)).fetchone()  # noqa: S608
    return None if row is None else entry_of(row)


def entries(connection: sqlite3.Connection, query: EntryQuery) -> list[Entry]:
    """The lines of the directory that a query asks for.

    The index is named: without statistics SQLite would go through all entries of the kind, newest first.
    """
    conditions: list[tuple[str, object]] = [("kind=?", query.kind)]
    for column in ("tenant", "owner", "agent", "stream"):
        value = getattr(query, column)
        if value:
            conditions.append((f"{column}=?", value))
    if query.stream and not query.owner:
        # The owner's index is the way to the entries of a stream: it has no index of its own.
        conditions.append(("owner=(SELECT owner FROM entries WHERE kind='session' AND id=?)", query.stream))
    if query.updated_before_us is not None:
        conditions.append(("updated_us<?", query.updated_before_us))
    if query.due_before_us is not None:
        conditions.append(("due_us>0 AND due_us<?", query.due_before_us))
    if query.before_id:
        conditions.append(("id<?", query.before_id))
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, value in conditions]
    if query.statuses:
        where += f" AND status IN ({','.join('?' * len(query.statuses))})"
        values.extend(query.statuses)
    index = ""
    if query.owner or query.stream:
        index = "INDEXED BY entries_owner"
    elif query.statuses and set(query.statuses) <= set(LIVE_STATUSES):
        index = "INDEXED BY entries_live"
        where += f" AND {LIVE}"  # the very words of the partial index
    found = connection.execute(
        f"SELECT {ENTRY} FROM entries {index} WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
        (*values, query.limit),
    )
    return [entry_of(row) for row in found]


def inbox(connection: sqlite3.Connection, stream: str) -> list[InboxItem]:
    """What waits in a stream's inbox, oldest first."""
    found = connection.execute(
        "SELECT id, key, data, at_us FROM inbox WHERE stream=? AND data IS NOT NULL ORDER BY position",
        (stream,),
    )
    return [
        InboxItem(id=id, stream=stream, key=key, data=data, at_us=at_us) for id, key, data, at_us in found
    ]


def streams_with_inbox(connection: sqlite3.Connection) -> list[str]:
    """Streams in whose inbox something waits."""
    found = connection.execute("SELECT DISTINCT stream FROM inbox WHERE data IS NOT NULL ORDER BY stream")
    return [row[0] for row in found]


def owner_key(connection: sqlite3.Connection, owner: str) -> OwnerKey | None:
    """The wrapped key of a user."""
    row = connection.execute(
        "SELECT wrapped, created_us FROM owners WHERE owner=? AND wrapped IS NOT NULL", (owner,)
    ).fetchone()
    return None if row is None else OwnerKey(owner=owner, wrapped=row[0], created_us=row[1])


def setting(connection: sqlite3.Connection, name: str) -> str | None:
    """A small setting."""
    row = connection.execute("SELECT value FROM settings WHERE name=?", (name,)).fetchone()
    return None if row is None else row[0]


def heads_changed_since(connection: sqlite3.Connection, position: int) -> tuple[int, list[Head]]:
    """The last position and the heads that moved after one, of one moment."""
    connection.execute("BEGIN")
    try:
        last = connection.execute("SELECT max(position) FROM events").fetchone()[0] or 0
        found = connection.execute(
            f"SELECT {HEAD} FROM heads "  # noqa: S608
            "WHERE id IN (SELECT DISTINCT stream_id FROM events WHERE position>?) ORDER BY stream",
            (position,),
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    return last, [head_of(row) for row in found]
