"""The container contract: invocations with the platform's sessions, and a ping that knows what is under way."""

import asyncio

import pytest
from msgspec.structs import replace

from cattlegrid.testing.models import Stall, answer, call
from cattlegrid.testing.world import bundle_of
from tests.unit.server.site import Shelf, Site, open_site, until

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("door:invocations")]

PLATFORM = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
NAMED = {PLATFORM: "0f8b2c1e-7a55-4f0e-9d5c-1234567890ab"}
HI = {"prompt": "Hi"}


async def test_the_only_agent_answers_in_the_session_that_the_platform_names() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    first = await site.post("/invocations", HI, **NAMED)
    second = await site.post("/invocations", {"prompt": "And?", "agent": "support"}, **NAMED)
    told = first.json()
    assert (first.status_code, told["response"], told["status"]) == (200, "Yes.", "success")
    assert first.headers[PLATFORM] == NAMED[PLATFORM]
    assert second.json()["cattlegrid"]["session_id"] == told["cattlegrid"]["session_id"]
    assert told["cattlegrid"]["cost_nano_usd"] > 0
    alone = await site.post("/invocations", HI)
    assert alone.headers[PLATFORM] == alone.json()["cattlegrid"]["session_id"]
    assert alone.json()["cattlegrid"]["session_id"] != told["cattlegrid"]["session_id"]


async def test_an_invocation_that_waits_for_a_person_says_for_what() -> None:
    site = await open_site(model=[answer(calls=[call("refund", order=17, amount=79.9)])])
    held = (await site.post("/invocations", HI)).json()
    assert (held["status"], held["response"]) == ("held", "")
    [waiting] = held["approvals"]
    assert (waiting["tool"], waiting["status"]) == ("refund", "pending")


async def test_an_invocation_comes_as_events_when_that_is_asked_for() -> None:
    site = await open_site(model=[answer("Yes.")])
    async with site.open(
        "POST", "/invocations", body=b'{"prompt": "Hi"}', Accept="text/event-stream"
    ) as wire:
        events = [event async for event in wire.events()]
    assert (events[-1][1], events[-1][2]["output"]) == ("run.finished", "Yes.")


@pytest.mark.requirement("door:idempotency")
async def test_an_invocation_with_a_key_is_made_once() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    runs = {
        (await site.post("/invocations", HI, Idempotency_Key="k")).json()["cattlegrid"]["run_id"]
        for _ in range(3)
    }
    assert (len(runs), len(site.world.model.requests)) == (1, 1)
    other = await site.post("/invocations", HI, Idempotency_Key="k", **NAMED)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")


async def test_several_agents_must_be_told_apart() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    site.world.bundles.add(bundle_of("sales"))
    shelf = Shelf(site.world.bundles, "support", "sales")
    site.rebuilt(replace(site.services, bundles=shelf))
    refused = await site.post("/invocations", HI)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "agent")
    told = await site.post("/invocations", {**HI, "agent": "sales"})
    assert told.json()["cattlegrid"]["agent"] == "sales"


async def test_a_ping_is_busy_while_a_run_is_under_way_and_says_since_when() -> None:
    site = await open_site(model=lambda _: Stall())
    started = int(site.world.clock.now().timestamp())
    assert await pinged(site) == ("Healthy", started)
    run = (await site.post("/runs", {"agent": "support", "input": "Hi"}, Prefer="respond-async")).json()
    site.world.clock.advance(3)
    assert await pinged(site) == ("HealthyBusy", started + 3)
    site.world.clock.advance(3)
    assert await pinged(site) == ("HealthyBusy", started + 3)
    await site.post(f"/runs/{run['id']}/cancel")
    await until(lambda: not any(runner.busy for runner in site.world.engine.runners.values()))
    assert await pinged(site) == ("Healthy", started + 6)
    site.world.engine.begin_draining()
    assert (await pinged(site))[0] == "Healthy"
    await asyncio.sleep(0)


async def pinged(site: Site) -> tuple[str, int]:
    """Nobody needs a key to ask."""
    told = (await site.get("/ping", "")).json()
    return told["status"], told["time_of_last_update"]
