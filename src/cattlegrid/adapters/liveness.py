"""Tells whether the process that holds a lease is surely dead, so that nobody must wait for its lease to end.

Each holder locks a file of its own for as long as it lives; the kernel frees the lock when the process is gone, however
it went. A stopped process keeps its lock, and is therefore waited for. Works on one machine; a store that is shared by
several knows nothing of this and waits.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".lock"


class Holders:
    """The holders of one store, as files of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name
        self._file: int | None = None

    def enter(self) -> None:
        """Show that this process lives."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self.name)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._sweep()

    def leave(self) -> None:
        """Show that this process holds nothing any more."""
        if self._file is not None:
            self._path(self.name).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def surely_dead(self, name: str) -> bool:
        """Whether the holder of that name has lived here and is gone; False when nobody can tell."""
        if name == self.name or "/" in name or not name:
            return False
        try:
            file = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(file)

    def _sweep(self) -> None:
        """Remove files of the dead that are a day old: no lease is as long."""
        newest_s = self._path(self.name).stat().st_mtime
        for path in self._folder.glob(f"*{_SUFFIX}"):
            try:
                old = newest_s - path.stat().st_mtime > 86_400
            except OSError:
                continue
            if old and self.surely_dead(path.name.removesuffix(_SUFFIX)):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"
