"""The seal log as a file: one line for each seal, only ever added to. Copy it to where the database's writers are not."""

import asyncio
import os
from pathlib import Path
from typing import Final

from cattlegrid.core.errors import StoreUnavailable


class SealLog:
    """A `journal.seals.SealLog` in a file; the few writes a minute are made in a thread."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def lines(self) -> list[str]:
        """All whole lines, oldest first; none when the file does not exist. Raises StoreUnavailable."""
        try:
            return self.path.read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise _unavailable(self.path, error) from error

    async def last(self) -> str:
        return await asyncio.to_thread(self._last)

    async def append(self, line: str) -> None:
        await asyncio.to_thread(self._append, line)

    def _last(self) -> str:
        lines = self.lines()
        return lines[-1] if lines else ""

    def _append(self, line: str) -> None:
        try:
            with open(self.path, "ab", opener=_private) as file:
                self._drop_torn_line(file.fileno())
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unavailable(self.path, error) from error

    def _drop_torn_line(self, handle: int) -> None:
        """Cut off what a crash has left of a line."""
        size = os.fstat(handle).st_size
        whole = sum(len(line.encode()) + 1 for line in self.lines())
        if whole < size:
            os.ftruncate(handle, whole)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _unavailable(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable("The seal log is not available.", detail=f"{path}: {error}")
