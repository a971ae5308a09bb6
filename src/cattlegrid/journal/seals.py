"""Turns the heads of streams into signed lines, each holding the hash of the one before: a log to keep elsewhere.

A line is JSON: `n` counts from 1; `at` is its time; `position` is the last position of the feed that it covers;
`heads` are `[stream, seq, hash]` of every stream that has moved since the line before; `prev` is SHA-256 of the line
before (empty for the first); `signature` is Ed25519 (RFC 8032), in base64, over the canonical JSON of all the rest.

Whoever can write to the database can rewrite it with fitting hashes; without the key they cannot make the seals fit.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import IntegrityError
from cattlegrid.core.ports import Clock
from cattlegrid.journal.store import Head, JournalStore

SealedHead = tuple[str, int, str]


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log."""

    n: int
    at: datetime
    position: int
    heads: tuple[SealedHead, ...]
    prev: str
    signature: str = ""


class SealLog(Protocol):
    """Where the lines go. Implementation: `adapters.seal_log`."""

    async def last(self) -> str:
        """The last line, without its line feed; empty when there is none."""
        ...

    async def append(self, line: str) -> None:
        """Add a line, durably. Raises StoreUnavailable."""
        ...


_decode: Final = msgspec.json.Decoder(Seal).decode


def seal_line(seal: Seal, key: Ed25519PrivateKey) -> str:
    """The line of a seal, signed."""
    signature = base64.b64encode(key.sign(_signed(seal))).decode()
    return canonical_json(msgspec.structs.replace(seal, signature=signature)).decode()


def parse_seal(line: str) -> Seal:
    """The seal of a line. Raises IntegrityError when it is none."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise IntegrityError("A line of the seal log cannot be read.", detail=str(error)) from error


def line_hash(line: str) -> str:
    """What the next line names this one by."""
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


def is_signed(seal: Seal, key: Ed25519PublicKey) -> bool:
    """Whether the signature is that of this key over this seal."""
    try:
        key.verify(base64.b64decode(seal.signature, validate=True), _signed(seal))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


class Sealer:
    """Seals a store into a log: to be called every minute, by one process at a time."""

    def __init__(self, store: JournalStore, log: SealLog, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._key = key
        self._clock = clock

    async def seal(self) -> Seal | None:
        """Seal what has moved since the last line; None when nothing has.

        Raises:
            IntegrityError: the last line of the log is not one that this key has signed.
            StoreUnavailable: the store or the log.
        """
        line = await self._log.last()
        before = parse_seal(line) if line else None
        if before is not None and not is_signed(before, self._key.public_key()):
            raise IntegrityError("The last seal does not verify.", detail=f"seal {before.n}")
        position, heads = await self._store.heads_changed_since(before.position if before else 0)
        if not heads:
            return None
        seal = Seal(
            n=before.n + 1 if before else 1,
            at=self._clock.now(),
            position=position,
            heads=_sealed(heads),
            prev=line_hash(line),
        )
        await self._log.append(seal_line(seal, self._key))
        return seal


def _sealed(heads: Iterable[Head]) -> tuple[SealedHead, ...]:
    return tuple((head.stream, head.seq, head.hash.hex()) for head in heads)


def _signed(seal: Seal) -> bytes:
    return canonical_json(msgspec.structs.replace(seal, signature=""))
