"""The disk is full, the database is locked or gone, the key is missing: said at once, and nothing acknowledged is lost."""

import contextlib
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenario import records
from tests.scenario.server import Customer, Server, until
from tests.scenario.till import Counter

BOTH = 'call pay_once {"amount": 1} then call pay_keyed {"amount": 2}'
STATE_MB = 3

pytestmark = pytest.mark.timeout(120)


@pytest.mark.requirement("fault:disk-full")
def test_files_that_may_not_grow_stop_runs_with_a_clear_error_and_lose_nothing(
    server: Server, counter: Counter
) -> None:
    server.start()
    ana = server.customer("ana@example.com")
    before = ana.insist("POST", "/runs", {"agent": "till", "input": BOTH})
    open_run = _stand_in_the_door(server, counter, ana)
    # Every file may be as long as the longest is by now: the next write to the log of the database fails.
    longest = max(path.stat().st_size for path in server.state.rglob("*") if path.is_file())
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
    _refused_while_down(server, ana, counter)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    _goes_on(server, ana, counter, before=before, open_run=open_run)


@pytest.mark.requirement("fault:disk-full")
def test_a_full_disk_stops_runs_with_a_clear_error_and_loses_nothing(
    server: Server, counter: Counter, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    _needs_a_disk_of_its_own()
    # The server sees a small disk of its own at this path; others reach it through the process.
    mount = f'mount -t tmpfs -o size={STATE_MB}m tmpfs "$0" && exec "$@"'
    server.prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(disk))
    server.environ["CATTLEGRID_STATE"] = str(disk)
    server.start()
    seen = Path(f"/proc/{server.pid}/root{disk}")
    ana = Customer(server, (seen / "dev-user.key").read_text().strip(), user="ana@example.com")
    before = ana.insist("POST", "/runs", {"agent": "till", "input": BOTH})
    open_run = _stand_in_the_door(server, counter, ana)
    _fill(seen / "filler")
    _refused_while_down(server, ana, counter)
    (seen / "filler").unlink()
    _goes_on(server, ana, counter, before=before, open_run=open_run)


@pytest.mark.requirement("fault:database")
def test_a_database_that_another_process_keeps_locked_turns_readiness_red_until_it_lets_go(
    server: Server, counter: Counter
) -> None:
    server.start()
    ana = server.customer("ana@example.com")
    before = ana.insist("POST", "/runs", {"agent": "till", "input": BOTH})
    open_run = _stand_in_the_door(server, counter, ana)
    with closing(sqlite3.connect(records.journal(server.state), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        _refused_while_down(server, ana, counter)
        other.execute("ROLLBACK")
    _goes_on(server, ana, counter, before=before, open_run=open_run)


@pytest.mark.requirement("fault:database")
@pytest.mark.parametrize("missing", ["journal.db", "journal.db-wal"])
def test_a_database_that_vanishes_under_a_server_turns_readiness_red_until_it_is_back(
    missing: str, server: Server, counter: Counter
) -> None:
    server.start()
    ana = server.customer("ana@example.com")
    before = ana.insist("POST", "/runs", {"agent": "till", "input": BOTH})
    open_run = _stand_in_the_door(server, counter, ana)
    with _away(server.state / missing):
        _refused_while_down(server, ana, counter)
        assert not (server.state / missing).exists(), "a new file in the place of the one that is gone"
    _goes_on(server, ana, counter, before=before, open_run=open_run)


@pytest.mark.requirement("fault:key-file")
def test_a_missing_or_foreign_key_stops_the_start_and_the_right_one_lets_it_go_on(server: Server) -> None:
    server.start()
    ana = server.customer("ana@example.com")
    run = ana.insist("POST", "/runs", {"agent": "till", "input": "Hello."})
    server.kill()
    key = server.state / "key"
    foreign = server.root.parent / f"{server.root.name}-other-key"
    with _away(key):
        assert "key" in _refuses_to_start(server)
        assert not key.exists(), "a new key where the old one is missing"
        other = Server(_other_project(server.root, foreign))
        other.cli("keys", "list")
        shutil.copy(other.state / "key", key)
        assert "not the key that the store was made with" in _refuses_to_start(server)
        key.unlink()
    server.start()
    assert ana.run(run["id"])["output"] == run["output"]
    assert server.stop() == 0


def _stand_in_the_door(server: Server, counter: Counter, customer: Customer) -> dict[str, Any]:
    """A run that is in the middle of a call."""
    counter.doors.clear()
    request = {"agent": "till", "input": 'call look {"what": "out"} then call pay_once {"amount": 3}'}
    run = customer.call("POST", "/runs", request, Prefer="respond-async").json()
    until(lambda: bool(counter.looks), 30, server.said)
    return dict(run)


def _refused_while_down(server: Server, customer: Customer, counter: Counter) -> None:
    """Requests are refused and readiness is red while the cause lasts; the process lives, and nothing is paid."""
    paid = dict(counter.once)
    counter.doors.set()
    request = {"agent": "till", "input": BOTH}
    answers: list[int] = []

    def refused() -> bool:
        answer = customer.call("POST", "/runs", request, Idempotency_Key="while-down")
        answers.append(answer.status_code)
        if answer.status_code == 503:
            error = answer.json()["error"]
            assert error["code"] == "store_unavailable"
            assert str(server.state) not in answer.text
            assert int(answer.headers["Retry-After"]) > 0
        assert answer.status_code in {200, 202, 503}, answer.text
        return answer.status_code == 503

    until(refused, 30, lambda: answers)
    until(lambda: server.readiness() == 503, 30, server.said)
    assert len(server.reasons()) == 1
    assert customer.call("GET", "/live").status_code == 200
    assert dict(counter.once) == paid


def _goes_on(
    server: Server, customer: Customer, counter: Counter, *, before: dict[str, Any], open_run: dict[str, Any]
) -> None:
    """The cause is gone: what was acknowledged is there, what was open ends, what was refused can be asked again."""
    until(lambda: server.readiness() == 200, 30, server.said)
    assert customer.finished(open_run["id"])["status"] == "completed"
    again = customer.insist("POST", "/runs", {"agent": "till", "input": BOTH}, Idempotency_Key="while-down")
    assert customer.finished(again["id"])["status"] == "completed"
    assert customer.run(before["id"])["output"] == before["output"]
    assert list(counter.once.values()) == [1, 1, 1]
    assert len(counter.keyed) == 2
    server.cli("verify")
    assert server.stop() == 0


def _fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.tell() < STATE_MB << 20:
            filler.write(bytes(4_096))
    assert path.stat().st_size < STATE_MB << 20


@contextmanager
def _away(path: Path) -> Generator[None]:
    """A file is somewhere else for the length of a block."""
    elsewhere = path.with_name(f"{path.name}.away")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)


def _refuses_to_start(server: Server) -> str:
    """What a server says that will not start."""
    server.log.unlink(missing_ok=True)
    server.launch()
    assert server.died(within_s=20) == 1
    said = server.said()
    assert "Traceback" not in said
    return said


def _other_project(root: Path, folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".cattlegrid", "server.log")
    return Path(shutil.copytree(root, folder, ignore=ignored))


def _needs_a_disk_of_its_own() -> None:
    probe = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    try:
        possible = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this machine lets nobody mount; the limit on file sizes shows the same")
