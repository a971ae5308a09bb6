"""The files that commands leave for each other in the state folder: which server runs, and the keys of development.

A server holds the lock of `server.lock` for as long as it lives; the kernel frees it, however the process goes. So what
`server.json` says is believed only while the lock is held, and a process id in it is surely that server's.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.errors import ConfigurationError

PROJECT_FILE: Final = "cattlegrid.yaml"
STATE_FOLDER: Final = ".cattlegrid"
_SERVER: Final = "server.json"
_LOCK: Final = "server.lock"
_LOG: Final = "dev.log"


class RunningServer(msgspec.Struct, frozen=True):
    """A server of this project that is alive."""

    url: str
    pid: int


class StateFolder:
    """`.cattlegrid/` below the root of a project, or where CATTLEGRID_STATE says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> Path:
        """Where a server in the background writes."""
        return self.path / _LOG

    def server(self) -> RunningServer | None:
        """The server that runs, if one does and has said where."""
        if not self.locked:
            return None
        try:
            return msgspec.json.decode((self.path / _SERVER).read_bytes(), type=RunningServer)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def locked(self) -> bool:
        """Whether a server lives, starting and stopping included."""
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def serving(self) -> Generator[None]:
        """Be the one server of the project. Raises ConfigurationError when another one is."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(_already(self.server())) from None
            (self.path / _SERVER).unlink(missing_ok=True)
            try:
                yield
            finally:
                (self.path / _SERVER).unlink(missing_ok=True)
        finally:
            os.close(lock)

    def announce(self, server: RunningServer) -> None:
        """Tell other commands where the server is; only inside `serving`."""
        draft = self.path / f"{_SERVER}.new"
        draft.write_bytes(msgspec.json.encode(server))
        draft.replace(self.path / _SERVER)

    def key(self, name: str) -> str:
        """A key of development, `user` or `operator`; empty when there is none."""
        with contextlib.suppress(OSError):
            return self._key_file(name).read_text(encoding="ascii").strip()
        return ""

    def keep_key(self, name: str, secret: str) -> None:
        """Keep a key of development where only this account reads it."""
        path = self._key_file(name)
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(f"{secret}\n")
        draft.replace(path)

    def _key_file(self, name: str) -> Path:
        return self.path / f"dev-{name}.key"


def _already(server: RunningServer | None) -> str:
    where = f" at {server.url} by process {server.pid}" if server is not None else ""
    return f"This project is being served already{where}. Stop that first: `cattlegrid dev --stop`."


def nearest_state(start: Path) -> StateFolder | None:
    """The state folder of the project that `start` is in; None when it is in none. Reads no file of the project."""
    here = start.resolve()
    root = next((folder for folder in (here, *here.parents) if (folder / PROJECT_FILE).is_file()), None)
    if root is None:
        return None
    return StateFolder(Path(os.environ.get("CATTLEGRID_STATE") or root / STATE_FOLDER).resolve())
