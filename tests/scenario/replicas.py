"""Several servers of one project over one PostgreSQL database, and customers who go to whichever answers."""

import base64
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import msgspec
import psycopg

from tests.scenario.server import OPEN, Customer, Server, until
from tests.scenario.till import Counter

BOTH: Final = 'call pay_once {"amount": 1} then call pay_keyed {"amount": 2}'


class Replicas:
    """Servers that share a database and its key, and nothing else."""

    def __init__(
        self, root: Path, counter: Counter, database: str, *, count: int = 3, **environ: str
    ) -> None:
        shared = {
            "DATABASE_URL": database,
            "CATTLEGRID_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
            "TILL_COUNTER": counter.address,
            **environ,
        }
        self.database: Final = database
        self.servers: Final = [Server(root, state=f".replica-{number}", **shared) for number in range(count)]

    def start(self, **more: str) -> None:
        """Start them one after the other: the first one makes what is not there."""
        for server in self.servers:
            server.environ.update(more)
            server.start()

    def end(self) -> None:
        """Leave nothing behind."""
        for server in self.servers:
            server.end()

    def shopper(self, user: str) -> "Shopper":
        """A customer who goes to one server after the other."""
        return Shopper([server.customer(user) for server in self.servers])

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(statement.encode(), values or None).fetchall()


class Shopper:
    """Somebody behind a balancer that goes on to the next server only when one cannot be connected to."""

    def __init__(self, counters: list[Customer]) -> None:
        self._doors = counters
        self._turn = itertools.count()

    def call(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> httpx2.Response:
        """One request to whoever answers. Raises httpx2.TransportError when that one breaks off."""
        for _ in range(2 * len(self._doors)):
            door = self._doors[next(self._turn) % len(self._doors)]
            try:
                return door.send(method, path, body, headers)
            except httpx2.ConnectError:
                continue
        raise httpx2.ConnectError("nobody is there")

    def insist(
        self, method: str, path: str, body: object, headers: Mapping[str, str], *, within_s: float = 60
    ) -> dict[str, Any]:
        """The same request again and again until somebody has answered well; its JSON."""
        answers: list[httpx2.Response] = []

        def answered() -> bool:
            try:
                answers.append(self.call(method, path, body, headers))
            except httpx2.TransportError:
                return False
            return answers[-1].status_code < 500

        until(answered, within_s, lambda: answers[-1].text if answers else "no answer")
        assert answers[-1].is_success, answers[-1].text
        return dict(answers[-1].json())

    def finished(self, run_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The run once it has ended."""
        seen: list[dict[str, Any]] = []

        def ended() -> bool:
            seen.append(self.insist("GET", f"/runs/{run_id}", None, {}))
            return seen[-1]["status"] not in OPEN

        until(ended, within_s, lambda: seen[-1])
        return seen[-1]


@contextmanager
def slow_model(*, latency_s: float) -> Generator[str]:
    """The base URL of a scripted model that takes its time, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "cattlegrid.testing.scripted",
        "--port",
        "0",
        "--latency-s",
        str(latency_s),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as model:
        try:
            assert model.stdout is not None
            yield model.stdout.readline().split()[-1]
        finally:
            model.terminate()


class Asked(msgspec.Struct):
    """A request that was acknowledged, and the run as it ended."""

    run_id: str
    run: dict[str, Any] = {}


class Rush:
    """Shoppers who ask again and again, until the block ends; every other time without waiting for the answer.

    With `patient`, whatever is no good answer is asked for again under the same key; else it is noted in `failures`.
    """

    def __init__(self, replicas: Replicas, *, shoppers: int, patient: bool, pause_s: float = 0.0) -> None:
        self.asked: list[Asked] = []
        self.failures: list[str] = []
        self._replicas = replicas
        self._patient = patient
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._shop, args=(f"user{number}@example.com",))
            for number in range(shoppers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)
        assert not any(thread.is_alive() for thread in self._threads)

    def _shop(self, user: str) -> None:
        shopper = self._replicas.shopper(user)
        for number in itertools.count():
            if self._stop.is_set():
                return
            headers = {"Idempotency_Key": f"{user}-{number}"}
            headers |= {"Prefer": "respond-async"} if number % 2 else {}
            try:
                self._ask(shopper, headers)
            except (httpx2.TransportError, AssertionError) as error:
                self.failures.append(f"{user} {number}: {error!r}")
            time.sleep(self._pause_s)

    def _ask(self, shopper: Shopper, headers: Mapping[str, str]) -> None:
        request = {"agent": "till", "input": BOTH}
        if self._patient:
            run = shopper.insist("POST", "/runs", request, headers, within_s=90)
            self.asked.append(asked := Asked(run["id"]))
            asked.run = shopper.finished(asked.run_id, within_s=90)
            return
        answer = shopper.call("POST", "/runs", request, headers)
        assert answer.is_success, answer.text
        self.asked.append(asked := Asked(answer.json()["id"]))
        while True:
            answer = shopper.call("GET", f"/runs/{asked.run_id}", None, {})
            assert answer.is_success, answer.text
            asked.run = answer.json()
            if asked.run["status"] not in OPEN:
                return
            time.sleep(0.02)


def assert_paid_once_each(rush: Rush, counter: Counter) -> None:
    """Every acknowledged run has ended well, and every effect has happened once, as its answer says."""
    assert not rush.failures, rush.failures
    assert {one.run["status"] for one in rush.asked} == {"completed"}
    said = [one.run["output"] for one in rush.asked]
    assert set(counter.once.values()) <= {1}
    paid = {
        tool: sum(text.count(f"{tool} returned: ok") for text in said) for tool in ("pay_once", "pay_keyed")
    }
    assert len(counter.once) == paid["pay_once"] == len(rush.asked)
    assert len(counter.keyed) == paid["pay_keyed"] == len(rush.asked)
