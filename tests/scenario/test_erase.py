"""A user is erased in the middle of a run: none of their words is left in any file, and a backup does not bring them back."""

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenario import records
from tests.scenario.server import Customer, Server, until
from tests.scenario.till import Counter, clean_environ

USER = "zoe.quexwort@example.com"
WORD = re.compile(rb"(?i)quexwort")
"""In everything that the user says, in what is said to them, and in their name."""

pytestmark = pytest.mark.timeout(120)


@pytest.mark.requirement("privacy:erase-files")
@pytest.mark.requirement("journal:erase")
@pytest.mark.requirement("journal:erase-again")
def test_a_user_who_is_erased_in_the_middle_of_a_call_is_in_no_file_and_does_not_come_back_with_a_backup(
    server: Server, counter: Counter, tmp_path: Path
) -> None:
    server.start()
    zoe, ben, staff = server.customer(USER), server.customer("ben@example.com"), server.staff()
    own_key = server.key("--user", USER)
    kept = ben.insist("POST", "/runs", {"agent": "till", "input": "Remember me."})
    _talk(zoe, staff)
    counter.doors.clear()
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(zoe, 'call look {"what": "Quexwort 1"}')))
    asking.start()
    until(lambda: len(counter.looks) == 2, 30, server.said)
    backup = tmp_path.parent / f"{tmp_path.name}-backup.db"
    _back_up(server, backup)
    sealed = _sealed(server, zoe)
    left_in = {path.name for path in _files_with(server.root, sealed)}
    assert left_in == {"journal.db", "journal.db-wal"}

    erased = server.cli("users", "erase", USER, "--yes", "--json")
    assert '"sessions": 3' in erased
    assert '"keys": 1' in erased
    asking.join(timeout=30)
    assert [run["status"] for run in answers] == ["erased"]
    assert _files_with(server.root, sealed) == []
    counter.doors.set()  # the call comes back late, with a word
    run = staff.run(answers[0]["id"])
    assert (run["status"], run["input"], run["output"]) == ("erased", "(erased)", "")
    assert staff.insist("GET", f"/sessions/{run['session_id']}")["status"] == "erased"
    assert Customer(server, own_key).call("GET", "/runs").status_code == 401
    assert staff.run(kept["id"])["output"] == kept["output"]
    server.cli("verify")
    assert server.stop() == 0
    assert _files_with(server.root, sealed) == []
    server.cli("verify")

    _restore(server, backup)
    server.start()
    staff.reached(answers[0]["id"], lambda run: run["status"] == "erased", within_s=15)
    assert _files_with(server.root, sealed) == []
    assert staff.run(kept["id"])["output"] == kept["output"]
    again = _ask(zoe, "I am Quexwort, and I am new here.")
    assert again["status"] == "completed"
    newest, *earlier = zoe.insist("GET", "/runs")["items"]
    assert newest["id"] == again["id"]
    assert {(run["input"], run["output"]) for run in earlier} <= {("(erased)", ""), ("(erased)", "(erased)")}
    assert server.stop() == 0
    server.cli("verify")


@pytest.mark.requirement("privacy:erase-files")
def test_a_user_who_is_erased_while_the_model_answers_is_in_no_file(server: Server, counter: Counter) -> None:
    with _slow_model() as url:
        server.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "unused"}
        server.start()
        zoe, staff = server.customer(USER), server.staff()
        request = {"agent": "till", "input": "My name is Zoe Quexwort and this is my order."}
        run = zoe.call("POST", "/runs", request, Prefer="respond-async").json()
        follow_up = zoe.call(
            "POST", f"/sessions/{run['session_id']}/runs", {"input": "Quexwort?"}, Prefer="respond-async"
        ).json()
        sealed = _sealed(server, zoe)
        with zoe.events(run["id"]) as lines:
            assert any("message.delta" in line for line in lines), "the model has not begun to speak"
            erased = staff.insist("POST", "/users/erase", {"user": USER})
            assert erased["sessions"] == 1
            assert '"status":"erased"' in "".join(lines)
        assert staff.finished(run["id"])["status"] == "erased"
        assert staff.finished(follow_up["id"])["status"] == "erased"
        assert _files_with(server.root, sealed) == []
        assert server.stop() == 0
    assert _files_with(server.root, sealed) == []
    server.cli("verify")


def _talk(zoe: Customer, staff: Customer) -> None:
    """Two sessions with words everywhere: input, arguments, results, thoughts, notes, refusals."""
    first = _ask(zoe, 'I am Zoe Quexwort. call look {"what": "the Quexwort parcel"}')
    assert "Quexwort" in first["output"]
    zoe.call("POST", f"/runs/{first['id']}/feedback", {"thumb": "down", "text": "Quexwort is cross"})
    held = _ask(zoe, 'Quexwort wants call pay_big {"amount": 9} call pay_once {"amount": "Quexwort"}')
    path = f"/approvals/{held['approvals'][0]['id']}/decision"
    staff.insist("POST", path, {"decision": "reject", "note": "Quexwort has no credit"})
    assert zoe.finished(held["id"])["status"] == "completed"
    zoe.call("POST", "/runs", {"agent": "till", "input": 7, "quexwort": "Quexwort"})
    zoe.call("POST", "/runs/Quexwort/feedback", {"thumb": "up"}, Idempotency_Key="Quexwort")
    zoe.call("GET", "/quexwort?name=Quexwort")


def _ask(customer: Customer, text: str) -> dict[str, Any]:
    return customer.insist(
        "POST", "/runs", {"agent": "till", "input": text}, Idempotency_Key=f"Quexwort-{len(text)}"
    )


def _sealed(server: Server, customer: Customer) -> list[bytes]:
    """The user's key as it is kept, and how each of their texts begins: without them nothing can be read again."""
    run_id = str(customer.insist("GET", "/runs")["items"][0]["id"])
    owner = "SELECT id FROM owners WHERE owner = (SELECT owner FROM entries WHERE kind = 'run' AND id = ?)"
    bodies = records.query(server.state, f"SELECT sealed FROM bodies WHERE owner_id = ({owner})", run_id)
    keys = records.query(server.state, f"SELECT wrapped FROM owners WHERE id = ({owner})", run_id)
    assert len(keys) == 1
    assert len(bodies) > 1
    return [bytes(value)[:32] for (value,) in [*keys, *bodies] if isinstance(value, bytes)]


def _files_with(root: Path, sealed: list[bytes]) -> list[Path]:
    """Files in which anything of the user is left, whether in clear or sealed."""
    found: list[Path] = []
    for path in root.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if WORD.search(content) or any(part in content for part in sealed):
            found.append(path)
    return found


def _back_up(server: Server, path: Path) -> None:
    with (
        closing(sqlite3.connect(records.journal(server.state))) as live,
        closing(sqlite3.connect(path)) as copy,
    ):
        live.backup(copy)
        live.execute("PRAGMA wal_checkpoint(PASSIVE)")
    seals = server.state / "seals.jsonl"
    path.with_suffix(".jsonl").write_bytes(seals.read_bytes() if seals.exists() else b"")


def _restore(server: Server, path: Path) -> None:
    """Put the database and the seals back as they were; the list of erasures is kept elsewhere and stays."""
    for name in ("journal.db-wal", "journal.db-shm"):
        (server.state / name).unlink(missing_ok=True)
    path.replace(records.journal(server.state))
    path.with_suffix(".jsonl").replace(server.state / "seals.jsonl")


@contextmanager
def _slow_model() -> Generator[str]:
    """The URL of a scripted model in a process of its own, which speaks slowly."""
    command = [sys.executable, "-m", "cattlegrid.testing.scripted", "--port", "0", "--chunk-delay-s", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environ()) as model:
        assert model.stdout is not None
        try:
            yield model.stdout.readline().decode().strip()
        finally:
            model.terminate()
