"""Probes answer truthfully, also when the journal is gone and while the process stops; refusals have one table."""

import asyncio
import inspect

import pytest

import cattlegrid.core.tools
from cattlegrid.core import errors
from cattlegrid.core.errors import CattlegridError
from cattlegrid.server.errors import STATUS, answer_error, retry_after, status_of
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import Stall, answer
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

RUN = {"agent": "support", "input": "Hi"}


def journal(site: Site) -> MemoryJournal:
    store = site.world.store
    assert isinstance(store, MemoryJournal)
    return store


@pytest.mark.requirement("server:probes")
async def test_a_healthy_process_is_alive_ready_and_says_what_it_is() -> None:
    site = await open_site()
    for path in ("/health", "/live"):
        assert (await site.get(path, "")).json() == {"status": "ok"}
    assert (await site.get("/ready", "")).json() == {"status": "ready", "reasons": []}
    info = (await site.get("/info")).json()
    assert (info["version"], info["environment"]) == ("0.0.0", "test")
    assert [version["name"].partition(" ")[0] for version in info["agents"]] == ["support#1"]


@pytest.mark.requirement("server:probes", "fault:database")
async def test_without_a_journal_the_process_lives_is_not_ready_and_loses_nothing() -> None:
    site = await open_site(model=lambda _: answer("Hello."))
    before = await site.ask()
    journal(site).available = False
    assert (await site.get("/live", "")).status_code == 200
    ready = await site.get("/ready", "")
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert ready.json()["reasons"] == ["The journal is not available."]
    for refused in (await site.post("/runs", RUN), await site.get(f"/runs/{before['id']}")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    journal(site).available = True
    assert (await site.get("/ready", "")).status_code == 200
    assert (await site.get(f"/runs/{before['id']}")).json() == before
    assert (await site.ask())["output"] == "Hello."


@pytest.mark.requirement("server:probes", "fault:database")
async def test_a_journal_that_does_not_answer_makes_readiness_red_in_time() -> None:
    site = await open_site(settings={"ready_wait_s": 0.05})
    journal(site).pause()
    ready = await site.get("/ready", "")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["The journal does not answer."])
    journal(site).resume()


@pytest.mark.requirement("server:probes")
async def test_a_process_that_stops_takes_nothing_new_and_lets_what_runs_end() -> None:
    site = await open_site(model=[Stall()], settings={"run_wait_s": 5.0})
    running = asyncio.create_task(site.post("/runs", RUN))
    async with asyncio.timeout(5):
        await site.world.clock.asleep()
    draining = asyncio.create_task(site.world.upkeep.drain(5))
    await asyncio.sleep(0)
    for refused in (await site.post("/runs", RUN), await site.get("/runs"), await site.get("/agents")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert refused.headers["retry-after"] == "2"
    ready = await site.get("/ready", "")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["The service is stopping."])
    assert (await site.get("/live", "")).status_code == 200
    site.world.clock.advance(31)
    site.world.clock.advance(60)
    assert (await running).status_code in {200, 202}
    await draining


@pytest.mark.requirement("server:probes")
async def test_metrics_are_for_operators_and_for_this_machine_itself() -> None:
    site = await open_site(model=[answer("Hello.")])
    await site.ask()
    local = await site.get("/metrics", "")
    assert local.status_code == 200
    assert local.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'cattlegrid_runs_total{agent="support",status="completed"} 1' in local.text
    assert (await site.get("/metrics", "staff")).status_code == 200
    assert (await site.get("/metrics", "ana")).status_code == 403
    assert (await site.get("/metrics", "", X_Forwarded_For="192.0.2.7")).status_code == 401
    wire = site.open("GET", "/metrics", "")
    wire.scope["client"] = ("192.0.2.7", 40_000)
    async with wire:
        assert wire.status == 401


async def test_agents_and_their_versions_are_listed() -> None:
    site = await open_site()
    [agent] = (await site.get("/agents")).json()["items"]
    assert (agent["name"], agent["current"]["number"]) == ("support", 1)
    assert (await site.get("/agents/support/versions")).json()["items"] == [agent["current"]]
    assert (await site.get("/agents/nobody/versions")).status_code == 404


@pytest.mark.requirement("server:errors")
def test_every_error_of_the_tree_has_its_status_and_no_other_does() -> None:
    kinds = [
        kind
        for module in (errors, cattlegrid.core.tools)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, CattlegridError)
    ]
    assert {kind.code for kind in kinds} == set(STATUS)
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.requirement("server:errors")
@pytest.mark.parametrize("code", sorted(STATUS))
def test_no_refusal_shows_the_detail_of_its_error(code: str) -> None:
    kind = type("Kind", (CattlegridError,), {"code": code})
    error = kind("A sentence.", detail="secret detail")
    response = answer_error(error, "cor_1")
    body = bytes(response.body)
    assert b"secret" not in body
    assert (b"A sentence." in body) == (status_of(error) != 500)
    assert ("retry-after" in response.headers) == (response.status_code == 503)


def test_the_time_to_come_back_is_whole_seconds_and_at_least_one() -> None:
    assert [retry_after(given) for given in (None, 0.0, 0.2, 1.4, 59.7)] == ["1", "1", "1", "1", "60"]
