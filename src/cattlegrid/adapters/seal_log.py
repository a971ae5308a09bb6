"""The seal log as a file: one line for each seal, only ever added to. Copy it to where the database's writers are not."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Final

from cattlegrid.core.errors import StoreUnavailable

_BLOCK_BYTES: Final = 65_536


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

    @contextlib.contextmanager
    def alone(self) -> Generator[bool]:
        """Whether this process may add lines for as long as the block: two would both follow the same line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(
            self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
        finally:
            os.close(lock)

    def _last(self) -> str:
        try:
            with self.path.open("rb") as file:
                return _tail(file)[0].decode()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise _unavailable(self.path, error) from error

    def _append(self, line: str) -> None:
        try:
            with open(self.path, "a+b", opener=_private) as file:
                _, whole = _tail(file)
                file.truncate(whole)  # what a crash has left of a line
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unavailable(self.path, error) from error


def _tail(file: BinaryIO) -> tuple[bytes, int]:
    """The last whole line, and where the whole lines end; reads from the end, since the log only ever grows."""
    size = file.seek(0, os.SEEK_END)
    read = b""
    while read.count(b"\n") < 2 and len(read) < size:
        start = max(0, size - max(_BLOCK_BYTES, 2 * len(read)))
        file.seek(start)
        read = file.read(size - start)
    whole, _, torn = read.rpartition(b"\n")
    return whole.rpartition(b"\n")[2], size - len(torn)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _unavailable(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable("The seal log is not available.", detail=f"{path}: {error}")
