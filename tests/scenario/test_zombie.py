"""A process that is stopped for longer than its lease, loses its session to another one, and wakes up again."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.server import Server, until
from tests.scenario.till import Counter, clean_environ

LEASE_S = "1.0"


@contextmanager
def second_process(root: Path, counter: Counter) -> Generator[None]:
    environ = clean_environ(TILL_COUNTER=counter.address, CATTLEGRID_LEASE_S=LEASE_S)
    command = [sys.executable, "-m", "tests.scenario.second", str(root)]
    process = subprocess.Popen(
        command, env=environ, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline().strip() == b"ready"
            yield
        finally:
            process.stdin.close()
            process.wait(timeout=40)


@pytest.mark.requirement("fault:zombie")
@pytest.mark.parametrize(
    ("point", "tool"),
    [("before_intent", "pay_once"), ("after_intent", "pay_once"), ("after_intent", "pay_keyed")],
)
def test_a_zombie_that_wakes_writes_nothing_and_repeats_no_effect(
    point: str, tool: str, server: Server, counter: Counter
) -> None:
    server.environ["CATTLEGRID_LEASE_S"] = LEASE_S
    server.start(CATTLEGRID_CRASH_AT=f"{point}:1:SIGSTOP")
    ana = server.customer("ana@example.com")
    answers: list[dict[str, Any]] = []
    body = {"agent": "till", "input": f'call {tool} {{"amount": 1}}'}
    asking = threading.Thread(target=lambda: answers.append(ana.call("POST", "/runs", body).json()))
    asking.start()
    until(lambda: _state_of(server.pid) == "T", 30, lambda: "the server did not stop")
    with second_process(server.root, counter):
        session_id, run_id = _run_that_ended(server.root)
        taken_over = _events(server.root, session_id)
        server.send(signal.SIGCONT)
        asking.join(timeout=60)
        run = ana.run(run_id)
        assert server.stop() == 0
    assert run["status"] == "completed"
    assert set(counter.once.values()) <= {1}
    assert len(counter.keyed) <= 1
    assert _events(server.root, session_id) == taken_over
    # The reconcile tool may have found that the stopped call never left; then nothing was paid, and it says so.
    paid = len(counter.once) + len(counter.keyed)
    assert ("ok" in run["output"]) == (paid == 1)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _run_that_ended(root: Path) -> tuple[str, str]:
    query = "SELECT stream, id FROM entries WHERE kind = 'run' AND status = 'completed'"
    until(lambda: bool(_query(root, query)), 40, lambda: "the second process did not take over")
    session_id, run_id = _query(root, query)[0]
    return str(session_id), str(run_id)


def _events(root: Path, session_id: str) -> list[tuple[object, ...]]:
    query = "SELECT events.seq, events.hash FROM events JOIN heads ON heads.id = stream_id WHERE stream = ? ORDER BY 1"
    return _query(root, query, session_id)


def _query(root: Path, query: str, *values: str) -> list[tuple[object, ...]]:
    journal = sqlite3.connect(f"file:{root / '.cattlegrid' / 'journal.db'}?mode=ro", uri=True)
    try:
        return journal.execute(query, values).fetchall()
    finally:
        journal.close()
