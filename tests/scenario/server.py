"""A real `cattlegrid serve` on a free port of the loopback interface, to be killed, stopped and started again."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.scenario.till import clean_environ

READY_S = 30.0


class Server:
    """One project, served by one process at a time."""

    def __init__(self, root: Path, **environ: str) -> None:
        self._root = root
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self.log = root / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def cli(self, *words: str) -> str:
        """What a command of the command line prints. Raises CalledProcessError."""
        command = [sys.executable, "-m", "cattlegrid.app.cli", *words]
        environ = clean_environ(**self._environ)
        done = subprocess.run(
            command, cwd=self._root, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def key(self, *words: str) -> str:
        """A new API key."""
        return str(json.loads(self.cli("keys", "create", *words, "--json"))["key"])

    def start(self, **more: str) -> float:
        """Start and wait until it is ready; seconds that took."""
        began_s = time.perf_counter()
        command = [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._root,
                env=clean_environ(**self._environ, **more),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()[-4_000:]
            assert time.perf_counter() - began_s < READY_S, self.log.read_text()[-4_000:]
            time.sleep(0.02)
        return time.perf_counter() - began_s

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/ready", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, sign: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(sign)

    def kill(self) -> None:
        """SIGKILL, and the process is gone."""
        if self.alive:
            self.send(signal.SIGKILL)
        self.died(within_s=10)

    def died(self, *, within_s: float) -> int:
        """Wait for the end of the process; its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=within_s)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.send(signal.SIGTERM)
        return self.died(within_s=30)


class Customer:
    """Somebody with a key, over HTTP."""

    def __init__(self, server: Server, key: str, *, user: str = "") -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {key}"}
        if user:
            self._headers["X-Cattlegrid-User"] = user

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx2.Response:
        """One request. Raises httpx2.TransportError when the server is not there."""
        sent = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return httpx2.request(method, f"{self._server.url}{path}", json=body, headers=sent, timeout=60)

    def insist(
        self, method: str, path: str, body: object = None, *, within_s: float = 60, **headers: str
    ) -> dict[str, Any]:
        """The same request again and again until the server has answered; the JSON of a good answer."""
        deadline_s = time.perf_counter() + within_s
        while True:
            try:
                answer = self.call(method, path, body, **headers)
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                assert answer.is_success, answer.text
                return dict(answer.json())
            assert time.perf_counter() < deadline_s, "no answer"
            time.sleep(0.05)

    def finished(self, run_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The run once it has ended."""
        deadline_s = time.perf_counter() + within_s
        while True:
            run = self.insist("GET", f"/runs/{run_id}")
            if run["status"] not in {"running", "held", "queued"}:
                return run
            assert time.perf_counter() < deadline_s, run
            time.sleep(0.05)
