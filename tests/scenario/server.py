"""A real `cattlegrid serve` on a free port of the loopback interface, to be killed, stopped and started again."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.scenario.till import clean_environ

READY_S: Final = 30.0
OPEN: Final = frozenset({"queued", "running", "held", "dead"})
"""Statuses of runs that have not ended."""


class Server:
    """One project, served by one process at a time, or by one of several that each have a `state` of their own."""

    def __init__(self, root: Path, *, state: str = ".cattlegrid", **environ: str) -> None:
        self.root: Final = root
        self.state: Final = root / state
        self.log: Final = root / f"server{state}.log"
        self.environ = {"CATTLEGRID_STATE": str(self.state), **environ}
        self.prefix: Sequence[str] = ()
        """A program that starts the server, when that is not done directly."""
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._clients: list[httpx2.Client] = []
        self._probes = self.client(timeout_s=5)

    def client(self, *, timeout_s: float = 60, headers: dict[str, str] | None = None) -> httpx2.Client:
        """Somebody who asks, until `end`. Without TLS: making its context takes longer than a request."""
        client = httpx2.Client(
            base_url=self.url, timeout=timeout_s, verify=False, trust_env=False, headers=headers
        )
        self._clients.append(client)
        return client

    # the command line

    def ran(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of the command line, ended in whichever way."""
        command = [sys.executable, "-m", "cattlegrid.app.cli", *words]
        return subprocess.run(
            command,
            cwd=self.root,
            env=clean_environ(**self.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def cli(self, *words: str) -> str:
        """What a command of the command line prints."""
        done = self.ran(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def key(self, *words: str) -> str:
        """A new API key."""
        return str(json.loads(self.cli("keys", "create", *words, "--json"))["key"])

    # the process

    def launch(self, environ: Mapping[str, str] | None = None) -> None:
        """Start, and do not wait."""
        command = [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *command],
                cwd=self.root,
                env=clean_environ(**{**self.environ, **(environ or {})}),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def start(self, **more: str) -> float:
        """Start and wait until it is ready; seconds that took."""
        began_s = time.perf_counter()
        self.launch(more)
        until(self._ready_or_dead, READY_S, self.said)
        return time.perf_counter() - began_s

    def _ready_or_dead(self) -> bool:
        assert self.alive, self.said()
        return self.readiness() == 200

    def readiness(self) -> int:
        """The status of `/ready`, 0 when nobody answers."""
        try:
            return self._probes.get("/ready").status_code
        except httpx2.TransportError:
            return 0

    def reasons(self) -> list[str]:
        """Why it is not ready."""
        return list(self._probes.get("/ready").json()["reasons"])

    def said(self) -> str:
        """The end of what it has written."""
        return self.log.read_text()[-4_000:]

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

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.kill()
        for client in self._clients:
            client.close()

    # who asks

    def customer(self, user: str) -> "Customer":
        """Somebody who asks through the web shop's key. The project is served in development."""
        return Customer(self, self._dev_key("user"), user=user)

    def staff(self) -> "Customer":
        """Somebody who operates, approves and erases."""
        return Customer(self, self._dev_key("operator"))

    def _dev_key(self, name: str) -> str:
        return (self.state / f"dev-{name}.key").read_text().strip()


class Customer:
    """Somebody with a key, over HTTP; used by one thread at a time."""

    def __init__(self, server: Server, key: str, *, user: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"}
        if user:
            headers["X-Cattlegrid-User"] = user
        self._http = server.client(headers=headers)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx2.Response:
        """One request. Raises httpx2.TransportError when the server is not there."""
        return self.send(method, path, body, headers)

    def send(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> httpx2.Response:
        """The same with the headers as a value."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.request(method, path, json=body, headers=sent)

    def insist(
        self, method: str, path: str, body: object = None, *, within_s: float = 60, **headers: str
    ) -> dict[str, Any]:
        """The same request again and again until the server has answered; the JSON of a good answer."""
        answers: list[httpx2.Response] = []

        def answered() -> bool:
            try:
                answers.append(self.send(method, path, body, headers))
            except httpx2.TransportError:
                return False
            return answers[-1].status_code < 500

        until(answered, within_s, lambda: answers[-1].text if answers else "no answer")
        assert answers[-1].is_success, answers[-1].text
        return dict(answers[-1].json())

    @contextmanager
    def events(self, run_id: str) -> Generator[Iterator[str]]:
        """The lines of a run's server-sent events, as they come."""
        with self._http.stream("GET", f"/runs/{run_id}/events") as answer:
            assert answer.status_code == 200
            yield answer.iter_lines()

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is."""
        return self.insist("GET", f"/runs/{run_id}")

    def finished(self, run_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The run once it has ended."""
        return self.reached(run_id, lambda run: run["status"] not in OPEN, within_s=within_s)

    def reached(
        self, run_id: str, wanted: Callable[[dict[str, Any]], bool], *, within_s: float = 60
    ) -> dict[str, Any]:
        """The run once it is as wanted."""
        seen: list[dict[str, Any]] = []

        def looked() -> bool:
            seen.append(self.run(run_id))
            return wanted(seen[-1])

        until(looked, within_s, lambda: seen[-1])
        return seen[-1]


def until(
    happened: Callable[[], bool], within_s: float, told: Callable[[], object], *, pause_s: float = 0.02
) -> None:
    """Look again and again until something has happened in another process; fails when it does not in time."""
    deadline_s = time.perf_counter() + within_s
    while not happened():
        assert time.perf_counter() < deadline_s, told()
        time.sleep(pause_s)
