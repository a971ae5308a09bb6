"""The manual clock moves only by hand; the system clock tells real time."""

import asyncio

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.testing.clock import START, ManualClock

pytestmark = pytest.mark.anyio


async def test_sleepers_wake_in_the_order_of_their_times_and_not_before() -> None:
    clock, woken = ManualClock(), list[str]()

    async def sleep(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        for name, delay_s in (("late", 3.0), ("early", 1.0), ("soon", 2.0)):
            group.create_task(sleep(name, delay_s))
        await clock.asleep(3)
        assert clock.next_due_s == 1.0
        clock.advance(0.5)
        await asyncio.sleep(0)
        assert woken == []
        clock.advance(1.5)
        await clock.sleep(0)
        assert woken == ["early", "soon"]
        clock.advance(1)
    assert woken == ["early", "soon", "late"]
    assert clock.next_due_s is None


async def test_a_sleeper_that_was_cancelled_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await clock.asleep()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_due_s is None
    clock.advance(2)


def test_wall_time_and_monotonic_time_move_together_and_never_back() -> None:
    clock = ManualClock()
    clock.advance(90)
    assert (clock.now() - START).total_seconds() == clock.monotonic_s() == 90
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


async def test_the_system_clock_is_aware_and_sleeps() -> None:
    clock = SystemClock()
    before_s = clock.monotonic_s()
    await clock.sleep(0.001)
    assert clock.monotonic_s() > before_s
    assert clock.now().utcoffset() is not None
