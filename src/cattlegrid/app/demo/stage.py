"""Starts, kills and talks to a real server: one process, one state folder of the demo's own, loopback only."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from cattlegrid.app.demo.evidence import Evidence

READY_S = 20.0
ANSWER_S = 30.0


class BrokenPromise(Exception):
    """What was promised on stage did not happen."""


class Stage:
    """The server of the demo, and the people who talk to it."""

    def __init__(self, *, root: Path, folder: Path) -> None:
        self._root = root
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.evidence = Evidence(journal=folder / "journal.db", shop=folder / "shop.db")
        self.kills = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, crash_at: str = "") -> float:
        """Start the server; seconds until it was ready."""
        began_s = time.perf_counter()
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CATTLEGRID_", "OPENAI_"))
        }
        environ |= {
            "CATTLEGRID_STATE": str(self.folder),
            "SUPPORT_DB": str(self.folder / "shop.db"),
            "CATTLEGRID_CRASH_AT": crash_at,
            "PYTHONWARNINGS": "ignore",
        }
        command = [
            sys.executable,
            "-m",
            "cattlegrid.app.cli",
            "--folder",
            str(self._root),
            "dev",
            "--port",
            str(self.port),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._root, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._wait_until_ready()
        return time.perf_counter() - began_s

    def _wait_until_ready(self) -> None:
        deadline_s = time.perf_counter() + READY_S
        while time.perf_counter() < deadline_s:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                if httpx2.get(f"{self.url}/ready", timeout=1).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        log = (self.folder / "server.log").read_text(errors="replace")[-2_000:]
        raise BrokenPromise(f"the server did not become ready:\n{log}")

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def wait_for_death(self) -> None:
        """Wait until the server has been killed at its crash point."""
        if self._process is None:
            raise BrokenPromise("no server was started")
        try:
            code = self._process.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            raise BrokenPromise("the server did not reach its crash point") from None
        if code != -signal.SIGKILL:
            raise BrokenPromise(f"the server ended with {code} instead of SIGKILL")
        self.kills += 1

    def wait(self) -> None:
        """Return when the server has ended."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def call(
        self, method: str, path: str, body: object = None, *, staff: bool = False, user: str = ""
    ) -> dict[str, Any]:
        """A request of a customer or of staff. Raises BrokenPromise for an error, ConnectionError when it is cut off."""
        name = "dev-operator.key" if staff else "dev-user.key"
        headers = {"Authorization": f"Bearer {(self.folder / name).read_text().strip()}"}
        if user:
            headers["X-Cattlegrid-User"] = user
        try:
            answer = httpx2.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=ANSWER_S)
        except httpx2.TransportError as error:
            raise ConnectionError(str(error)) from error
        if answer.is_error:
            raise BrokenPromise(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
