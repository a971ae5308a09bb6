"""Turns rows of the journal's tables into the frozen values of its port: the same columns in the same order in every store."""

from typing import Any, Final

from cattlegrid.journal.codec import from_micros
from cattlegrid.journal.directory import LIVE_STATUSES
from cattlegrid.journal.store import Entry, FeedRow, Head, Row

Columns = tuple[Any, ...]

LIVE: Final = "status IN (" + ", ".join(f"'{status}'" for status in LIVE_STATUSES) + ")"
"""The very words of the partial index over what still waits for something."""
HEAD: Final = "stream, epoch, seq, hash, holder, lease_until_us"
ROW: Final = "seq, run_id, type, at_us, data, prev_hash, hash"
ENTRY: Final = "kind, id, stream, tenant, owner, agent, status, ref, digest, due_us, created_us, updated_us"


def head_of(row: Columns) -> Head:
    """A head from its columns `stream, epoch, seq, hash, holder, lease_until_us`."""
    stream, epoch, seq, hash_, holder, until_us = row
    until = None if until_us is None else from_micros(until_us)
    return Head(stream=stream, epoch=epoch, seq=seq, hash=hash_, holder=holder, lease_until=until)


def row_of(stream: str, columns: Columns) -> Row:
    """An event of a stream."""
    seq, run_id, type_, at_us, data, prev_hash, hash_ = columns
    return Row(
        stream=stream,
        seq=seq,
        run_id=run_id,
        type=type_,
        at_us=at_us,
        data=data,
        prev_hash=prev_hash,
        hash=hash_,
    )


def feed_row_of(columns: Columns) -> FeedRow:
    """An event with its position and the name of its stream in front."""
    return FeedRow(position=columns[0], row=row_of(columns[1], columns[2:]))


def entry_of(columns: Columns) -> Entry:
    """A line of the directory."""
    kind, id_, stream, tenant, owner, agent, status, ref, digest, due_us, created_us, updated_us = columns
    return Entry(
        kind=kind,
        id=id_,
        stream=stream,
        tenant=tenant,
        owner=owner,
        agent=agent,
        status=status,
        ref=ref,
        digest=digest,
        due_us=due_us,
        created_us=created_us,
        updated_us=updated_us,
    )
