"""Several things that come at the same moment over HTTP: none of them is lost, and none happens twice."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from cattlegrid.journal import events as ev
from tests.scenario import records
from tests.scenario.server import Customer, Server, until
from tests.scenario.till import Counter

ROUNDS = 6

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def served(server: Server, counter: Counter) -> Iterator[Server]:
    """The server, ready; whoever looks at something waits until the counter's doors are open."""
    counter.doors.clear()
    server.start()
    yield server
    counter.doors.set()
    assert server.stop() == 0
    server.cli("verify")


@pytest.mark.requirement("fault:during-run")
def test_a_thumb_an_approval_and_a_cancel_that_come_at_once_during_a_run_are_all_on_record(
    served: Server, counter: Counter
) -> None:
    ana, ben, staff = (served.customer("ana@example.com") for _ in range(2)), served.staff(), served.staff()
    asking, thinking = ana
    paid = 0
    for number in range(ROUNDS):
        text = f'call pay_big {{"amount": 9}} call look {{"what": "out {number}"}}'
        run_id = _asked(asking, text)["id"]
        until(lambda seen=number: len(counter.looks) > seen, 30, lambda run_id=run_id: staff.run(run_id))
        approval = staff.reached(run_id, lambda run: bool(run["approvals"]))["approvals"][0]
        order: list[Callable[[], httpx2.Response]] = [
            lambda run_id=run_id: thinking.call("POST", f"/runs/{run_id}/feedback", {"thumb": "up"}),
            lambda id=approval["id"]: staff.call(
                "POST", f"/approvals/{id}/decision", {"decision": "approve"}
            ),
            lambda run_id=run_id: ben.call("POST", f"/runs/{run_id}/cancel"),
        ]
        thumb, decision, cancel = _at_once(order)
        counter.doors.set()
        run = asking.finished(run_id)
        counter.doors.clear()
        assert thumb.status_code == 204, thumb.text
        assert decision.status_code in {200, 202, 409}, decision.text
        assert cancel.status_code in {200, 202}, cancel.text
        # A decision that finds the run ended is refused; one that was taken is on record, if need be as too late.
        settled = [] if decision.status_code == 409 else [approval["id"]]
        until(
            lambda run=run, settled=settled: _settled(served, run["session_id"]) == settled,
            10,
            lambda decision=decision: decision.text,
        )
        told = records.events(served.state, run["session_id"])
        assert [given.thumb for given in told if isinstance(given, ev.FeedbackGiven)] == ["up"]
        assert [one.by != "" for one in told if isinstance(one, ev.CancelRequested)] == [True]
        assert run["status"] == "cancelled", run
        steps = staff.run(run_id)["steps"]
        paid += [step["status"] for step in steps if step["name"] == "pay_big"].count("done")
        assert list(counter.big.values()) == [1] * paid
        assert staff.insist("POST", "/debug/replay", {"session_id": run["session_id"]})["identical"]


def _settled(served: Server, session_id: str) -> list[str]:
    """The approvals of a session that have their decision, or had it too late."""
    told = records.events(served.state, session_id)
    decided = [one.approval_id for one in told if isinstance(one, ev.ApprovalDecided)]
    return [*decided, *(one.subject for one in told if isinstance(one, ev.OperatorActed))]


@pytest.mark.requirement("runtime:join")
@pytest.mark.requirement("input:concurrent")
@pytest.mark.requirement("input:mismatch")
def test_requests_at_once_to_one_session_join_wait_or_are_refused_and_nothing_is_mixed(
    served: Server, counter: Counter
) -> None:
    asking = [served.customer("ana@example.com") for _ in range(6)]
    first = _asked(asking[0], 'call look {"what": "first"}', Idempotency_Key="first")
    path = f"/sessions/{first['session_id']}/runs"
    until(lambda: bool(counter.looks), 30, lambda: asking[0].run(first["id"]))
    same = _at_once([lambda one=one: _ask(one, path, 'call look {"what": "first"}') for one in asking])
    assert {answer.json()["id"] for answer in same} == {first["id"]}
    other = _at_once([lambda one=one: _ask(one, path, 'call look {"what": "second"}') for one in asking[:3]])
    second = {answer.json()["id"] for answer in other}
    assert len(second) == 1
    assert second != {first["id"]}
    several = _at_once(
        [lambda one=one, n=n: _ask(one, path, f"Say {n}.") for n, one in enumerate(asking[:4])]
    )
    assert len({answer.json()["id"] for answer in several}) == 4
    changed = asking[0].call("POST", "/runs", {"agent": "till", "input": "else"}, Idempotency_Key="first")
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "idempotency_mismatch")
    counter.doors.set()
    assert asking[0].finished(first["id"])["output"] == "look returned: saw first"
    assert asking[0].finished(*second)["output"] == "look returned: saw second"
    for n, answer in enumerate(several):
        assert asking[0].finished(answer.json()["id"])["output"] == f'You said: "Say {n}."'
    assert len(counter.looks) == 2
    changed = asking[0].call("POST", "/runs", {"agent": "till", "input": "else"}, Idempotency_Key="first")
    assert changed.status_code == 409


@pytest.mark.requirement("server:idempotency")
def test_the_same_request_sent_many_times_at_once_is_carried_out_once(
    served: Server, counter: Counter
) -> None:
    counter.doors.set()
    asking = [served.customer("ana@example.com") for _ in range(8)]
    request = {"agent": "till", "input": 'call pay_once {"amount": 1}'}
    answers = _at_once(
        [lambda one=one: one.call("POST", "/runs", request, Idempotency_Key="once") for one in asking]
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert list(counter.once.values()) == [1]


def _asked(customer: Customer, text: str, **headers: str) -> dict[str, Any]:
    sent = {"Prefer": "respond-async", **headers}
    answer = customer.send("POST", "/runs", {"agent": "till", "input": text}, sent)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def _ask(customer: Customer, path: str, text: str) -> httpx2.Response:
    answer = customer.call("POST", path, {"input": text}, Prefer="respond-async")
    assert answer.status_code == 202, answer.text
    return answer


def _at_once(requests: list[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
    """Make requests from threads that set off together; the answers in the order of the requests."""
    start = threading.Barrier(len(requests))
    answers: dict[int, httpx2.Response] = {}

    def ask(number: int) -> None:
        start.wait(timeout=10)
        answers[number] = requests[number]()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return [answers[number] for number in range(len(requests))]
