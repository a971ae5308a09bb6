"""Several processes on one PostgreSQL database: killed, restarted, stopped and cut off while customers shop."""

import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.cutter import Cutter
from tests.scenario.replicas import Replicas, Rush, assert_paid_once_each, slow_model
from tests.scenario.server import until
from tests.scenario.till import Counter, write_project

STORM_S = float(os.environ.get("CATTLEGRID_TEST_STORM_S", "8"))
"""For how long processes are killed; the full measurement takes 60."""
KILL_EVERY_S = 2.0
CUTS = 6
"""How often all connections to the database are broken off at once, before nobody gets through for a while."""
TAKEN_OVER = """
SELECT last_us / 1e6::float8, at_us / 1e6::float8
FROM (SELECT type, at_us, lag(at_us) OVER (PARTITION BY stream_id ORDER BY seq) AS last_us FROM cattlegrid.events) AS e
WHERE type LIKE 'run_resumed%'
"""
"""When each run that was taken over was last heard of from its first process, and when it went on in another one."""

pytestmark = pytest.mark.timeout(180 + 3 * STORM_S)


@pytest.fixture
def replicas(tmp_path: Path, counter: Counter, database: str) -> Iterator[Replicas]:
    """Three servers, not started yet."""
    replicas = Replicas(write_project(tmp_path), counter, database, CATTLEGRID_LEAVE_S="1.0")
    yield replicas
    replicas.end()


@pytest.mark.requirement("replica:kill-storm")
def test_kills_of_one_process_after_the_other_lose_nothing_and_repeat_nothing(
    replicas: Replicas, counter: Counter
) -> None:
    moments = random.Random(17)
    killed_s: list[float] = []
    # Answers that take a while, so that runs are under way in whatever process is killed.
    with slow_model(latency_s=0.3) as url:
        replicas.start(OPENAI_BASE_URL=url, OPENAI_API_KEY="unused")
        rush = _storm(replicas, moments, killed_s)
    assert_paid_once_each(rush, counter)
    took = [
        resumed_s - min(one for one in killed_s if one > last_s)
        for last_s, resumed_s in replicas.query(TAKEN_OVER)
    ]
    cuts = statistics.quantiles(took, n=20) if len(took) > 1 else [0.0] * 19
    sys.stderr.write(
        f"\n{len(killed_s)} kills, {len(rush.asked)} runs acknowledged, all completed; {len(took)} taken over within "
        f"p50 {cuts[9]:.2f} s, p95 {cuts[18]:.2f} s of the kill\n"
    )
    assert cuts[18] <= 6.0 + 1.0  # the goal is 6; a shared machine may be a moment late
    for server in replicas.servers:
        assert server.stop() == 0
    replicas.servers[0].cli("verify")


def _storm(replicas: Replicas, moments: random.Random, killed_s: list[float]) -> Rush:
    """Kill one process every two seconds, while customers shop; each comes back at once."""
    with Rush(replicas, shoppers=12, patient=True) as rush:
        ends_s = time.perf_counter() + STORM_S
        while time.perf_counter() < ends_s:
            victim = moments.choice(replicas.servers)
            victim.kill()
            killed_s.append(time.time())
            back = threading.Thread(target=victim.start)
            back.start()
            time.sleep(KILL_EVERY_S)
            back.join(timeout=30)
    return rush


@pytest.mark.requirement("replica:rolling")
def test_a_restart_of_one_process_after_the_other_fails_no_request(
    replicas: Replicas, counter: Counter
) -> None:
    replicas.start()
    with Rush(replicas, shoppers=4, patient=False, pause_s=0.05) as rush:
        for server in replicas.servers:
            time.sleep(0.5)
            assert server.stop() == 0
            server.start()
    assert len(rush.asked) > len(replicas.servers)
    assert_paid_once_each(rush, counter)


@pytest.mark.requirement("replica:elsewhere")
def test_a_hundred_requests_for_one_session_through_two_processes_are_answered_once_each_and_in_order(
    replicas: Replicas,
) -> None:
    here, there, _ = replicas.servers
    here.start()
    there.start()
    ana = [server.customer("ana@example.com") for server in (here, there)]
    session_id = ana[0].insist("POST", "/runs", {"agent": "till", "input": "Hello"})["session_id"]
    path = f"/sessions/{session_id}/runs"

    def ask(number: int) -> dict[str, Any]:
        asker = (here, there)[number % 2].customer("ana@example.com")
        return asker.insist("POST", path, {"input": f'call pay_keyed {{"amount": {number}}}'})

    with ThreadPoolExecutor(100) as pool:
        runs = [ana[1].finished(run["id"]) for run in pool.map(ask, range(100))]
    assert {run["status"] for run in runs} == {"completed"}
    assert len({run["id"] for run in runs}) == 100
    begun = replicas.query(
        "SELECT e.run_id, e.type FROM cattlegrid.events AS e JOIN cattlegrid.heads AS h ON h.id = e.stream_id "
        "WHERE h.stream = %s AND (e.type LIKE 'run_started%%' OR e.type LIKE 'run_finished%%') ORDER BY e.seq",
        session_id,
    )
    assert [run_id for run_id, _ in begun[::2]] == [run_id for run_id, _ in begun[1::2]], (
        "one after the other"
    )
    order = [run_id for run_id, _ in begun[::2]]
    posted = replicas.query(
        "SELECT substr(key, 5) FROM cattlegrid.inbox WHERE stream = %s AND key LIKE 'run:%%' ORDER BY position",
        session_id,
    )
    waited = [run_id for (run_id,) in posted]
    assert [run_id for run_id in order if run_id in set(waited)] == waited
    assert here.stop() == there.stop() == 0


@pytest.mark.requirement("replica:elsewhere")
def test_a_watcher_in_one_process_sees_what_happens_in_another(replicas: Replicas, counter: Counter) -> None:
    here, there, _ = replicas.servers
    here.start()
    there.start()
    counter.doors.clear()
    body = {"agent": "till", "input": 'call look {"what": "round"} then call pay_big {"amount": 9}'}
    ana, staff = there.customer("ana@example.com"), there.staff()
    run = here.customer("ana@example.com").insist("POST", "/runs", body, Prefer="respond-async")
    until(lambda: bool(counter.looks), 30, here.said)
    decided = False
    with ana.events(run["id"]) as lines:
        seen: list[str] = []
        for line in lines:
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if seen and seen[-1] == "run.started":
                counter.doors.set()
            if seen and seen[-1] == "run.held" and not decided:
                # Once: until the process that runs it has folded the decision in, the call is still shown as waiting.
                decided = True
                approval = staff.run(run["id"])["approvals"][0]
                staff.insist("POST", f"/approvals/{approval['id']}/decision", {"decision": "approve"})
    assert seen[0] == "run.started"
    assert seen[-1] == "run.finished"
    assert {"step.started", "step.finished", "run.held", "approval.decided"} <= set(seen)
    assert ana.run(run["id"])["status"] == "completed"
    assert here.stop() == there.stop() == 0


@pytest.mark.requirement("replica:partition")
def test_a_database_that_cannot_be_reached_turns_readiness_red_and_costs_nothing_that_was_acknowledged(
    tmp_path: Path, counter: Counter, database: str
) -> None:
    moments = random.Random(17)
    with Cutter(database) as wire:
        replicas = Replicas(write_project(tmp_path), counter, wire.url, count=2, CATTLEGRID_LEAVE_S="0.2")
        try:
            replicas.start()
            ana = replicas.servers[0].customer("ana@example.com")
            with Rush(replicas, shoppers=4, patient=True) as rush:
                for _ in range(CUTS):
                    time.sleep(moments.uniform(0.2, 0.8))
                    wire.cut()
                wire.closed = True
                wire.cut()
                for server in replicas.servers:
                    until(lambda server=server: server.readiness() == 503, 20, server.said)
                refused = ana.call("POST", "/runs", {"agent": "till", "input": "Hello?"})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
                assert "Retry-After" in refused.headers
                wire.closed = False
                for server in replicas.servers:
                    until(lambda server=server: server.readiness() == 200, 30, server.said)
                time.sleep(0.5)
            assert wire.cuts > CUTS
            assert_paid_once_each(rush, counter)
            for server in replicas.servers:
                assert server.stop() == 0
            replicas.servers[0].cli("verify")
        finally:
            replicas.end()


@pytest.mark.requirement("replica:zombie")
def test_a_stopped_process_that_wakes_after_another_took_its_session_writes_nothing(
    replicas: Replicas, counter: Counter
) -> None:
    zombie, heir, _ = replicas.servers
    heir.start()
    zombie.environ["CATTLEGRID_LEASE_S"] = heir.environ["CATTLEGRID_LEASE_S"] = "1.0"
    zombie.start(CATTLEGRID_CRASH_AT="after_intent:1:SIGSTOP")
    ana = heir.customer("ana@example.com")
    asking = threading.Thread(
        target=lambda: zombie.customer("ana@example.com").call(
            "POST", "/runs", {"agent": "till", "input": 'call pay_once {"amount": 1}'}, Idempotency_Key="one"
        )
    )
    asking.start()
    until(lambda: _state_of(zombie.pid) == "T", 30, zombie.said)
    until(lambda: bool(ana.insist("GET", "/runs")["items"]), 30, heir.said)
    run = ana.finished(ana.insist("GET", "/runs")["items"][0]["id"])
    events = "SELECT stream_id, seq, hash FROM cattlegrid.events ORDER BY position"
    before = replicas.query(events)
    zombie.send(signal.SIGCONT)
    asking.join(timeout=60)
    assert zombie.stop() == 0
    assert replicas.query(events)[: len(before)] == before
    assert [
        row for row in replicas.query(events)[len(before) :] if row[0] in {row[0] for row in before}
    ] == []
    assert run["status"] == "completed"
    assert set(counter.once.values()) <= {1}
    assert ("ok" in run["output"]) == (len(counter.once) == 1)
    assert heir.stop() == 0


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
