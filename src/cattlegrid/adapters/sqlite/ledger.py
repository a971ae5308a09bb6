"""The list of erased owners, kept beside the database: one JSON line each, durable before anything is deleted.

A database restored from a backup brings erased keys back; the list is applied again whenever the store opens. Keep it
somewhere else than the backups of the database.
"""

import json
import os
from pathlib import Path
from typing import IO, Final

from cattlegrid.core.errors import ConfigurationError

_LINE_BYTES: Final = 4_096


class ErasureLedger:
    """An append-only file of JSON lines `{"owner", "at_us"}`; owners by pseudonym."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def record(self, owner: str, at_us: int) -> None:
        """Write an erasure down for good. Raises OSError."""
        line = json.dumps({"owner": owner, "at_us": at_us}, separators=(",", ":")) + "\n"
        new = not self.path.exists()
        with open(self.path, "ab+", opener=_private) as file:
            _drop_torn_line(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self.path.parent)

    def read(self) -> dict[str, int]:
        """The latest time of erasure of each owner, in microseconds since 1970; a torn last line does not count.

        Raises:
            ConfigurationError: a line is damaged, and whom it named is unknown.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return {}
        erased: dict[str, int] = {}
        for number, line in enumerate(lines[:-1], 1):
            if not line:
                continue
            try:
                record = json.loads(line)
                owner, at_us = str(record["owner"]), int(record["at_us"])
            except (ValueError, KeyError, TypeError) as error:
                detail = f"{self.path}:{number}: {error}"
                raise ConfigurationError("The list of erasures is damaged.", detail=detail) from error
            erased[owner] = max(at_us, erased.get(owner, 0))
        return erased


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _drop_torn_line(file: IO[bytes]) -> None:
    """Cut off what a crash has left of a line: its erasure was never acknowledged."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(max(0, size - _LINE_BYTES))
    tail = file.read()
    if not tail.endswith(b"\n"):
        file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
