"""Turns texts into sealed bodies of one owner and back: digest, compression, encryption.

    user    digest: HMAC-SHA256 under the owner's key, 32 hexadecimal characters (128 bits)
            sealed: version byte, 12 bytes nonce, AES-256-GCM; associated data: version, owner, digest
    bundle  digest: SHA-256, 64 hexadecimal characters; sealed: version byte, content

The version byte tells both whether the content is encrypted and whether it is a zstd frame (RFC 8878). Texts below
`COMPRESS_FROM_BYTES`, and those that would not shrink, are kept as they are: that saves more time than space.
"""

import hashlib
import hmac
import os
from typing import Final, Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.kek import NONCE_BYTES, derive
from cattlegrid.journal.store import BodyRow

BUNDLE_PREFIX: Final = "bundle:"
COMPRESS_FROM_BYTES: Final = 160
MAX_BUNDLE_BODY_BYTES: Final = 64 * 1024 * 1024

_ENCRYPTED: Final = b"\x01"
_ENCRYPTED_ZSTD: Final = b"\x02"
_PLAIN: Final = b"\x03"
_PLAIN_ZSTD: Final = b"\x04"
_USER_DIGEST_BYTES: Final = 16


class OwnerBox(Protocol):
    """Seals and opens the bodies of one owner. Pure computation, for use by one thread at a time."""

    @property
    def owner(self) -> str: ...

    def digest(self, text: str | bytes) -> str:
        """The name of a body; equal for equal texts of this owner, and telling nothing about them to anybody else."""
        ...

    def seal(self, text: str | bytes) -> BodyRow:
        """The body as stores keep it."""
        ...

    def open(self, body: BodyRow) -> bytes:
        """The text of a body, as UTF-8.

        Raises:
            IntegrityError: it is another owner's, or was changed.
        """
        ...

    def keyed(self, purpose: str, *parts: str) -> str:
        """The digest of some values for one purpose, 32 hexadecimal characters; no text of a body has the same."""
        ...


class Zstd:
    """The compressor and the decompressor that all boxes of a vault share."""

    def __init__(self, level: int = 1) -> None:
        self._compress = zstandard.ZstdCompressor(level=level).compress
        self._decompress = zstandard.ZstdDecompressor().decompress

    def squeeze(self, text: bytes) -> bytes | None:
        """A smaller form of `text`, or None when it is not worth it."""
        if len(text) < COMPRESS_FROM_BYTES:
            return None
        squeezed = self._compress(text)
        return squeezed if len(squeezed) < len(text) else None

    def restore(self, squeezed: bytes, *, max_bytes: int | None = None) -> bytes:
        """What was squeezed. Raises IntegrityError when it is no frame, or one of more than `max_bytes`."""
        try:
            if max_bytes is not None and not 0 <= zstandard.frame_content_size(squeezed) <= max_bytes:
                raise IntegrityError("A body of the journal does not verify.", detail="size of a zstd frame")
            return self._decompress(squeezed)
        except zstandard.ZstdError as error:
            raise IntegrityError("A body of the journal does not verify.", detail=str(error)) from error


class UserBox:
    """The box of a user, made from the user's data key."""

    def __init__(self, owner: str, data_key: bytes, zstd: Zstd) -> None:
        self.owner = owner
        self._owner_bytes = owner.encode()
        self._zstd = zstd
        self._encryption = AESGCM(derive(data_key, "body encryption"))
        # Keyed once: a copy is quicker than a new one, and unlike `hmac.digest` it keeps the interpreter's lock.
        self._digesting = hmac.new(derive(data_key, "body digest"), digestmod="sha256")
        self._keying = hmac.new(derive(data_key, "keyed values"), digestmod="sha256")

    def digest(self, text: str | bytes) -> str:
        raw = text.encode() if isinstance(text, str) else text
        return _mac(self._digesting, raw)[:_USER_DIGEST_BYTES].hex()

    def seal(self, text: str | bytes) -> BodyRow:
        raw = text.encode() if isinstance(text, str) else text
        digest = _mac(self._digesting, raw)[:_USER_DIGEST_BYTES].hex()
        squeezed = self._zstd.squeeze(raw)
        version, content = (_ENCRYPTED, raw) if squeezed is None else (_ENCRYPTED_ZSTD, squeezed)
        nonce = os.urandom(NONCE_BYTES)
        encrypted = self._encryption.encrypt(nonce, content, self._context(version, digest))
        return BodyRow(owner=self.owner, digest=digest, sealed=version + nonce + encrypted)

    def open(self, body: BodyRow) -> bytes:
        version, sealed = body.sealed[:1], body.sealed[1 + NONCE_BYTES :]
        try:
            if version not in {_ENCRYPTED, _ENCRYPTED_ZSTD} or body.owner != self.owner:
                raise InvalidTag
            nonce = body.sealed[1 : 1 + NONCE_BYTES]
            content = self._encryption.decrypt(nonce, sealed, self._context(version, body.digest))
        except (InvalidTag, ValueError) as error:
            where = f"{body.owner} {body.digest}"
            raise IntegrityError("A body of the journal does not verify.", detail=where) from error
        return content if version == _ENCRYPTED else self._zstd.restore(content)

    def keyed(self, purpose: str, *parts: str) -> str:
        return _mac(self._keying, canonical_json([purpose, *parts]))[:16].hex()

    def _context(self, version: bytes, digest: str) -> bytes:
        return b"%b%b\x00%b" % (version, self._owner_bytes, digest.encode())


def _mac(keyed: hmac.HMAC, content: bytes) -> bytes:
    digest = keyed.copy()
    digest.update(content)
    return digest.digest()


class BundleBox:
    """The box of a bundle: anybody may read it, nobody can change it unseen."""

    def __init__(self, owner: str, zstd: Zstd) -> None:
        self.owner = owner
        self._zstd = zstd

    def digest(self, text: str | bytes) -> str:
        return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()

    def seal(self, text: str | bytes) -> BodyRow:
        raw = text.encode() if isinstance(text, str) else text
        squeezed = self._zstd.squeeze(raw)
        sealed = _PLAIN + raw if squeezed is None else _PLAIN_ZSTD + squeezed
        return BodyRow(owner=self.owner, digest=self.digest(raw), sealed=sealed)

    def open(self, body: BodyRow) -> bytes:
        version, content = body.sealed[:1], body.sealed[1:]
        if version == _PLAIN_ZSTD:
            content = self._zstd.restore(content, max_bytes=MAX_BUNDLE_BODY_BYTES)
        if (
            version not in {_PLAIN, _PLAIN_ZSTD}
            or body.owner != self.owner
            or self.digest(content) != body.digest
        ):
            where = f"{body.owner} {body.digest}"
            raise IntegrityError("A body of the journal does not verify.", detail=where)
        return content

    def keyed(self, purpose: str, *parts: str) -> str:
        return hashlib.sha256(canonical_json([self.owner, purpose, *parts])).hexdigest()[:32]
