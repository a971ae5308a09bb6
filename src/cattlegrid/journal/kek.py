"""The key-encryption key: from 32 secret bytes to the four keys that protect the store.

Everything is derived by HKDF-SHA256 (RFC 5869), one label for each purpose: wrapping the data keys of owners, naming
owners, signing seals, and an id that tells one key from another without telling anything about it.
"""

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import IntegrityError, KeyMissing

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_WRAPPED_V1: Final = b"\x01"


def derive(secret: bytes, label: str, length: int = KEY_BYTES) -> bytes:
    """Key material for one purpose."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"cattlegrid " + label.encode()).derive(
        secret
    )


class Kek:
    """The key-encryption key. Shows its id only.

    Raises:
        KeyMissing: `secret` is not 32 bytes long.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise KeyMissing(
                "The key-encryption key is not usable.",
                detail=f"it must be {KEY_BYTES} bytes, not {len(secret)}",
            )
        self.id: Final = derive(secret, "key id", 8).hex()
        self._wrapping = AESGCM(derive(secret, "wrap data keys"))
        self._naming = derive(secret, "name owners")
        self._signing = derive(secret, "sign seals")

    def __repr__(self) -> str:
        return f"Kek({self.id})"

    def wrap(self, owner: str, data_key: bytes) -> bytes:
        """A data key that only this key and this owner's name open: version, nonce, AES-256-GCM."""
        nonce = os.urandom(NONCE_BYTES)
        return _WRAPPED_V1 + nonce + self._wrapping.encrypt(nonce, data_key, owner.encode())

    def unwrap(self, owner: str, wrapped: bytes) -> bytes:
        """The data key of an owner.

        Raises:
            IntegrityError: it was wrapped with another key, for another owner, or was changed.
        """
        nonce, sealed = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        try:
            if wrapped[:1] != _WRAPPED_V1:
                raise InvalidTag
            return self._wrapping.decrypt(nonce, sealed, owner.encode())
        except (InvalidTag, ValueError) as error:
            raise IntegrityError("The key of this user does not verify.", detail=owner) from error

    def pseudonym(self, tenant: str, user: str) -> str:
        """The name under which everything of a user is kept: `usr_` and 32 hexadecimal characters."""
        return "usr_" + hmac.digest(self._naming, canonical_json([tenant, user]), "sha256")[:16].hex()

    def signing_key(self) -> Ed25519PrivateKey:
        """What seals are signed with (RFC 8032)."""
        return Ed25519PrivateKey.from_private_bytes(self._signing)
