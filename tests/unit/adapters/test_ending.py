"""A cancellation that is swallowed on its way still ends what it was meant for."""

import asyncio
import contextlib

import pytest

from cattlegrid.adapters.ending import uninterrupted, until_cancelled
from cattlegrid.adapters.jobs import InProcessRounds
from cattlegrid.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


class Deaf:
    """Loses cancellations, as `asyncio.wait_for` may."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.began = asyncio.Event()

    async def work(self) -> None:
        while True:
            try:
                self.began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.left -= 1
                if self.left < 0:
                    raise


@pytest.mark.requirement("jobs:stop")
async def test_work_that_loses_cancellations_is_ended() -> None:
    deaf = Deaf(1)
    task = asyncio.create_task(until_cancelled(deaf.work()))
    await deaf.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deaf.left == -1


@pytest.mark.requirement("jobs:stop")
async def test_rounds_that_lose_the_cancellation_are_the_last_ones() -> None:
    began = asyncio.Event()
    made: list[int] = []

    async def work() -> None:
        made.append(len(made))
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    rounds = InProcessRounds(ManualClock())
    rounds.every(0.5, "deaf", work)
    async with asyncio.timeout(10):
        async with rounds:
            await began.wait()
    assert made == [0]


@pytest.mark.requirement("jobs:stop")
async def test_who_is_cancelled_during_a_statement_hears_of_it_once_the_statement_has_ended() -> None:
    ended = asyncio.Event()
    may_end = asyncio.Event()

    async def statement() -> str:
        await may_end.wait()
        ended.set()
        return "done"

    task = asyncio.create_task(uninterrupted(statement()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.requirement("jobs:stop")
async def test_a_cancellation_in_the_turn_of_the_result_is_not_lost() -> None:
    result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def statement() -> str:
        return await result

    task = asyncio.create_task(uninterrupted(statement()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    result.set_result("done")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_errors_and_results_come_through() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def gives() -> int:
        return 7

    with pytest.raises(ValueError, match="no"):
        await uninterrupted(fails())
    with pytest.raises(ValueError, match="no"):
        await until_cancelled(fails())
    assert await uninterrupted(gives()) == 7
