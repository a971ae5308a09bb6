"""The hot path: turns the appends of many streams into one transaction's statements.

`append_together` assumes that every expectation holds, and writes all appends with one statement for each kind of row;
it raises `Refused` at the first doubt, and the transaction is rolled back and done again with `append_alone`, in which
each append stands in a savepoint of its own and learns what is wrong with it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cattlegrid.core.errors import AppendConflict
from cattlegrid.journal.bodies import BUNDLE_PREFIX
from cattlegrid.journal.codec import micros
from cattlegrid.journal.store import Append, BodyRow, EntryChange, Row

_MAX_KNOWN_STREAMS: Final = 100_000

_MOVE_HEAD: Final = "UPDATE heads SET seq=?, hash=? WHERE id=? AND stream=? AND epoch=? AND seq=? AND hash=?"
_MAKE_HEAD: Final = (
    "INSERT INTO heads (stream, epoch, seq, hash, holder, lease_until_us) VALUES (?, 1, 0, ?, ?, ?)"
)
_ADD_EVENT: Final = "INSERT INTO events (stream_id, seq, run_id, type, at_us, data, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_BODY: Final = (
    "INSERT INTO bodies (owner_id, digest, sealed, stream_id) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (owner_id, digest) DO UPDATE SET shared=1 WHERE shared=0 AND stream_id<>excluded.stream_id"
)
_PUT_BODY: Final = (
    "INSERT INTO bodies (owner_id, digest, sealed) VALUES (?, ?, ?) "
    "ON CONFLICT (owner_id, digest) DO UPDATE SET shared=1 WHERE shared=0"
)
_COLUMNS: Final = (
    "INSERT INTO entries "
    "(kind, id, stream, tenant, owner, agent, status, ref, digest, due_us, created_us, updated_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MAKE_ENTRY: Final = _COLUMNS
_CHANGE_ENTRY: Final = (
    f"{_COLUMNS} ON CONFLICT (kind, id) DO UPDATE SET "
    "status=CASE excluded.status WHEN '' THEN status ELSE excluded.status END, "
    "ref=CASE excluded.ref WHEN '' THEN ref ELSE excluded.ref END, "
    "due_us=CASE excluded.due_us WHEN 0 THEN due_us ELSE excluded.due_us END, "
    "updated_us=CASE excluded.updated_us WHEN 0 THEN updated_us ELSE excluded.updated_us END"
)
_FOLD_IN: Final = "UPDATE inbox SET data=NULL WHERE id=? AND stream=? AND data IS NOT NULL"
_KEYED_OWNER: Final = "SELECT id FROM owners WHERE owner=? AND wrapped IS NOT NULL"
_ADD_OWNER: Final = "INSERT INTO owners (owner) VALUES (?) ON CONFLICT (owner) DO NOTHING"
_ANY_OWNER: Final = "SELECT id FROM owners WHERE owner=?"


class Refused(Exception):
    """Something does not hold; `conflict` says what, when it is known."""

    def __init__(self, conflict: AppendConflict | None = None) -> None:
        super().__init__(conflict)
        self.conflict = conflict


class Appender:
    """The statements of appends on one connection, inside a transaction that the caller begins and ends."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._stream_ids: dict[str, int] = {}

    def append_together(self, batches: Sequence[Append]) -> None:
        """Write all of them. Raises Refused, sqlite3.Error: then nothing may be committed."""
        execute_many = self._connection.executemany
        self._make_streams(batches)
        moves = self._moves(batches)
        if execute_many(_MOVE_HEAD, moves).rowcount != len(moves):
            raise Refused
        ids = self._stream_ids
        execute_many(_ADD_EVENT, [_event(row, ids[row.stream]) for batch in batches for row in batch.rows])
        bodies = [(body, batch.stream) for batch in batches for body in batch.bodies]
        if bodies:
            owners = {owner: self.owner_id(owner) for owner in {body.owner for body, _ in bodies}}
            execute_many(
                _ADD_BODY,
                [(owners[body.owner], body.digest, body.sealed, ids[stream]) for body, stream in bodies],
            )
        self._change_entries([change for batch in batches for change in batch.changes])
        folded = [(id, batch.stream) for batch in batches for id in batch.consumed]
        if folded and execute_many(_FOLD_IN, folded).rowcount != len(folded):
            raise Refused

    def append_alone(self, batch: Append) -> None:
        """Write one append. Raises Refused with the reason, sqlite3.Error: then its savepoint must be rolled back."""
        execute = self._connection.execute
        try:
            self._make_streams([batch])
        except sqlite3.IntegrityError:
            raise _refused("This writer is no longer the writer.", f"head {batch.stream}") from None
        (move,) = self._moves([batch])
        if execute(_MOVE_HEAD, move).rowcount != 1:
            self._stream_ids.pop(batch.stream, None)
            raise _refused("This writer is no longer the writer.", f"head {batch.stream}")
        stream_id = self._stream_ids[batch.stream]
        for row in batch.rows:
            execute(_ADD_EVENT, _event(row, stream_id))
        for body in batch.bodies:
            execute(_ADD_BODY, (self.owner_id(body.owner), body.digest, body.sealed, stream_id))
        for change in batch.changes:
            try:
                execute(_MAKE_ENTRY if change.create else _CHANGE_ENTRY, _entry(change))
            except sqlite3.IntegrityError:
                raise _refused("This exists already.", f"entry {change.entry.kind}") from None
        for id in batch.consumed:
            if execute(_FOLD_IN, (id, batch.stream)).rowcount != 1:
                raise _refused("This was folded in already.", "inbox")

    def put_bodies(self, bodies: Iterable[BodyRow]) -> None:
        """Store bodies that belong to no stream yet. Raises Refused: an owner has no key."""
        rows = [(self.owner_id(body.owner), body.digest, body.sealed) for body in bodies]
        self._connection.executemany(_PUT_BODY, rows)

    def owner_id(self, owner: str) -> int:
        """The number of an owner who may have bodies. Raises Refused: a user who has no key."""
        execute = self._connection.execute
        if not owner.startswith(BUNDLE_PREFIX):
            found = execute(_KEYED_OWNER, (owner,)).fetchone()
            if found is None:
                raise _refused("This user's data has been erased.", "owner")
            return int(found[0])
        execute(_ADD_OWNER, (owner,))
        return int(execute(_ANY_OWNER, (owner,)).fetchone()[0])

    def stream_id(self, stream: str) -> int:
        """The number of a stream that exists. Raises Refused."""
        known = self._stream_ids.get(stream)
        if known is None:
            found = self._connection.execute("SELECT id FROM heads WHERE stream=?", (stream,)).fetchone()
            if found is None:
                raise _refused("This writer is no longer the writer.", f"head {stream}")
            if len(self._stream_ids) >= _MAX_KNOWN_STREAMS:
                self._stream_ids.clear()
            known = self._stream_ids[stream] = int(found[0])
        return known

    def forget_streams(self) -> None:
        """Look all numbers up again: some were given out in a transaction that was rolled back, or deleted."""
        self._stream_ids.clear()

    def _make_streams(self, batches: Sequence[Append]) -> None:
        """Make the streams that begin here, each with its lease. Raises sqlite3.IntegrityError: one exists."""
        for batch in batches:
            if batch.claim is not None:
                until_us = micros(self._now() + timedelta(seconds=batch.claim.lease_s))
                made = (batch.stream, batch.expected_hash, batch.claim.holder, until_us)
                self._stream_ids[batch.stream] = int(
                    self._connection.execute(_MAKE_HEAD, made).lastrowid or 0
                )

    def _change_entries(self, changes: Sequence[EntryChange]) -> None:
        """Make what is to be made, then change the rest: only where the order among them makes no difference."""
        made: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        seen: set[tuple[str, str]] = set()
        for change in changes:
            place = (change.entry.kind, change.entry.id)
            if not change.create:
                seen.add(place)
                changed.append(_entry(change))
            elif place in seen:
                raise Refused
            else:
                made.append(_entry(change))
        if made:
            self._connection.executemany(_MAKE_ENTRY, made)
        if changed:
            self._connection.executemany(_CHANGE_ENTRY, changed)

    def _moves(self, batches: Sequence[Append]) -> list[tuple[object, ...]]:
        """One movement of the head for each stream, from what its first append expects to where its last one ends."""
        moves: dict[str, tuple[int, int, bytes, int, bytes]] = {}
        for batch in batches:
            last = batch.rows[-1] if batch.rows else None
            end = (last.seq, last.hash) if last else (batch.expected_seq, batch.expected_hash)
            begin = (batch.epoch, batch.expected_seq, batch.expected_hash)
            before = moves.get(batch.stream)
            if before is None:
                moves[batch.stream] = (*begin, *end)
            elif (before[0], before[3], before[4]) == begin:
                moves[batch.stream] = (*before[:3], *end)
            else:
                raise _refused("This writer is no longer the writer.", f"head {batch.stream}")
        return [
            (move[3], move[4], self.stream_id(stream), stream, move[0], move[1], move[2])
            for stream, move in moves.items()
        ]


def _event(row: Row, stream_id: int) -> tuple[object, ...]:
    return (stream_id, row.seq, row.run_id, row.type, row.at_us, row.data, row.prev_hash, row.hash)


def _entry(change: EntryChange) -> tuple[object, ...]:
    entry = change.entry
    return (
        entry.kind,
        entry.id,
        entry.stream,
        entry.tenant,
        entry.owner,
        entry.agent,
        entry.status,
        entry.ref,
        entry.digest,
        entry.due_us,
        entry.created_us,
        entry.updated_us,
    )


def _refused(message: str, detail: str) -> Refused:
    return Refused(AppendConflict(message, detail=detail))
