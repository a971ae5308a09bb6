"""Turns events into the rows that stores keep, and rows back into events; links them into the chain of a stream.

`data` of a row is msgpack of the tagged struct, fields in their declared order, keys of dictionaries sorted, defaults
left out. The hash of a row is SHA-256 over the previous hash (32 zero bytes for the first event) and the msgpack array
`[stream, seq, run_id, type, at_us, data]`: equal events give equal bytes.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, cast, get_args

import msgspec

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.events import Data, Event
from cattlegrid.journal.store import Row
from cattlegrid.journal.upcasters import UPCASTERS, RawData, Upcaster, upcast

GENESIS: Final = bytes(32)
"""What stands for the previous hash before the first event of a stream."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Data)}
CURRENT_TYPES: Final = frozenset(_TYPES.values())
"""Every tag that is written today."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_data = msgspec.msgpack.Decoder(Data).decode
_decode_raw = msgspec.msgpack.Decoder(RawData).decode
_DIGEST: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}")


def type_of(data: Data) -> str:
    """The versioned tag of an event's data, for example `run_started.1`."""
    return _TYPES[type(data)]


def encode_data(data: Data) -> bytes:
    """The bytes that a row keeps."""
    return _encode(data)


def micros(at: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(at_us: int) -> datetime:
    """The time in UTC of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us)


def encode(event: Event) -> Row:
    """The row of an event."""
    kind = _TYPES[type(event.data)]
    at_us = micros(event.at)
    data = _encode(event.data)
    fields = (event.stream, event.seq, event.run_id, kind, at_us, data)
    return Row(
        stream=event.stream,
        seq=event.seq,
        run_id=event.run_id,
        type=kind,
        at_us=at_us,
        data=data,
        prev_hash=event.prev_hash,
        hash=sha256(event.prev_hash + _encode(fields)).digest(),
    )


def hash_of(row: Row) -> bytes:
    """What the hash of a row must be, computed from everything else in it."""
    fields = (row.stream, row.seq, row.run_id, row.type, row.at_us, row.data)
    return sha256(row.prev_hash + _encode(fields)).digest()


def decode(row: Row, *, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> Event:
    """The event of a row, of whatever version it is. The hash is not checked here: `check_chain` does that.

    Raises:
        IntegrityError: the data is no event that this version knows.
    """
    try:
        if row.type in CURRENT_TYPES:
            data = _decode_data(row.data)
        else:
            raw = upcast(_decode_raw(row.data), current=CURRENT_TYPES, upcasters=upcasters)
            data = cast("Data", msgspec.convert(raw, Data))
    except msgspec.MsgspecError as error:
        where = f"{row.stream} {row.seq} {row.type}: {error}"
        raise IntegrityError("An event of the journal cannot be read.", detail=where) from error
    return Event(
        stream=row.stream,
        seq=row.seq,
        run_id=row.run_id,
        at=from_micros(row.at_us),
        data=data,
        prev_hash=row.prev_hash,
    )


def check_chain(rows: Iterable[Row], *, seq: int = 0, hash: bytes = GENESIS) -> tuple[int, bytes]:  # noqa: A002
    """Prove that rows of one stream follow each other, beginning after the event `seq` with `hash`.

    Returns:
        Sequence number and hash of the last row.

    Raises:
        IntegrityError: a row is missing, out of order, or not what its hash says.
    """
    for row in rows:
        seq += 1
        if row.seq != seq or row.prev_hash != hash or row.hash != hash_of(row):
            raise IntegrityError("The record of this session does not verify.", detail=f"{row.stream} {seq}")
        hash = row.hash  # noqa: A001
    return seq, hash


def references(data: bytes) -> set[str]:
    """Everything in encoded data that can be the digest of a user's body; finds it in every version of every event."""
    return {found.decode() for found in _DIGEST.findall(data)}
