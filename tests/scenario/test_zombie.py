"""A process that is stopped for longer than its lease, loses its session to another one, and wakes up again."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.server import Customer, Server
from tests.scenario.till import Counter, clean_environ, write_project

LEASE_S = "1.0"


@contextmanager
def second_process(root: Path, counter: Counter) -> Generator[None]:
    environ = clean_environ(TILL_COUNTER=counter.address, CATTLEGRID_LEASE_S=LEASE_S)
    command = [sys.executable, "-m", "tests.scenario.second", str(root)]
    process = subprocess.Popen(
        command, env=environ, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == b"ready"
    try:
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=40)
        process.stdout.close()


@pytest.mark.requirement("fault:zombie")
@pytest.mark.parametrize(
    ("point", "tool"),
    [("before_intent", "pay_once"), ("after_intent", "pay_once"), ("after_intent", "pay_keyed")],
)
def test_a_zombie_that_wakes_writes_nothing_and_repeats_no_effect(
    point: str, tool: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with Counter() as counter:
        server = Server(write_project(tmp_path), TILL_COUNTER=counter.address, CATTLEGRID_LEASE_S=LEASE_S)
        ana = Customer(server, server.key("--act-as"), user="ana@example.com")
        server.start(CATTLEGRID_CRASH_AT=f"{point}:1:SIGSTOP")
        request.addfinalizer(server.kill)
        answers: list[dict[str, Any]] = []
        body = {"agent": "till", "input": f'call {tool} {{"amount": 1}}'}
        asking = threading.Thread(target=lambda: answers.append(ana.call("POST", "/runs", body).json()))
        asking.start()
        _until_stopped(server.pid)
        with second_process(tmp_path, counter):
            session_id, run_id = _until_run_ended(tmp_path)
            taken_over = _events(tmp_path, session_id)
            server.send(signal.SIGCONT)
            asking.join(timeout=60)
            run = ana.insist("GET", f"/runs/{run_id}")
            assert server.stop() == 0
        assert run["status"] == "completed"
        assert set(counter.once.values()) <= {1}
        assert len(counter.keyed) <= 1
        assert _events(tmp_path, session_id) == taken_over
        # The reconcile tool may have found that the stopped call never left; then nothing was paid, and it says so.
        paid = len(counter.once) + len(counter.keyed)
        assert ("ok" in run["output"]) == (paid == 1)


def _until_stopped(pid: int) -> None:
    deadline_s = time.perf_counter() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.perf_counter() < deadline_s, "the server did not stop"
        time.sleep(0.02)


def _until_run_ended(root: Path) -> tuple[str, str]:
    deadline_s = time.perf_counter() + 40
    while True:
        rows = _query(root, "SELECT stream, id FROM entries WHERE kind = 'run' AND status = 'completed'")
        if rows:
            return str(rows[0][0]), str(rows[0][1])
        assert time.perf_counter() < deadline_s, "the second process did not take over"
        time.sleep(0.05)


def _events(root: Path, session_id: str) -> list[tuple[object, ...]]:
    query = "SELECT events.seq, events.hash FROM events JOIN heads ON heads.id = stream_id WHERE stream = ? ORDER BY 1"
    return _query(root, query, session_id)


def _query(root: Path, query: str, *values: str) -> list[tuple[object, ...]]:
    journal = sqlite3.connect(f"file:{root / '.cattlegrid' / 'journal.db'}?mode=ro", uri=True)
    try:
        return journal.execute(query, values).fetchall()
    finally:
        journal.close()
