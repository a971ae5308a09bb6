"""The server under uvicorn on a loopback port: real connections that stream, break off, send too much, or stop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpx2
import msgspec
import pytest

from cattlegrid.testing.models import Stall, answer, call
from tests.integration.serving import serving
from tests.unit.server.site import open_site, until

pytestmark = pytest.mark.anyio

RUN = {"agent": "support", "input": "Hi"}
EVENTS = {"Accept": "text/event-stream"}


async def events(response: httpx2.Response) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    async for event in httpx2.EventSource(response):
        yield event.event, msgspec.json.decode(event.data)


@pytest.mark.requirement("server:events")
async def test_a_run_streams_over_a_real_connection_and_resumes_after_it_broke() -> None:
    release = asyncio.Event()
    site = await open_site(
        model=[answer(calls=[call("find_order", order=1)]), answer("Found.")],
        functions={"find_order": lambda order: _when(release, order)},
    )
    headers = {**site.headers("ana"), **EVENTS}
    async with serving(site) as (http, _):
        run_id = ""
        async with http.stream("POST", "/runs", json=RUN, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            async with aclosing(events(response)) as told:
                async for type_, data in told:
                    run_id = data["run_id"]
                    if type_ == "step.started" and data["kind"] == "execute_tool":
                        break
        # The connection is gone; the run goes on.
        release.set()
        async with http.stream("GET", f"/runs/{run_id}/events", headers=site.headers("ana")) as response:
            last = [(type_, data) async for type_, data in events(response)][-1]
        assert (last[0], last[1]["output"]) == ("run.finished", "Found.")
        await until(lambda: not site.world.engine.open_streams)


@pytest.mark.requirement("input:size")
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_ten_megabytes_get_a_refusal_that_the_client_can_read(connection: str) -> None:
    site = await open_site()
    async with serving(site) as (http, _):
        body = b'{"agent":"support","input":"' + b"x" * 10_000_000 + b'"}'
        headers = {**site.headers("ana"), "Content-Type": "application/json", "Connection": connection}
        for _ in range(3):
            refused = await http.post("/runs", content=body, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert (await http.get("/live")).status_code == 200


@pytest.mark.requirement("input:size")
async def test_an_endless_body_is_cut_off() -> None:
    site = await open_site()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    async with serving(site) as (http, _):
        headers = {**site.headers("ana"), "Content-Type": "application/json"}
        async with asyncio.timeout(10):
            with contextlib.suppress(httpx2.TransportError):
                refused = await http.post("/runs", content=endless(), headers=headers)
                assert refused.status_code == 413
        assert sent < 50_000_000
        assert (await http.get("/live")).status_code == 200


async def test_a_server_that_stops_ends_the_stream_of_a_held_run_and_answers_those_who_wait() -> None:
    site = await open_site(model=[answer(calls=[call("refund", order=17, amount=79.9)])])
    headers: Mapping[str, str] = {**site.headers("ana"), **EVENTS}
    async with (
        serving(site) as (http, server),
        http.stream("POST", "/runs", json=RUN, headers=headers) as response,
    ):
        watching = events(response)
        async for type_, _ in watching:
            if type_ == "run.held":
                break
        await site.world.upkeep.drain(1)
        server.should_exit = True
        assert [type_ async for type_, _ in watching] == []


async def test_many_clients_that_hang_up_leave_nothing_behind() -> None:
    site = await open_site(model=lambda _: Stall())
    async with serving(site) as (http, _):
        headers = {**site.headers("ana"), **EVENTS}
        for _ in range(20):
            asked = http.stream("POST", "/runs", json=RUN, headers=headers)
            async with asked as response, aclosing(events(response)) as told:
                await anext(told)
        runs = (await http.get("/runs?limit=50", headers=site.headers("ana"))).json()["items"]
        for run in runs:
            await http.post(f"/runs/{run['id']}/cancel", headers=site.headers("ana"))
        await until(lambda: not site.world.engine.open_streams)
    left = [task for task in asyncio.all_tasks() if "_Watch" in repr(task) or "follow" in repr(task)]
    assert (len(runs), left) == (20, [])


async def _when(event: asyncio.Event, value: int) -> int:
    await event.wait()
    return value
