"""SIGKILL of a real server, at every named crash point and at random moments, with effects counted outside of it."""

import contextlib
import itertools
import os
import random
import statistics
import sys
import threading
import time
from typing import Any

import httpx2
import msgspec
import pytest

from cattlegrid.adapters.crash import POINTS
from tests.scenario.server import OPEN, Customer, Server, until
from tests.scenario.till import Counter

KILLS = int(os.environ.get("CATTLEGRID_TEST_KILLS", "12"))
"""How many random kills; the full measurement takes 200."""
BOTH = 'call pay_once {"amount": 1} then call pay_keyed {"amount": 2}'
ALL = f'{BOTH} then call pay_big {{"amount": 9}}'

pytestmark = pytest.mark.timeout(60 + 10 * KILLS)


@pytest.mark.requirement("fault:crash-points")
@pytest.mark.parametrize("point", [*POINTS, "after_intent:3", "after_effect:3"])
def test_a_kill_at_a_named_point_loses_nothing_and_repeats_nothing(
    point: str, server: Server, counter: Counter
) -> None:
    server.start(CATTLEGRID_CRASH_AT=point)
    ana, staff = server.customer("ana@example.com"), server.staff()
    restarter = threading.Thread(target=_restart_when_dead, args=(server,))
    restarter.start()
    run = ana.insist("POST", "/runs", {"agent": "till", "input": ALL}, Idempotency_Key="one")
    until(lambda: _approved(staff, run["id"], counter), 40, lambda: staff.run(run["id"]))
    restarter.join(timeout=30)
    run = staff.run(run["id"])
    assert run["status"] == "completed", run
    assert len(counter.keyed) == 1
    assert list(counter.once.values()) == list(counter.big.values()) == [1]
    said = _said_to_be_paid(run)
    assert said["pay_once"] == said["pay_keyed"] == 1
    # An outcome that was not durable yet is in doubt: only a person could tell whether `pay_big` had happened.
    assert said["pay_big"] + run["output"].count("this call took effect") == 1
    assert [listed["id"] for listed in ana.insist("GET", "/runs")["items"]] == [run["id"]]
    assert staff.insist("POST", "/debug/replay", {"session_id": run["session_id"]})["identical"]
    assert server.stop() == 0
    server.cli("verify")


def _restart_when_dead(server: Server) -> None:
    server.died(within_s=40)
    server.start()


def _approved(staff: Customer, run_id: str, counter: Counter) -> bool:
    """Approve what waits; where nobody can tell whether a payment happened, look outside and say so."""
    run = staff.run(run_id)
    for approval in run["approvals"]:
        if approval["status"] not in {"pending", "in_doubt"}:
            continue
        happened = approval["status"] == "in_doubt" and counter.big
        with contextlib.suppress(httpx2.TransportError):
            decision = {"decision": "done" if happened else "approve"}
            answer = staff.call("POST", f"/approvals/{approval['id']}/decision", decision)
            # The first decision counts; ours may have arrived just before the server died.
            assert answer.is_success or answer.status_code in {409, 503}, answer.text
    return run["status"] not in OPEN


def _said_to_be_paid(run: dict[str, Any]) -> dict[str, int]:
    """What the answer says of each tool: the scripted model repeats what came back."""
    tools = ("pay_once", "pay_keyed", "pay_big")
    return {tool: run["output"].count(f"{tool} returned: ok") for tool in tools}


class Asked(msgspec.Struct):
    """A request that a server has acknowledged, and how it went on."""

    customer: Customer
    run_id: str
    acknowledged_s: float
    ended_s: float = 0.0
    run: dict[str, Any] = {}


@pytest.mark.requirement("fault:random-kill")
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(server: Server, counter: Counter) -> None:
    server.start()
    stop = threading.Event()
    asked: list[Asked] = []
    shoppers = [
        threading.Thread(target=_shop_until, args=(stop, server.customer(user), user, asked))
        for user in ("ana@example.com", "ben@example.com", "cem@example.com", "dia@example.com")
    ]
    for shopper in shoppers:
        shopper.start()
    moments = random.Random(17)
    killed_s: list[float] = []
    try:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.05, 0.9))
            server.kill()
            killed_s.append(time.perf_counter())
            server.start()
    finally:
        stop.set()
        for shopper in shoppers:
            shopper.join(timeout=90)
    runs = [one.customer.run(one.run_id) for one in asked]
    assert {run["status"] for run in runs} == {"completed"}
    assert [run["id"] for run in runs] == [one.run_id for one in asked]
    said = [_said_to_be_paid(run) for run in runs]
    assert set(counter.once.values()) <= {1}
    assert len(counter.once) == sum(paid["pay_once"] for paid in said) == len(runs)
    assert len(counter.keyed) == sum(paid["pay_keyed"] for paid in said) == len(runs)
    staff = server.staff()
    for session_id in {run["session_id"] for run in moments.sample(runs, min(20, len(runs)))}:
        assert staff.insist("POST", "/debug/replay", {"session_id": session_id})["identical"]
    assert server.stop() == 0
    server.cli("verify")
    _tell(asked, killed_s, effects=len(counter.once) + len(counter.keyed))


def _shop_until(stop: threading.Event, customer: Customer, user: str, asked: list[Asked]) -> None:
    """Ask again and again, each time under a key of its own, and every other time without waiting for the answer."""
    for number in itertools.count():
        if stop.is_set():
            return
        headers = {"Idempotency_Key": f"{user}-{number}"} | (
            {"Prefer": "respond-async"} if number % 2 else {}
        )
        request = {"agent": "till", "input": BOTH}
        run = customer.insist("POST", "/runs", request, within_s=90, **headers)
        one = Asked(customer, run["id"], acknowledged_s=time.perf_counter())
        asked.append(one)
        one.run = customer.finished(run["id"], within_s=90)
        one.ended_s = time.perf_counter()


def _tell(asked: list[Asked], killed_s: list[float], *, effects: int) -> None:
    """The figures, for people."""
    recovered = [
        max(one.ended_s for one in open_then) - at_s
        for at_s in killed_s
        if (open_then := [one for one in asked if one.acknowledged_s < at_s < one.ended_s])
    ]
    cuts = statistics.quantiles(recovered, n=20) if len(recovered) > 1 else [0.0] * 19
    sys.stderr.write(
        f"\n{len(killed_s)} kills, {len(asked)} runs acknowledged, all finished; {effects} effects, 0 doubled; after "
        f"{len(recovered)} kills with acknowledged runs under way these ended within p50 {cuts[9]:.2f} s, "
        f"p95 {cuts[18]:.2f} s of the kill, start included\n"
    )
