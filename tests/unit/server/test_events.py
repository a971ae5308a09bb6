"""Runs as server-sent events: what is told, how a client comes back, and that watching never disturbs a run."""

import asyncio
from typing import Any

import pytest

from cattlegrid.core.errors import ModelUnavailable
from cattlegrid.core.messages import ModelRequest
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import Answer, Break, Stall, answer, call
from tests.unit.server.site import Site, Wire, open_site

pytestmark = pytest.mark.anyio

HELD = answer(calls=[call("refund", order=17, amount=79.9)])
STREAM = {"Accept": "text/event-stream"}
BODY = b'{"agent": "support", "input": "Hi"}'


async def told(wire: Wire, *, until: str = "run.finished") -> list[tuple[str, str, dict[str, Any]]]:
    """Every event up to one of a type, heartbeats left out."""
    seen: list[tuple[str, str, dict[str, Any]]] = []
    async for event in wire.events():
        if event[1] != ":":
            seen.append(event)
        if event[1] == until:
            break
    return seen


@pytest.mark.requirement("server:events")
async def test_a_run_is_told_as_it_happens_and_ends_with_the_answer_and_its_cost() -> None:
    site = await open_site(model=[answer("Hello Ana.")])
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        assert (wire.status, wire.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert wire.headers["cache-control"] == "no-store"
        events = await told(wire)
    assert [type_ for _, type_, _ in events] == [
        "run.started",
        "step.started",
        "message.delta",
        "message.delta",
        "step.finished",
        "run.finished",
    ]
    assert "".join(data["text"] for _, type_, data in events if type_ == "message.delta") == "Hello Ana."
    last = events[-1][2]
    assert wire.headers["location"] == f"/runs/{last['run_id']}"
    assert (last["status"], last["output"]) == ("completed", "Hello Ana.")
    assert (last["cost_nano_usd"], last["cost_usd"]) == (56_000, "0.000056")


@pytest.mark.requirement("server:events")
async def test_a_client_that_comes_back_is_told_only_what_it_has_not_seen() -> None:
    site = await open_site(model=[answer("Hello.")])
    run = await site.ask()
    path = f"/runs/{run['id']}/events"
    async with site.open("GET", path) as wire:
        everything = await told(wire)
    for place, (id_, _, _) in enumerate(everything):
        async with site.open("GET", path, Last_Event_ID=id_) as wire:
            assert await told(wire) == everything[place + 1 :]


@pytest.mark.requirement("server:events")
async def test_a_request_sent_again_with_its_key_resumes_the_same_run() -> None:
    site = await open_site(model=[answer("Hello.")])
    async with site.open("POST", "/runs", body=BODY, Idempotency_Key="k", **STREAM) as wire:
        first = await told(wire)
    seen = first[0][0]
    headers = {"Idempotency_Key": "k", "Last_Event_ID": seen, **STREAM}
    async with site.open("POST", "/runs", body=BODY, **headers) as wire:
        assert [id_ for id_, _, _ in await told(wire)] == [id_ for id_, _, _ in first[1:] if "." not in id_]
    assert len(site.world.model.requests) == 1


@pytest.mark.parametrize("place", ["x", "-1", "1.x", "1" * 21, "٣"])
async def test_an_event_id_that_is_none_is_refused(place: str) -> None:
    site = await open_site(model=[answer("Hello.")])
    run = await site.ask()
    answered = await site.http.get(
        f"/runs/{run['id']}/events",
        headers=[(b"last-event-id", place.encode()), (b"x-api-key", site.keys["ana"].encode())],
    )
    assert answered.status_code in {400, 422}
    assert answered.json()["error"]["code"] == "invalid_request"


@pytest.mark.requirement("server:provisional")
async def test_pieces_of_a_failed_attempt_are_taken_back() -> None:
    broken = Break(("Hel",), ModelUnavailable("The model did not answer."))
    site = await open_site(model=[broken, answer("Hello.")])
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        await until_asleep(site)
        site.world.clock.advance(60)
        events = await told(wire)
    types = [type_ for _, type_, _ in events]
    assert types.index("message.delta") < types.index("message.reset") < types.index("run.finished")
    assert events[-1][2]["output"] == "Hello."


@pytest.mark.requirement("server:provisional")
async def test_after_a_recovery_the_stream_restarts_and_brings_the_answer_again() -> None:
    script: list[Answer] = [Stall(("Hel",)), answer("Hello.")]
    site = await open_site(model=script)
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        before = await told(wire, until="message.delta")
    run_id = before[0][2]["run_id"]
    await site.world.crash()
    site.world.clock.advance(6.1)
    site.world.restart()
    site = Site(site.world, site.services.settings, site.keys)
    await site.world.upkeep.recover()
    async with site.open("GET", f"/runs/{run_id}/events", Last_Event_ID=before[-1][0]) as wire:
        after = await told(wire)
    assert [type_ for _, type_, _ in after if type_.startswith("run.")] == ["run.restarted", "run.finished"]
    assert after[-1][2]["output"] == "Hello."


async def test_a_held_run_names_its_approval_and_shows_the_arguments_to_staff_only() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        held = (await told(wire, until="run.held"))[-1][2]
        assert (held["tool"], held["reason"], "arguments" in held) == ("refund", "approval", False)
        async with site.open("GET", f"/runs/{held['run_id']}/events", "staff") as staff:
            assert (await told(staff, until="run.held"))[-1][2]["arguments"] == {"order": 17, "amount": 79.9}
            await site.post(f"/approvals/{held['approval_id']}/decision", {"decision": "approve"}, "staff")
            assert (await told(staff))[-1][2]["output"] == "Refunded."
        assert next(type_ for _, type_, _ in await told(wire)) == "approval.decided"


async def test_a_client_that_leaves_ends_its_watching_and_not_the_run() -> None:
    release = asyncio.Event()
    site = await open_site(
        model=[answer(calls=[call("find_order", order=1)]), answer("Found.")],
        functions={"find_order": lambda order: _when(release, order), "refund": print},
    )
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        run_id = (await told(wire, until="step.started"))[0][2]["run_id"]
        await wire.leave()
    assert site.world.engine.open_streams == 1
    release.set()
    await site.world.settled()
    run = (await site.get(f"/runs/{run_id}")).json()
    assert (run["status"], run["output"]) == ("completed", "Found.")
    assert site.world.engine.open_streams == 0


async def test_a_client_that_reads_nothing_holds_up_nobody() -> None:
    site = await open_site(model=lambda _: answer("word " * 2_000))
    slow = Slow()
    task = asyncio.create_task(site.app(_scope(site), slow.receive, slow.send))
    await slow.blocked.wait()
    await site.world.settled()
    assert [run["status"] for run in (await site.get("/runs")).json()["items"]] == ["completed"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_silent_stream_says_that_it_is_still_there() -> None:
    site = await open_site(model=[Stall()])
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        events = wire.events()
        while (await anext(events))[1] != "step.started":
            pass
        for _ in range(2):
            await until_asleep(site, sleepers=2)
            site.world.clock.advance(15)
            assert (await anext(events))[1] == ":"


async def test_a_stream_of_a_held_run_ends_when_the_process_stops_and_can_be_resumed() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    async with site.open("POST", "/runs", body=BODY, **STREAM) as wire:
        held = (await told(wire, until="run.held"))[-1]
        await site.world.upkeep.drain(1)
        assert await told(wire) == []
    site.world.restart()
    site = Site(site.world, site.services.settings, site.keys)
    async with site.open("GET", f"/runs/{held[2]['run_id']}/events", Last_Event_ID=held[0]) as wire:
        await site.post(f"/approvals/{held[2]['approval_id']}/decision", {"decision": "approve"}, "staff")
        assert (await told(wire))[-1][2]["output"] == "Refunded."


async def test_a_stream_that_breaks_says_so_and_can_be_resumed() -> None:
    site = await open_site(model=[HELD])
    store = site.world.store
    assert isinstance(store, MemoryJournal)
    async with site.open("POST", "/runs", body=BODY, X_Correlation_Id="mine", **STREAM) as wire:
        held = (await told(wire, until="run.held"))[-1]
        store.available = False
        site.world.engine.announce_end(held[2]["run_id"], 99)
        assert await told(wire) == [
            (
                "",
                "error",
                {
                    "code": "store_unavailable",
                    "message": "The journal is not available.",
                    "correlation_id": "mine",
                },
            )
        ]
    store.available = True
    async with site.open("GET", f"/runs/{held[2]['run_id']}/events") as wire:
        assert (await told(wire, until="run.held"))[-1] == held


async def test_the_stream_of_a_queued_run_begins_when_its_turn_comes() -> None:
    def model(request: ModelRequest) -> Answer:
        return Stall() if request.messages[-1].text == "Hi" else answer("Second.")

    site = await open_site(model=model)
    first = (await site.post("/runs", {"agent": "support", "input": "Hi"}, Prefer="respond-async")).json()
    path = f"/sessions/{first['session_id']}/runs"
    async with site.open("POST", path, body=b'{"input": "And?"}', **STREAM) as wire:
        await site.post(f"/runs/{first['id']}/cancel")
        assert (await told(wire))[-1][2]["output"] == "Second."


async def until_asleep(site: Site, *, sleepers: int = 1) -> None:
    """Wait until that many wait for the clock."""
    async with asyncio.timeout(5):
        await site.world.clock.asleep(sleepers)


async def _when(event: asyncio.Event, value: int) -> int:
    await event.wait()
    return value


class Slow:
    """A client that takes the head of the answer and the first piece, and then no more."""

    def __init__(self) -> None:
        self.blocked = asyncio.Event()
        self._pieces = 0
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": BODY, "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:  # noqa: ANN401
        self._pieces += message["type"] == "http.response.body"
        if self._pieces > 1:
            self.blocked.set()
            await asyncio.Event().wait()


def _scope(site: Site) -> Any:  # noqa: ANN401
    return site.open("POST", "/runs", body=BODY, **STREAM).scope
