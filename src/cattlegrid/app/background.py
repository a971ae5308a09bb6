"""Starts a project's server in a process of its own, and stops it again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx2

from cattlegrid.app.state import RunningServer, StateFolder
from cattlegrid.core.errors import CattlegridError

_PAUSE_S: Final = 0.05
READY_S: Final = 30.0
STOP_S: Final = 45.0
"""Longer than a server takes to let its runs end."""


class ServerFailed(CattlegridError):
    """A server in the background did not start or did not stop."""

    code = "server_failed"


def start(root: Path, state: StateFolder, arguments: Sequence[str]) -> RunningServer:
    """Start `cattlegrid dev` for a project; returns once it is ready.

    Raises:
        ServerFailed: it ended, or was not ready in time; with what it said last.
    """
    state.path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cattlegrid.app.cli", "--folder", str(root), "dev", *arguments]
    with state.log.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    if not _until(lambda: process.poll() is not None or _is_ready(state.server(), process.pid), READY_S):
        process.terminate()
        raise ServerFailed(f"The server was not ready within {READY_S:.0f} s.\n{tail(state.log)}")
    server = state.server()
    if server is None or process.poll() is not None:
        raise ServerFailed(f"The server did not start.\n{tail(state.log)}")
    return server


def stop(state: StateFolder) -> RunningServer | None:
    """End the server of a project, if there is one; returns once it is gone.

    Raises:
        ServerFailed: it is still there.
    """
    server = state.server()
    if server is None:
        return None
    os.kill(server.pid, signal.SIGTERM)
    if not _until(lambda: not state.locked, STOP_S):
        raise ServerFailed(f"Process {server.pid} was asked to end and is still there after {STOP_S:.0f} s.")
    return server


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _is_ready(server: RunningServer | None, pid: int) -> bool:
    if server is None or server.pid != pid:
        return False
    try:
        return httpx2.get(f"{server.url}/ready", timeout=2.0, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def _until(happened: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_PAUSE_S)
    return True
