"""Turns columns of values into PostgreSQL's binary arrays, quicker than one adapter call for each value.

A column has one fixed type whatever its values, so that a statement is prepared once. Layout: number of dimensions,
flags, type of the elements, then length and lower bound, then each element after its length; big endian
(src/backend/utils/adt/arrayfuncs.c, `array_recv`).
"""

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import ClassVar, Final, Self

from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD: Final = struct.Struct("!5i")
_EMPTY: Final = struct.Struct("!3i")
_LENGTH: Final = struct.Struct("!i")


class _Array(bytes):
    """An encoded array."""

    element_oid: ClassVar[int]

    @classmethod
    def _of(cls, count: int, elements: Iterable[bytes]) -> Self:
        if not count:
            return cls(_EMPTY.pack(0, 0, cls.element_oid))
        return cls(b"".join((_HEAD.pack(1, 0, cls.element_oid, count, 1), *elements)))


class Numbers(_Array):
    """`bigint[]`."""

    element_oid = 20

    @classmethod
    def of(cls, values: Sequence[int]) -> Self:
        """Encode. Raises struct.error: a value is no 64-bit integer."""
        pairs = chain.from_iterable((8, value) for value in values)
        return cls._of(len(values), (struct.pack("!" + "iq" * len(values), *pairs),))


class Bytes(_Array):
    """`bytea[]`."""

    element_oid = 17

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Self:
        """Encode."""
        pack = _LENGTH.pack
        return cls._of(len(values), chain.from_iterable((pack(len(value)), value) for value in values))


class Texts(_Array):
    """`text[]`."""

    element_oid = 25

    @classmethod
    def of(cls, values: Sequence[str]) -> Self:
        """Encode. Raises UnicodeEncodeError."""
        pack = _LENGTH.pack
        encoded = [value.encode() for value in values]
        return cls._of(len(values), chain.from_iterable((pack(len(value)), value) for value in encoded))


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


class _NumbersDumper(_ArrayDumper):
    oid = 1016


class _BytesDumper(_ArrayDumper):
    oid = 1001


class _TextsDumper(_ArrayDumper):
    oid = 1009


def teach(connection: AsyncConnection[object]) -> None:
    """Let a connection take these arrays as parameters."""
    connection.adapters.register_dumper(Numbers, _NumbersDumper)
    connection.adapters.register_dumper(Bytes, _BytesDumper)
    connection.adapters.register_dumper(Texts, _TextsDumper)
