"""What deletes: the erasure of an owner and the retirement of a stream, each inside one transaction.

A body knows which stream brought it first and whether another one brought it too. Only for shared bodies, and for those
put before any event referred to them, are the owner's other streams read, newest first, until each is found needed.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from cattlegrid.journal.codec import references

_AT_ONCE: Final = 500


def sessions_of(connection: sqlite3.Connection, owner: str) -> list[str]:
    """The streams of all sessions of an owner."""
    rows = connection.execute(
        "SELECT stream FROM entries WHERE owner=? AND kind='session' ORDER BY id", (owner,)
    )
    return [row[0] for row in rows]


def has_anything(connection: sqlite3.Connection, owner: str) -> bool:
    """Whether a user has a key or bodies."""
    found = connection.execute(
        "SELECT wrapped IS NOT NULL OR EXISTS (SELECT 1 FROM bodies WHERE owner_id=owners.id) FROM owners WHERE owner=?",
        (owner,),
    ).fetchone()
    return found is not None and bool(found[0])


def erase(connection: sqlite3.Connection, owner: str) -> None:
    """Delete a user's key and bodies, and fence the writers of their sessions."""
    connection.execute("DELETE FROM bodies WHERE owner_id=(SELECT id FROM owners WHERE owner=?)", (owner,))
    connection.execute("DELETE FROM owners WHERE owner=?", (owner,))
    connection.execute(
        "UPDATE heads SET epoch=epoch+1, holder='', lease_until_us=NULL "
        "WHERE stream IN (SELECT stream FROM entries WHERE owner=? AND kind='session')",
        (owner,),
    )


def delete_stream(connection: sqlite3.Connection, stream: str) -> None:
    """Delete a stream with everything that nothing else needs."""
    found = connection.execute("SELECT id FROM heads WHERE stream=?", (stream,)).fetchone()
    session = connection.execute(
        "SELECT owner FROM entries WHERE kind='session' AND id=?", (stream,)
    ).fetchone()
    owner = session[0] if session is not None else ""
    if found is not None:
        _delete_bodies(connection, stream, found[0], owner)
        connection.execute("DELETE FROM events WHERE stream_id=?", found)
        connection.execute("DELETE FROM heads WHERE id=?", found)
    connection.execute("DELETE FROM inbox WHERE stream=?", (stream,))
    connection.execute("DELETE FROM entries WHERE owner=? AND stream=?", (owner, stream))


def _delete_bodies(connection: sqlite3.Connection, stream: str, stream_id: int, owner: str) -> None:
    owner_row = connection.execute("SELECT id FROM owners WHERE owner=?", (owner,)).fetchone()
    if owner_row is None:
        return
    wanted = sorted(_needs(connection, stream, stream_id))
    doubtful: dict[str, int] = {}
    unneeded: list[int] = []
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        rows = connection.execute(
            f"SELECT id, digest, shared OR stream_id<>? FROM bodies WHERE owner_id=? AND digest IN ({marks})",  # noqa: S608
            (stream_id, owner_row[0], *part),
        )
        for body_id, digest, doubt in rows:
            if doubt:
                doubtful[digest] = body_id
            else:
                unneeded.append(body_id)
    for other in reversed(sessions_of(connection, owner)):
        if not doubtful:
            break
        other_row = connection.execute("SELECT id FROM heads WHERE stream=?", (other,)).fetchone()
        if other != stream and other_row is not None:
            for digest in _needs(connection, other, other_row[0]):
                doubtful.pop(digest, None)
    unneeded.extend(doubtful.values())
    connection.executemany("DELETE FROM bodies WHERE id=?", [(body_id,) for body_id in unneeded])


def _needs(connection: sqlite3.Connection, stream: str, stream_id: int) -> set[str]:
    needed: set[str] = set()
    queries: Sequence[tuple[str, str | int]] = (
        ("SELECT data FROM events WHERE stream_id=?", stream_id),
        ("SELECT data FROM inbox WHERE stream=? AND data IS NOT NULL", stream),
    )
    for query, value in queries:
        for (data,) in connection.execute(query, (value,)):
            needed |= references(data)
    return needed
