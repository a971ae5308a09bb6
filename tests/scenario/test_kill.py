"""SIGKILL of a real server, at every named crash point and at random moments, with effects counted outside of it."""

import contextlib
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cattlegrid.adapters.crash import POINTS
from tests.scenario.server import Customer, Server
from tests.scenario.till import Counter, write_project

KILLS = int(os.environ.get("CATTLEGRID_TEST_KILLS", "12"))
"""How many random kills; the full measurement takes 200."""
BOTH = 'call pay_once {"amount": 1} then call pay_keyed {"amount": 2}'

pytestmark = pytest.mark.timeout(60 + 10 * KILLS)


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter() as counter:
        yield counter


@pytest.fixture
def server(tmp_path: Path, counter: Counter) -> Iterator[Server]:
    server = Server(write_project(tmp_path), TILL_COUNTER=counter.address)
    yield server
    if server.alive:
        server.kill()


@pytest.mark.requirement("fault:crash-points")
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_named_point_loses_nothing_and_repeats_nothing(
    point: str, server: Server, counter: Counter
) -> None:
    ana = Customer(server, server.key("--act-as"), user="ana@example.com")
    staff = Customer(
        server, server.key("--user", "staff@example.com", "--role", "operator", "--role", "approver")
    )
    server.start(CATTLEGRID_CRASH_AT=point)
    restarter = threading.Thread(target=_restart_when_dead, args=(server,))
    restarter.start()
    request = {"agent": "till", "input": f'{BOTH} then call pay_big {{"amount": 9}}'}
    run = ana.insist("POST", "/runs", request, Idempotency_Key="one")
    deadline_s = time.perf_counter() + 45
    while run["status"] in {"queued", "running", "held"}:
        assert time.perf_counter() < deadline_s, run
        for approval in run["approvals"]:
            _decide(staff, approval, happened=len(counter.once) == 2)
        time.sleep(0.05)
        run = staff.insist("GET", f"/runs/{run['id']}")
    restarter.join(timeout=30)
    assert run["status"] == "completed", run
    assert sorted(counter.once.values()) == [1, 1]
    assert len(counter.keyed) == 1
    assert staff.insist("POST", "/debug/replay", {"session_id": run["session_id"]})["identical"]
    assert server.stop() == 0
    server.cli("verify")


def _decide(staff: Customer, approval: dict[str, str], *, happened: bool) -> None:
    """Approve what waits; where nobody can tell whether a payment happened, look outside and say so."""
    if approval["status"] not in {"pending", "in_doubt"}:
        return
    decision = "done" if approval["status"] == "in_doubt" and happened else "approve"
    with contextlib.suppress(httpx2.TransportError):
        answer = staff.call("POST", f"/approvals/{approval['id']}/decision", {"decision": decision})
        # The first decision counts; ours may have arrived just before the server died.
        assert answer.is_success or answer.status_code in {409, 503}, answer.text


def _restart_when_dead(server: Server) -> None:
    server.died(within_s=40)
    server.start()


@pytest.mark.requirement("fault:random-kill")
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(server: Server, counter: Counter) -> None:
    key = server.key("--act-as")
    server.start()
    stop = threading.Event()
    acknowledged: list[tuple[str, str]] = []
    users = [f"u{number}@example.com" for number in range(4)]
    customers = [
        threading.Thread(
            target=_shop_until, args=(stop, Customer(server, key, user=user), user, acknowledged)
        )
        for user in users
    ]
    for customer in customers:
        customer.start()
    moments = random.Random(17)
    try:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.05, 0.9))
            server.kill()
            server.start()
    finally:
        stop.set()
        for customer in customers:
            customer.join(timeout=60)
    runs = [Customer(server, key, user=user).finished(run_id) for user, run_id in acknowledged]
    assert {run["status"] for run in runs} == {"completed"}
    assert set(counter.once.values()) <= {1}
    assert len(counter.once) == len(counter.keyed) == len(runs)
    server.stop()
    summary = f"{KILLS} kills, {len(runs)} runs acknowledged and finished, {len(counter.once)} effects"
    sys.stderr.write(f"{summary}\n")


def _shop_until(
    stop: threading.Event, customer: Customer, user: str, acknowledged: list[tuple[str, str]]
) -> None:
    """Ask again and again, each time under a key of its own; note what the server has acknowledged."""
    request = {"agent": "till", "input": BOTH}
    for number in itertools.count():
        if stop.is_set():
            return
        run = customer.insist("POST", "/runs", request, Idempotency_Key=f"{user}-{number}", within_s=90)
        acknowledged.append((user, run["id"]))
