"""A server that leaves its work to workers, and workers that are killed and stopped: real processes on PostgreSQL."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.scenario.server import Server, until
from tests.scenario.till import Counter, clean_environ, write_project

pytestmark = pytest.mark.timeout(240)
PAY_BIG: Final = {"agent": "till", "input": 'call pay_big {"amount": 9}'}
ROUNDS: Final = {"approvals", "sessions", "seals", "retention"}


class Shop:
    """A project on PostgreSQL, its server, and as many workers as a test starts."""

    def __init__(self, root: Path, counter: Counter, database: str) -> None:
        self.database = database
        self.environ = {
            "DATABASE_URL": database,
            "CATTLEGRID_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
            "TILL_COUNTER": counter.address,
        }
        self.root = write_project(root)
        agent = root / "agents" / "till" / "agent.yaml"
        agent.write_text(
            agent.read_text().replace("limits:\n", "outcome:\n  idle_s: 1\nlimits:\n  approval_s: 1\n")
        )
        self.server = Server(root, **self.environ)
        self._workers: list[Worker] = []

    def worker(self, name: str) -> "Worker":
        """Another worker, at work."""
        worker = Worker(self, name)
        self._workers.append(worker)
        until(lambda: "Working, 2 tasks at once" in worker.said(), 30, worker.said)
        return worker

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(statement.encode()).fetchall()

    def end(self) -> None:
        """Leave nothing behind."""
        self.server.end()
        for worker in self._workers:
            worker.kill()


class Worker:
    """A real `cattlegrid worker` with a state folder of its own, as on another machine."""

    def __init__(self, shop: Shop, name: str) -> None:
        self.state: Final = shop.root / f".worker-{name}"
        self._log: Final = shop.root / f"worker-{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cattlegrid.app.cli", "worker", "--concurrency", "2"],
                cwd=shop.root,
                env=clean_environ(**shop.environ, CATTLEGRID_STATE=str(self.state)),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def said(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=40)

    @property
    def seals(self) -> int:
        log = self.state / "seals.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0


@contextmanager
def _shop(root: Path, counter: Counter, database: str) -> Generator[Shop]:
    shop = Shop(root, counter, database)
    try:
        yield shop
    finally:
        shop.end()


@pytest.fixture
def shop(tmp_path: Path, counter: Counter, database: str) -> Iterator[Shop]:
    with _shop(tmp_path, counter, database) as shop:
        yield shop


@pytest.mark.requirement("jobs:worker", "jobs:one-round", "jobs:stop")
def test_workers_do_what_the_server_leaves_to_them_though_one_is_killed(shop: Shop, counter: Counter) -> None:
    shop.server.prefix = ("sh", "-c", 'exec "$@" --no-worker', "serve")
    shop.server.start()
    ana = shop.server.customer("ana@example.com")
    first = ana.insist("POST", "/runs", PAY_BIG)
    assert first["status"] == "held"
    assert shop.ask("SELECT to_regnamespace('cattlegrid_jobs')") == [(None,)]

    one, other = shop.worker("one"), shop.worker("other")
    run = ana.finished(first["id"])
    assert run["approvals"][0]["status"] == "expired"
    until(lambda: {row[0] for row in shop.ask(MADE)} >= ROUNDS, 15, lambda: shop.ask(MADE))
    until(lambda: one.seals + other.seals > 0, 15, one.said)

    one.kill()
    second = ana.insist("POST", "/runs", PAY_BIG)
    run = ana.finished(second["id"], within_s=90)
    assert run["approvals"][0]["status"] == "expired"
    until(lambda: _closed(shop, second["session_id"]), 60, lambda: shop.ask(SESSIONS))
    assert not counter.big

    assert other.stop() == 0, other.said()
    assert shop.server.stop() == 0
    for state in (other.state, one.state):
        if (seals := state / "seals.jsonl").exists():
            shop.server.cli("verify", "--seals", str(seals))


MADE: Final = "SELECT name FROM cattlegrid_jobs.rounds WHERE due > now() - every_s * interval '1 s'"
SESSIONS: Final = "SELECT id, status FROM cattlegrid.entries WHERE kind = 'session'"


def _closed(shop: Shop, session: str) -> bool:
    return dict(shop.ask(SESSIONS))[session] != "open"


@pytest.mark.requirement("jobs:worker")
def test_one_server_alone_does_all_of_it(shop: Shop) -> None:
    shop.server.start()
    ana = shop.server.customer("ana@example.com")
    held = ana.insist("POST", "/runs", PAY_BIG)
    assert ana.finished(held["id"])["approvals"][0]["status"] == "expired"
    assert shop.server.stop() == 0


@pytest.mark.requirement("jobs:worker")
def test_on_a_file_there_is_nothing_for_workers_to_do(server: Server) -> None:
    refused = server.ran("worker")
    assert refused.returncode == 1
    assert "set DATABASE_URL" in refused.stderr
    assert "server that has it open does everything itself" in refused.stderr
    refused = server.ran("serve", "--no-worker", "--port", "0")
    assert refused.returncode == 1
    assert "--no-worker is for PostgreSQL" in refused.stderr
