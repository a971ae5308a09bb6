"""What deletes: the erasure of an owner and the retirement of a stream, each in one transaction.

Both first lock the owner's row, as appends that bring bodies of the owner do (see `append`): what is under way ends
before, and what comes later finds the key gone, or the stream. Only then do they look at what there is.
"""

from collections.abc import Sequence
from typing import Final

from cattlegrid.adapters.postgres.appending import APPEND, Arguments
from cattlegrid.adapters.postgres.connections import Connection, fetch
from cattlegrid.journal.codec import references

LONG_S: Final = 300.0
"""How long a statement may take that looks at a whole journal, or deletes much of it."""
_BOUND: Final = "SET LOCAL idle_in_transaction_session_timeout = '15s'"
"""A process that is stopped in mid-deletion keeps its locks for no longer."""
_SESSIONS: Final = "SELECT stream FROM cattlegrid.entries WHERE owner = $1 AND kind = 'session' ORDER BY id"
_HAS_ANYTHING: Final = (
    "SELECT 1 FROM cattlegrid.owners AS o WHERE owner = $1 "
    "AND (wrapped IS NOT NULL OR EXISTS (SELECT 1 FROM cattlegrid.bodies WHERE owner_id = o.id))"
)
_DELETE_OWNER: Final = "DELETE FROM cattlegrid.owners WHERE owner = $1 RETURNING id"
_FENCE: Final = (
    "UPDATE cattlegrid.heads SET epoch = epoch + 1, holder = '', lease_until_us = NULL WHERE stream IN "
    "(SELECT stream FROM cattlegrid.entries WHERE owner = $1 AND kind = 'session')"
)
_DELETE_BODIES: Final = "DELETE FROM cattlegrid.bodies WHERE owner_id = $1"
_LOCK_OWNER: Final = "SELECT id FROM cattlegrid.owners WHERE owner = $1 FOR UPDATE"
_LOCK_HEAD: Final = "SELECT id FROM cattlegrid.heads WHERE stream = $1 FOR UPDATE"
_OWNER: Final = "SELECT owner FROM cattlegrid.entries WHERE kind = 'session' AND id = $1"
_BODIES: Final = (
    "SELECT id, digest, shared = 1 OR stream_id <> $2 FROM cattlegrid.bodies "
    "WHERE owner_id = $1 AND digest = ANY ($3)"
)
_DATA: Final = (
    "SELECT data FROM cattlegrid.events WHERE stream_id = (SELECT id FROM cattlegrid.heads WHERE stream = $1) "
    "UNION ALL SELECT data FROM cattlegrid.inbox WHERE stream = $1 AND data IS NOT NULL"
)
_DELETE_STREAM: Final = (
    "DELETE FROM cattlegrid.events WHERE stream_id = (SELECT id FROM cattlegrid.heads WHERE stream = $1)",
    "DELETE FROM cattlegrid.heads WHERE stream = $1",
    "DELETE FROM cattlegrid.inbox WHERE stream = $1",
)


async def sessions_of(connection: Connection, owner: str) -> list[str]:
    """The streams of all sessions of an owner."""
    return [row[0] for row in await fetch(connection, _SESSIONS, (owner,))]


async def has_anything(connection: Connection, owner: str) -> bool:
    """Whether a user has a key or bodies."""
    return bool(await fetch(connection, _HAS_ANYTHING, (owner,)))


async def erase(connection: Connection, owner: str) -> list[str]:
    """Delete a user's key and bodies, and fence the writers of their sessions; the streams of all of these."""
    async with connection.transaction():
        await connection.execute(_BOUND)
        owner_ids = await fetch(connection, _DELETE_OWNER, (owner,))
        await fetch(connection, _FENCE, (owner,))
        for row in owner_ids:
            await fetch(connection, _DELETE_BODIES, row)
        return await sessions_of(connection, owner)


async def delete_stream(connection: Connection, stream: str, audit: Arguments) -> None:
    """Delete a stream with everything that nothing else needs, and write the append that says so."""
    async with connection.transaction():
        await connection.execute(_BOUND)
        found = await fetch(connection, _OWNER, (stream,))
        owner = found[0][0] if found else ""
        owner_ids = await fetch(connection, _LOCK_OWNER, (owner,))
        head_ids = await fetch(connection, _LOCK_HEAD, (stream,))
        if owner_ids and head_ids:
            unneeded = await _unneeded(connection, stream, owner, (owner_ids[0][0], head_ids[0][0]))
            await fetch(connection, "DELETE FROM cattlegrid.bodies WHERE id = ANY ($1)", (unneeded,))
        for statement in _DELETE_STREAM:
            await fetch(connection, statement, (stream,))
        await fetch(
            connection, "DELETE FROM cattlegrid.entries WHERE owner = $1 AND stream = $2", (owner, stream)
        )
        await fetch(connection, APPEND, audit)


async def _unneeded(connection: Connection, stream: str, owner: str, ids: tuple[int, int]) -> Sequence[int]:
    """The bodies that only this stream refers to. For doubtful ones the owner's other streams are read."""
    wanted = sorted(await _needs(connection, stream))
    doubtful: dict[str, int] = {}
    unneeded: list[int] = []
    for body_id, digest, doubt in await fetch(connection, _BODIES, (*ids, wanted)):
        if doubt:
            doubtful[digest] = body_id
        else:
            unneeded.append(body_id)
    for other in reversed(await sessions_of(connection, owner)):
        if not doubtful:
            break
        if other != stream:
            for digest in await _needs(connection, other):
                doubtful.pop(digest, None)
    return [*unneeded, *doubtful.values()]


async def _needs(connection: Connection, stream: str) -> set[str]:
    needed: set[str] = set()
    for (data,) in await fetch(connection, _DATA, (stream,)):
        needed |= references(data)
    return needed
