"""Finds the key-encryption key of a store: given by the environment, or in a file of mode 0600 beside the database.

The store records the id of its key and opens with no other. A key is made only for a store that is empty and has none;
everywhere else a missing key is an error that says what to do, since a new one could not read what is there.
"""

import base64
import binascii
import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cattlegrid.core.errors import ConfigurationError, KeyMissing
from cattlegrid.journal.kek import KEY_BYTES, Kek
from cattlegrid.journal.store import JournalStore

KEK_ID_SETTING: Final = "kek_id"
_FILE_PREFIX: Final = "cattlegrid-key-1:"


async def unlock(store: JournalStore, *, path: Path, encoded: str = "", may_create: bool = False) -> Kek:
    """The key of this store, recorded in it when the store is new.

    Args:
        store: the open store; nothing is read from it but settings and whether it holds events.
        path: where the key file is, or is to be made.
        encoded: the key in base64, from the environment; then the file is not looked at.
        may_create: whether a new key may be made for an empty store.

    Raises:
        KeyMissing: no key, or not the one that the store was made with.
        ConfigurationError: the key cannot be decoded, or others may read its file.
    """
    recorded = await store.setting(KEK_ID_SETTING)
    empty = recorded is None and not await store.feed(0, limit=1)
    kek = _given(encoded) or _in_file(path)
    if kek is None:
        if empty and not may_create:
            raise KeyMissing(
                "This store is new and has no key yet. Make one, keep it as safe as the data, and give it to every "
                "process: CATTLEGRID_MASTER_KEY=$(openssl rand -base64 32).",
                detail=f"no file {path}",
            )
        if not empty:
            raise KeyMissing(
                "The key of this store is missing. Put its key file back, or give the key by the environment.",
                detail=f"no file {path}" + (f"; the store's key has the id {recorded}" if recorded else ""),
            )
        kek = _create(path)
    if recorded is None and empty:
        recorded = await store.first_setting(KEK_ID_SETTING, kek.id)
    if recorded != kek.id:
        raise KeyMissing(
            "This is not the key that the store was made with. Put the right key file back, or start with another store.",
            detail=f"the store's key has the id {recorded}, this one {kek.id}",
        )
    return kek


def _given(encoded: str) -> Kek | None:
    return Kek(_decoded(encoded, "the key in the environment")) if encoded else None


def _in_file(path: Path) -> Kek | None:
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("The key file cannot be read.", detail=f"{path}: {error}") from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            "Others may read the key file. Take that right away: chmod 600.",
            detail=f"{path} has mode {mode:04o}",
        )
    return Kek(_decoded(text.removeprefix(_FILE_PREFIX), f"the key file {path}"))


def _decoded(text: str, where: str) -> bytes:
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigurationError("The key-encryption key is not base64.", detail=where) from error
    if len(secret) != KEY_BYTES:
        detail = f"{where} holds {len(secret)} bytes"
        raise ConfigurationError(
            f"The key-encryption key must be {KEY_BYTES} bytes in base64.", detail=detail
        )
    return secret


def _create(path: Path) -> Kek:
    """Write a new key so that it is there wholly or not at all; another process that was first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = _FILE_PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n"
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path.parent)
    finally:
        Path(draft).unlink(missing_ok=True)
    kek = _in_file(path)
    if kek is None:
        raise KeyMissing("The key file vanished while it was made.", detail=str(path))
    return kek


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
