"""Idempotency keys: the same key gives the same run, whenever and wherever it comes again."""

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import IdempotencyMismatch, SessionEnded
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import NotExecuted
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import Accepted, OnBusy, RunRequest
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, BO, World
from tests.unit.runtime.support import (
    Build,
    CrashAt,
    Crashed,
    Disk,
    Door,
    bundle,
    check,
    data_of,
    disk,
    entries,
    idle,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("server:idempotency")]


async def again(
    world: World, session_id: str, text: str, key: str, on_busy: OnBusy = OnBusy.QUEUE
) -> Accepted:
    return await world.engine.submit(
        session_id, ANA, RunRequest(text=text, idempotency_key=key, on_busy=on_busy)
    )


async def test_the_same_key_on_a_new_session_gives_the_same_run_before_and_after_its_end(
    build: Build,
) -> None:
    world = build(bundle(), [answer("Hello.")])
    first = await start(world, "Hi", key="k1")
    second = await start(world, "Hi", key="k1")
    run = await world.finished(first)
    third = await start(world, "Hi", key="k1")
    assert {(one.session_id, one.run_id) for one in (first, second, third)} == {(run.session_id, run.id)}
    assert [first.joined, second.joined, third.joined] == [False, True, True]
    assert (await world.finished(third)).output == "Hello."
    assert len(world.model.requests) == 1
    assert len(await entries(world, "session")) == 1


@pytest.mark.requirement("input:mismatch")
async def test_the_same_key_with_another_request_is_refused(build: Build) -> None:
    world = build(bundle(), [answer("Hello."), Stall(), answer("Queued.")])
    first = await start(world, "Hi", key="k1")
    with pytest.raises(IdempotencyMismatch):
        await start(world, "Ho", key="k1")
    await world.finished(first)
    with pytest.raises(IdempotencyMismatch):
        await start(world, "Ho", key="k1")
    opened = await again(world, first.session_id, "Second", "k2")
    queued = await again(world, first.session_id, "Third", "k3")
    for key, text in (("k2", "Other"), ("k3", "Other"), ("k2", "Third")):
        with pytest.raises(IdempotencyMismatch):
            await again(world, first.session_id, text, key)
    await world.engine.cancel(opened.run_id, ANA)
    assert (await world.finished(queued)).output == "Queued."


async def test_keys_are_apart_for_users_tenants_routes_agents_and_sessions(build: Build) -> None:
    world = build(bundle(), lambda request: answer("Hello."))
    request = RunRequest(text="Hi", idempotency_key="k1")
    accepted = [
        await world.engine.start("support", ANA, request),
        await world.engine.start("support", BO, request),
        await world.engine.start("support", replace(ANA, tenant="other"), request),
        await world.engine.start("support", ANA, replace(request, route="another")),
    ]
    for one in accepted[:1]:
        await world.finished(one)
        accepted.append(await again(world, one.session_id, "Hi", "k1"))
    assert len({one.run_id for one in accepted}) == 5
    assert not any(one.joined for one in accepted)


async def test_many_requests_with_one_key_at_the_same_moment_open_one_session(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    accepted = await asyncio.gather(*(start(world, "Hi", key="k1") for _ in range(10)))
    assert len({(one.session_id, one.run_id) for one in accepted}) == 1
    assert Counter(one.joined for one in accepted) == {True: 9, False: 1}
    assert (await world.finished(accepted[0])).output == "Hello."
    assert len(world.model.requests) == 1
    assert len(await entries(world, "session")) == 1
    await world.upkeep.renew_leases()
    assert set(world.engine.runners) == {accepted[0].session_id}


@pytest.mark.parametrize("busy", [False, True])
async def test_many_requests_with_one_key_at_the_same_moment_make_one_run_in_a_session(
    build: Build, *, busy: bool
) -> None:
    world = build(bundle(), [Stall(), answer("Hello.")] if busy else [answer("Hello.")])
    session_id = await world.engine.open_session("support", ANA)
    open_run = await again(world, session_id, "First", "k0") if busy else None
    accepted = await asyncio.gather(*(again(world, session_id, "Hi", "k1") for _ in range(10)))
    assert len({one.run_id for one in accepted}) == 1
    assert Counter(one.joined for one in accepted) == {True: 9, False: 1}
    if open_run is not None:
        await world.engine.cancel(open_run.run_id, ANA)
    assert (await world.finished(accepted[0])).output == "Hello."
    started = [d for d in await data_of(world, session_id) if isinstance(d, ev.RunStarted)]
    assert len(started) == 1 + busy


async def test_a_request_whose_like_ended_while_it_was_being_placed_gets_that_run() -> None:
    """The slow one passes the first look for its key, and meets the other's run only when it would begin."""
    slow = SlowTools()
    world = World(bundle(), model=[answer("Hello."), answer("Again.")], tools=slow)
    session_id = await world.engine.open_session("support", ANA)
    late = asyncio.ensure_future(again(world, session_id, "Hi", "k1"))
    await slow.door.reached.wait()
    slow.fast = True
    first = await again(world, session_id, "Hi", "k1")
    assert (await world.finished(first)).output == "Hello."
    slow.door.open()
    assert (await late).run_id == first.run_id
    more = await again(world, session_id, "More", "k2")
    assert (await world.finished(more)).output == "Again."
    await check(world)


class SlowTools:
    """A `ToolClient` whose snapshot waits at a door until it is fast."""

    def __init__(self) -> None:
        self.door = Door()
        self.fast = False

    async def call(self, request: ToolRequest, *, deadline: Deadline) -> str:
        raise NotExecuted("There are no tools.")

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        return True

    async def snapshot(self, bundle: Bundle) -> str:
        if not self.fast:
            await self.door.enter()
        return ""

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_key_is_known_after_a_restart(build: Build) -> None:
    world = build(bundle(), [answer("Hello."), answer("Second.")])
    first = await start(world, "Hi", key="k1")
    await world.finished(first)
    second = await again(world, first.session_id, "More", "k2")
    await world.finished(second)
    await world.crash()
    world.restart()
    assert (await start(world, "Hi", key="k1")).run_id == first.run_id
    assert (await again(world, first.session_id, "More", "k2")).run_id == second.run_id
    assert len(world.model.requests) == 2


async def test_a_key_whose_request_waits_is_known_after_a_restart(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("First."), answer("Second.")])
    first = await start(world, "First")
    second = await again(world, first.session_id, "Second", "k2")
    await world.crash()
    world.restart()
    retried = await again(world, first.session_id, "Second", "k2")
    assert (retried.run_id, retried.joined) == (second.run_id, True)
    await world.recover()
    assert (await world.finished(second)).output == "Second."


@pytest.mark.requirement("fault:crash-points")
async def test_a_client_that_was_not_told_repeats_its_request_and_finds_its_run(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")], crash=CrashAt("run_started"))
    with pytest.raises(Crashed):
        await start(world, "Hi", key="k1")
    await world.crash()
    await world.recover()
    retried = await start(world, "Hi", key="k1")
    assert retried.joined
    assert (await world.finished(retried)).output == "Hello."
    assert len(await entries(world, "run")) == 1


@pytest.mark.parametrize("writes", [0, 1])
async def test_a_request_that_was_never_durable_is_made_by_its_repetition(build: Build, writes: int) -> None:
    world = build(bundle(), [answer("Hello."), answer("Hello.")])
    stopped: Disk = disk(world)
    stopped.writes_left = writes
    client = asyncio.ensure_future(start(world, "Hi", key="k1"))
    await idle()
    await world.crash()
    client.cancel()
    stopped.writes_left = None
    await world.recover()
    retried = await start(world, "Hi", key="k1")
    assert retried.joined is bool(writes)
    assert (await world.finished(retried)).output == "Hello."
    assert len(await entries(world, "run")) == 1


async def test_a_known_key_is_answered_even_when_the_session_has_ended(build: Build) -> None:
    world = build(bundle(), [answer("Hello."), answer("More.")])
    run = await world.finished(await start(world, "Hi"))
    more = await again(world, run.session_id, "More", "k1")
    await world.finished(more)
    await world.engine.close_session(run.session_id, ANA)
    await world.settled()
    assert (await again(world, run.session_id, "More", "k1")).run_id == more.run_id
    with pytest.raises(SessionEnded):
        await again(world, run.session_id, "More", "k2")


async def test_a_known_key_is_answered_whatever_the_client_wants_of_a_busy_session(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Second.")])
    first = await start(world, "First")
    second = await again(world, first.session_id, "Second", "k2")
    for on_busy in OnBusy:
        assert (await again(world, first.session_id, "Second", "k2", on_busy)).run_id == second.run_id
    await world.engine.cancel(first.run_id, ANA)
    assert (await world.finished(second)).output == "Second."
