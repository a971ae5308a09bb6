"""Turns the appends of many streams into the arguments of one call of the function `append`. Pure.

What is meant for one row several times over is folded into one, since one statement changes a row once: a head moves
from what its first append expects to where its last one ends, a body is stored once, changes of an entry add up.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cattlegrid.adapters.postgres.arrays import Bytes, Numbers, Texts
from cattlegrid.core.errors import AppendConflict
from cattlegrid.journal.bodies import BUNDLE_PREFIX
from cattlegrid.journal.store import Append, BodyRow, Claim, Entry, EntryChange

Arguments = list[Numbers | Bytes | Texts | int | None]

APPEND: Final = f"SELECT cattlegrid.append({', '.join(f'${place}' for place in range(1, 44))})"


class Refused(Exception):
    """Something does not hold; `conflict` says what, when it is known."""

    def __init__(self, conflict: AppendConflict | None = None) -> None:
        super().__init__(conflict)
        self.conflict = conflict


def refused(message: str, detail: str) -> Refused:
    """A refusal that says why."""
    return Refused(AppendConflict(message, detail=detail))


class Move(msgspec.Struct):
    """From where to where the head of one stream goes."""

    stream_id: int
    epoch: int
    seq: int
    hash: bytes
    to_seq: int
    to_hash: bytes
    claim: Claim | None = None
    """With it the stream is made."""


def arguments_of(
    batches: Sequence[Append], stream_ids: Mapping[str, int], moves: Mapping[str, Move], now_us: int | None
) -> Arguments:
    """The arguments of `append`. Raises Refused: an entry is made after it was changed, or a value cannot be stored."""
    try:
        return [
            now_us,
            *_claims(moves),
            *_moves([move for move in moves.values() if move.claim is None]),
            *_events(batches, stream_ids),
            *_bodies(batches, stream_ids),
            *_entries([change for batch in batches for change in batch.changes]),
            Texts.of([id for batch in batches for id in batch.consumed]),
            Texts.of([batch.stream for batch in batches for _ in batch.consumed]),
        ]
    except (struct.error, UnicodeEncodeError) as error:
        raise refused("This cannot be written.", repr(error)) from error


def moves_of(batches: Sequence[Append], stream_ids: Mapping[str, int]) -> dict[str, Move]:
    """One movement for each stream, in one order for all processes. Raises Refused: appends do not follow each other."""
    moves: dict[str, Move] = {}
    for batch in batches:
        last = batch.rows[-1] if batch.rows else None
        end = (last.seq, last.hash) if last else (batch.expected_seq, batch.expected_hash)
        before = moves.get(batch.stream)
        if before is None:
            begin = (batch.epoch, batch.expected_seq, batch.expected_hash)
            moves[batch.stream] = Move(stream_ids[batch.stream], *begin, *end, batch.claim)
        elif batch.claim is None and (before.epoch, before.to_seq, before.to_hash) == (
            batch.epoch,
            batch.expected_seq,
            batch.expected_hash,
        ):
            before.to_seq, before.to_hash = end
        else:
            raise refused("This writer is no longer the writer.", f"head {batch.stream}")
    return dict(sorted(moves.items()))


def owners_of(bodies: Sequence[BodyRow]) -> tuple[Texts, Texts]:
    """The owners that must have a key, and the bundles."""
    owners = sorted({body.owner for body in bodies})
    return (
        Texts.of([owner for owner in owners if not owner.startswith(BUNDLE_PREFIX)]),
        Texts.of([owner for owner in owners if owner.startswith(BUNDLE_PREFIX)]),
    )


def _claims(moves: Mapping[str, Move]) -> Arguments:
    made = [(stream, move, move.claim) for stream, move in moves.items() if move.claim is not None]
    return [
        Numbers.of([move.stream_id for _, move, _ in made]),
        Texts.of([stream for stream, _, _ in made]),
        Texts.of([claim.holder for _, _, claim in made]),
        Numbers.of([round(claim.lease_s * 1_000_000) for _, _, claim in made]),
        Numbers.of([move.to_seq for _, move, _ in made]),
        Bytes.of([move.to_hash for _, move, _ in made]),
    ]


def _moves(moves: Sequence[Move]) -> Arguments:
    return [
        Numbers.of([move.stream_id for move in moves]),
        Numbers.of([move.epoch for move in moves]),
        Numbers.of([move.seq for move in moves]),
        Bytes.of([move.hash for move in moves]),
        Numbers.of([move.to_seq for move in moves]),
        Bytes.of([move.to_hash for move in moves]),
    ]


def _events(batches: Sequence[Append], stream_ids: Mapping[str, int]) -> Arguments:
    rows = [row for batch in batches for row in batch.rows]
    return [
        Numbers.of([stream_ids[row.stream] for row in rows]),
        Numbers.of([row.seq for row in rows]),
        Texts.of([row.run_id for row in rows]),
        Texts.of([row.type for row in rows]),
        Numbers.of([row.at_us for row in rows]),
        Bytes.of([row.data for row in rows]),
        Bytes.of([row.prev_hash for row in rows]),
        Bytes.of([row.hash for row in rows]),
    ]


def _bodies(batches: Sequence[Append], stream_ids: Mapping[str, int]) -> Arguments:
    found: dict[tuple[str, str], tuple[BodyRow, int]] = {}
    shared: set[tuple[str, str]] = set()
    for batch in batches:
        stream_id = stream_ids[batch.stream]
        for body in batch.bodies:
            place = (body.owner, body.digest)
            if found.setdefault(place, (body, stream_id))[1] != stream_id:
                shared.add(place)
    # In one order for all processes: two that store the same bodies wait for each other, and never in a circle.
    ordered = [(place, *found[place]) for place in sorted(found)]
    return [
        *owners_of([body for _, body, _ in ordered]),
        Texts.of([body.owner for _, body, _ in ordered]),
        Texts.of([body.digest for _, body, _ in ordered]),
        Bytes.of([body.sealed for _, body, _ in ordered]),
        Numbers.of([stream_id for _, _, stream_id in ordered]),
        Numbers.of([place in shared for place, _, _ in ordered]),
    ]


def _entries(changes: Sequence[EntryChange]) -> Arguments:
    found: dict[tuple[str, str], tuple[bool, Entry]] = {}
    for change in changes:
        new = change.entry
        place = (new.kind, new.id)
        before = found.get(place)
        if before is None:
            found[place] = (change.create, new)
        elif change.create:
            raise refused("This exists already.", f"entry {new.kind}")
        else:
            found[place] = (before[0], _merged(before[1], new))
    made = [found[place] for place in sorted(found)]
    entries = [entry for _, entry in made]
    return [
        Numbers.of([create for create, _ in made]),
        Texts.of([entry.kind for entry in entries]),
        Texts.of([entry.id for entry in entries]),
        Texts.of([entry.stream for entry in entries]),
        Texts.of([entry.tenant for entry in entries]),
        Texts.of([entry.owner for entry in entries]),
        Texts.of([entry.agent for entry in entries]),
        Texts.of([entry.status for entry in entries]),
        Texts.of([entry.ref for entry in entries]),
        Texts.of([entry.digest for entry in entries]),
        Numbers.of([entry.due_us for entry in entries]),
        Numbers.of([entry.created_us for entry in entries]),
        Numbers.of([entry.updated_us for entry in entries]),
    ]


def _merged(old: Entry, new: Entry) -> Entry:
    return msgspec.structs.replace(
        old,
        status=new.status or old.status,
        ref=new.ref or old.ref,
        due_us=new.due_us or old.due_us,
        updated_us=new.updated_us or old.updated_us,
    )
