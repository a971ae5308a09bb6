"""Tools that are late, hang or are cancelled: the caller goes on, and nobody else loses their place."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ToolTimeout
from cattlegrid.core.tools import NotExecuted
from tests.integration.tool_bench import KEY, Bench, refusal
from tests.integration.tool_gate import gate

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    yield found
    await found.client.close()


HANGING = '''
from tests.integration.tool_gate import gate

@tool(effect="write", retry="keyed")
def hang() -> str:
    """Hang until the test lets go."""
    gate.started.release()
    gate.open.wait(30)
    return "late"

@tool()
def quick() -> str:
    """Answer."""
    return "quick"

@tool()
async def hang_softly() -> str:
    """Hang, and end when cancelled."""
    try:
        await asyncio.sleep(60)
    finally:
        gate.cancelled.set()
    return "late"

@tool()
async def hang_hard() -> str:
    """Hang, and do not end when cancelled."""
    while not gate.open.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass
    return "late"
'''


async def come_back(bench: Bench) -> None:
    """Let all abandoned calls end."""
    gate.open.set()
    async with asyncio.timeout(10):
        await bench.threads.came_back()
    assert bench.threads.stuck == 0


@pytest.mark.requirement("fault:tool", "tools:threads")
async def test_a_tool_that_hangs_is_abandoned_and_keeps_nobody_elses_place(bench: Bench) -> None:
    gate.shut()
    bundle = await bench.bundle(HANGING)
    try:
        for count in (1, 2):
            await refusal(bench.call(bundle, "hang", timeout_s=0.05), ToolTimeout)
            assert bench.threads.stuck == count
        error = await refusal(bench.call(bundle, "hang"), NotExecuted)
        assert error.message == "The tool does not answer, so it was not called again."
        assert await bench.call(bundle, "quick") == "quick"
    finally:
        await come_back(bench)
    assert await bench.call(bundle, "hang") == "late"


@pytest.mark.parametrize("name", ["hang", "hang_hard"])
async def test_a_late_call_is_known_by_its_key_until_it_comes_back(bench: Bench, name: str) -> None:
    gate.shut()
    bundle = await bench.bundle(HANGING)
    try:
        await refusal(bench.call(bundle, name, timeout_s=0.05), ToolTimeout)
        assert not await bench.client.over(KEY, deadline=Deadline.after(bench.clock, 0.05))
        assert await bench.client.over("another", deadline=Deadline.after(bench.clock, 10))
        waiting = asyncio.ensure_future(bench.client.over(KEY, deadline=Deadline.after(bench.clock, 10)))
        gate.open.set()
        assert await waiting
    finally:
        await come_back(bench)


async def test_calls_beyond_the_room_wait_for_their_turn(bench: Bench) -> None:
    gate.shut()
    bundle = await bench.bundle(HANGING)
    calls = [asyncio.ensure_future(bench.call(bundle, "hang")) for _ in range(4)]
    for _ in calls:
        assert await asyncio.to_thread(gate.started.acquire, timeout=10)
    error = await refusal(bench.call(bundle, "quick", timeout_s=0.05), NotExecuted)
    assert error.message == "Too many tools run at once, so this one was not called."
    waiting = asyncio.ensure_future(bench.call(bundle, "quick"))
    gate.open.set()
    assert await asyncio.gather(*calls, waiting) == ["late"] * 4 + ["quick"]
    assert bench.threads.stuck == 0


async def test_a_cancelled_call_is_counted_until_it_comes_back(bench: Bench) -> None:
    gate.shut()
    bundle = await bench.bundle(HANGING)
    call = asyncio.ensure_future(bench.call(bundle, "hang"))
    assert await asyncio.to_thread(gate.started.acquire, timeout=10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.threads.stuck == 1
    await come_back(bench)


async def test_async_tools_are_cancelled_at_their_deadline(bench: Bench) -> None:
    gate.shut()
    bundle = await bench.bundle(HANGING)
    await refusal(bench.call(bundle, "hang_softly", timeout_s=0.05), ToolTimeout)
    assert await asyncio.to_thread(gate.cancelled.wait, 10)
    await refusal(bench.call(bundle, "hang_hard", timeout_s=0.05), ToolTimeout)
    assert bench.threads.stuck == 1
    await come_back(bench)
