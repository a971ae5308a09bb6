"""Turns a bundle into the bytes that its digest is computed over, and such bytes back into the bundle.

The manifest is canonical JSON of every field of `Bundle` but the digest: it holds the SHA-256 of every file and of the
dependency lock, so its own SHA-256 covers everything that defines the version. A manifest is kept as it was written,
never encoded again: fields that later versions of Cattlegrid add do not change the digest of what exists.
"""

import hashlib
from typing import cast

import msgspec

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import IntegrityError


def sha256_hex(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


def write_manifest(bundle: Bundle) -> bytes:
    """The manifest of a bundle, whatever its `digest` says."""
    fields = cast("dict[str, object]", msgspec.to_builtins(bundle))
    del fields["digest"]
    return canonical_json(fields)


def read_manifest(manifest: bytes, *, digest: str) -> Bundle:
    """The bundle of a manifest.

    Raises:
        IntegrityError: the digest is another one, or this is no manifest.
    """
    found = sha256_hex(manifest)
    if found != digest:
        raise IntegrityError("A bundle does not verify.", detail=f"manifest is {found}, not {digest}")
    try:
        fields = msgspec.json.decode(manifest, type=dict[str, object])
        return msgspec.convert({**fields, "digest": digest}, Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError("A bundle cannot be read.", detail=str(error)) from error
