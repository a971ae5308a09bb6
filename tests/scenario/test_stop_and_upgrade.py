"""SIGTERM lets open runs end or leaves them to recovery; what waits for a person is gone on with by another version."""

import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

import cattlegrid
from tests.scenario.server import Customer, Server, until
from tests.scenario.till import Counter

NEWER = "99.0.0"
GUARD = '''\
"""A guard that an older version did not have."""

import msgspec

from cattlegrid.core.messages import Message
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import ALLOWED, Finding, GuardContext


class Politeness:
    """Says thanks at the end of every answer, and looks at everything else."""

    name = "politeness"
    version = 1
    crossings = frozenset(Crossing)

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        if crossing is not Crossing.OUTPUT or not isinstance(content, Message):
            return ALLOWED
        thanked = msgspec.structs.replace(content, text=f"{content.text} Thanks.")
        return Finding(decision=Decision.MODIFY, reason="thanks", content=thanked)
'''

pytestmark = pytest.mark.timeout(90)


@pytest.mark.requirement("fault:sigterm")
def test_sigterm_takes_no_more_lets_open_runs_end_and_exits_with_zero(
    server: Server, counter: Counter
) -> None:
    server.start()
    ana, ben = server.customer("ana@example.com"), server.customer("ben@example.com")
    counter.doors.clear()
    answers: list[httpx2.Response] = []
    request = {"agent": "till", "input": 'call look {"what": "out"} then call pay_once {"amount": 1}'}
    asking = threading.Thread(target=lambda: answers.append(ana.call("POST", "/runs", request)))
    asking.start()
    until(lambda: bool(counter.looks), 30, server.said)
    assert (
        ben.call("GET", "/live").status_code == 200
    )  # a connection that is open when the server begins to stop
    server.send(signal.SIGTERM)
    until(lambda: server.readiness() != 200, 10, server.said)
    assert _refused(ben)
    counter.doors.set()
    assert server.died(within_s=20) == 0
    asking.join(timeout=20)
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "completed")]
    assert list(counter.once.values()) == [1]
    server.cli("verify")


@pytest.mark.requirement("fault:sigterm")
def test_a_second_sigterm_stops_at_once_and_leaves_open_runs_to_recovery(
    server: Server, counter: Counter
) -> None:
    server.start()
    ana = server.customer("ana@example.com")
    counter.doors.clear()
    request = {"agent": "till", "input": 'call look {"what": "out"} then call pay_once {"amount": 1}'}
    run = ana.call("POST", "/runs", request, Prefer="respond-async").json()
    until(lambda: bool(counter.looks), 30, server.said)
    server.send(signal.SIGTERM)
    until(lambda: server.readiness() != 200, 10, server.said)
    server.send(signal.SIGTERM)
    assert server.died(within_s=15) == 0
    counter.doors.set()
    server.start()
    assert ana.finished(run["id"])["status"] == "completed"
    assert list(counter.once.values()) == [1]
    assert server.stop() == 0
    server.cli("verify")


@pytest.mark.requirement("runtime:upgrade")
def test_what_waits_for_a_person_is_gone_on_with_by_a_newer_version_and_replays_there(
    server: Server, counter: Counter, tmp_path: Path
) -> None:
    server.start()
    ana, staff = server.customer("ana@example.com"), server.staff()
    before = ana.insist("POST", "/runs", {"agent": "till", "input": 'call pay_once {"amount": 1}'})
    request = {"agent": "till", "input": 'call pay_keyed {"amount": 2} then call pay_big {"amount": 9}'}
    held = ana.insist("POST", "/runs", request)
    assert held["status"] == "held"
    assert server.stop() == 0

    server.environ["PYTHONPATH"] = str(_newer(tmp_path.parent / f"{tmp_path.name}-newer"))
    server.start()
    assert staff.insist("GET", "/info")["version"] == NEWER
    path = f"/approvals/{held['approvals'][0]['id']}/decision"
    staff.insist("POST", path, {"decision": "approve"})
    run = ana.finished(held["id"])
    assert (run["status"], run["bundle"]) == ("completed", held["bundle"])
    assert run["output"] == "pay_keyed returned: ok pay_big returned: ok Thanks."
    assert len(counter.keyed) == 1
    assert list(counter.big.values()) == [1]
    assert _replayed(staff, run)["identical"]
    # What the older version had finished stays as it is; that the newer guard would have changed it is told.
    difference = _replayed(staff, before)["difference"]
    assert (difference["recorded"], difference["replayed"]) == (
        before["output"],
        f"{before['output']} Thanks.",
    )
    assert server.stop() == 0
    server.cli("verify")


def _replayed(staff: Customer, run: dict[str, Any]) -> dict[str, Any]:
    return dict(staff.insist("POST", "/debug/replay", {"session_id": run["session_id"]}))


def _refused(customer: Customer) -> bool:
    """Whether a new request is turned away while the server stops."""
    try:
        answer = customer.call("POST", "/runs", {"agent": "till", "input": "Too late?"})
    except httpx2.TransportError:
        return True
    return answer.status_code == 503 and "stopping" in answer.json()["error"]["message"]


def _newer(folder: Path) -> Path:
    """A folder for PYTHONPATH with the program as a later version of it: another number, and one guard more."""
    package = Path(cattlegrid.__file__).parent
    shutil.copytree(package, folder / "cattlegrid", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "cattlegrid" / "guards" / "politeness.py").write_text(GUARD)
    compose = folder / "cattlegrid" / "app" / "compose.py"
    text = compose.read_text()
    assert "ApproveLines()])" in text
    text = text.replace("ApproveLines()])", "ApproveLines(), Politeness()])")
    text = text.replace(
        "from cattlegrid.guards.text import",
        "from cattlegrid.guards.politeness import Politeness\nfrom cattlegrid.guards.text import",
    )
    compose.write_text(text)
    about = folder / f"cattlegrid-{NEWER}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cattlegrid\nVersion: {NEWER}\n")
    return folder
