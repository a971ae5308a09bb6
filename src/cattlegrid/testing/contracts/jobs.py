"""The contract of `core.ports.Jobs`: rounds, timers and batches, wherever they are done.

class TestMine(JobsContract): ...   # with a fixture `subject` that is a `JobsUnderTest`
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from cattlegrid.core.ports import PAYLOAD_BYTES, Jobs, Tally, Task

CONCURRENCY: Final = 4
_SOON_S: Final = 0.5


class JobsUnderTest(Protocol):
    """Jobs of which `CONCURRENCY` tasks may be under way at once, and the time that they go by."""

    jobs: Jobs

    def now(self) -> datetime:
        """The time by which tasks are due."""
        ...

    def working(self) -> AbstractAsyncContextManager[object]:
        """Somebody does the work for as long as the block. May be entered once."""
        ...

    async def let_pass(self, seconds_s: float) -> None:
        """Let time pass."""
        ...

    async def until(self, happened: Callable[[], Awaitable[bool]]) -> None:
        """Let time pass until something has happened; fails when it does not in many times the longest pause."""
        ...


class Order(msgspec.Struct, frozen=True):
    """The payload of the contract's tasks."""

    number: int
    note: str = ""
    share: float = 0.0


class _Shop:
    """A handler that counts, and sees how many of it are under way."""

    def __init__(self, subject: JobsUnderTest, *, fails: int = 0, lasts_s: float = 0.0) -> None:
        self.subject = subject
        self.seen: list[Order] = []
        self.times: list[datetime] = []
        self.fails = fails
        self.most = 0
        self._lasts_s = lasts_s
        self._at_once = 0

    async def handle(self, order: Order) -> None:
        self._at_once += 1
        self.most = max(self.most, self._at_once)
        try:
            self.seen.append(order)
            self.times.append(self.subject.now())
            if self._lasts_s:
                await self.subject.let_pass(self._lasts_s)
            if len(self.seen) <= self.fails:
                raise RuntimeError("not yet")
        finally:
            self._at_once -= 1

    async def ended(self, *, batch: str, count: int) -> None:
        async def all_ended() -> bool:
            tally = await self.subject.jobs.tally(batch)
            return tally.done + tally.failed == count

        await self.subject.until(all_ended)


def _order(number: int, *, key: str = "", due: datetime | None = None, note: str = "") -> Task:
    return Task(
        name="order",
        key=key or str(number),
        payload=Order(number, note, number / 3),
        due=due,
        batch="batch",
    )


class JobsContract:
    """Every promise of the port."""

    async def test_a_task_reaches_its_handler_with_its_payload(self, subject: JobsUnderTest) -> None:
        shop = _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        task = _order(2**53 + 1, note='text "quoted" 🐄 \\ % {}')
        assert await subject.jobs.put([task]) == 1
        assert await subject.jobs.tally("batch") == Tally(waiting=1)
        async with subject.working():
            await shop.ended(batch="batch", count=1)
        assert shop.seen == [task.payload]
        assert await subject.jobs.tally("batch") == Tally(done=1)

    async def test_a_task_is_done_once_however_often_it_is_put(self, subject: JobsUnderTest) -> None:
        shop = _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        assert await subject.jobs.put([_order(1), _order(2, key="1"), _order(3)]) == 2
        assert await subject.jobs.put([_order(1)]) == 0
        async with subject.working():
            await shop.ended(batch="batch", count=2)
            assert await subject.jobs.put([_order(1), _order(4)]) == 1
            await shop.ended(batch="batch", count=3)
        assert Counter(order.number for order in shop.seen) == {1: 1, 3: 1, 4: 1}

    async def test_the_same_key_under_another_name_is_another_task(self, subject: JobsUnderTest) -> None:
        shop, other = _Shop(subject), _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        subject.jobs.handle("return", Order, other.handle)
        tasks = [_order(1), msgspec.structs.replace(_order(1), name="return")]
        assert await subject.jobs.put(tasks) == 2
        async with subject.working():
            await shop.ended(batch="batch", count=2)
        assert len(shop.seen) == len(other.seen) == 1

    async def test_a_timer_waits_for_its_time(self, subject: JobsUnderTest) -> None:
        shop = _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        due = subject.now() + timedelta(seconds=2 * _SOON_S)
        async with subject.working():
            await subject.jobs.put([_order(1, due=due), _order(2, due=subject.now() - timedelta(days=1))])
            await subject.let_pass(_SOON_S)
            assert (await subject.jobs.tally("batch")).waiting >= 1
            await shop.ended(batch="batch", count=2)
        assert [order.number for order in shop.seen] == [2, 1]
        assert shop.times[1] >= due

    async def test_a_batch_is_done_by_a_bounded_number_at_once_and_counted(
        self, subject: JobsUnderTest
    ) -> None:
        shop = _Shop(subject, lasts_s=0.02)
        subject.jobs.handle("order", Order, shop.handle)
        assert await subject.jobs.put(_order(number) for number in range(40)) == 40
        async with subject.working():
            await shop.ended(batch="batch", count=40)
        assert sorted(order.number for order in shop.seen) == list(range(40))
        assert 1 < shop.most <= CONCURRENCY
        assert await subject.jobs.tally("batch") == Tally(done=40)
        assert await subject.jobs.tally("another") == Tally()

    async def test_a_task_that_fails_is_tried_again(self, subject: JobsUnderTest) -> None:
        shop = _Shop(subject, fails=2)
        subject.jobs.handle("order", Order, shop.handle)
        await subject.jobs.put([_order(1)])
        async with subject.working():
            await shop.ended(batch="batch", count=1)
        assert await subject.jobs.tally("batch") == Tally(done=1)
        assert len(shop.seen) == 3

    async def test_a_task_that_always_fails_is_given_up_and_holds_up_nobody(
        self, subject: JobsUnderTest
    ) -> None:
        never, shop = _Shop(subject, fails=1_000), _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        subject.jobs.handle("never", Order, never.handle)
        hopeless = [msgspec.structs.replace(_order(number), name="never") for number in range(CONCURRENCY)]
        await subject.jobs.put([*hopeless, _order(1)])
        async with subject.working():
            await shop.ended(batch="batch", count=CONCURRENCY + 1)
        assert await subject.jobs.tally("batch") == Tally(done=1, failed=CONCURRENCY)
        assert set(Counter(order.number for order in never.seen).values()) == {5}

    async def test_what_nobody_can_do_is_refused(self, subject: JobsUnderTest) -> None:
        shop = _Shop(subject)
        subject.jobs.handle("order", Order, shop.handle)
        other = Task(name="order", key="1", payload=Tally())
        huge = _order(1, note="x" * PAYLOAD_BYTES)
        for refused in (msgspec.structs.replace(_order(1), name="unknown"), other, huge):
            assert await _raises_value_error(subject.jobs, [_order(9), refused])
        assert await subject.jobs.tally("batch") == Tally()
        try:
            subject.jobs.handle("order", Order, shop.handle)
        except ValueError:
            return
        raise AssertionError("a second handler was taken")

    async def test_rounds_go_on_for_as_long_as_somebody_works(self, subject: JobsUnderTest) -> None:
        made: Counter[str] = Counter()

        async def fine() -> None:
            made["fine"] += 1

        async def failing() -> None:
            made["failing"] += 1
            raise RuntimeError("not this time")

        subject.jobs.every(0.1, "fine", fine)
        subject.jobs.every(0.1, "failing", failing)

        async def thrice() -> bool:
            return min(made["fine"], made["failing"]) >= 3

        async with subject.working():
            await subject.until(thrice)
        after = made.copy()
        await subject.let_pass(_SOON_S)
        assert made == after

    async def test_no_number_of_tasks_keeps_a_round_waiting(self, subject: JobsUnderTest) -> None:
        made: list[int] = []
        may_end = asyncio.Event()

        async def work() -> None:
            made.append(len(made))

        async def slow(_: Order) -> None:
            await may_end.wait()

        subject.jobs.every(0.1, "quick", work)
        subject.jobs.handle("order", Order, slow)
        await subject.jobs.put(_order(number) for number in range(2 * CONCURRENCY))
        before = 0

        async def thrice_more() -> bool:
            return len(made) >= before + 3

        async with subject.working():
            await subject.until(thrice_more)
            before = len(made)
            await subject.until(thrice_more)
            assert await subject.jobs.tally("batch") == Tally(waiting=2 * CONCURRENCY)
            may_end.set()

    async def test_a_round_begins_an_interval_after_the_last_one_has_ended(
        self, subject: JobsUnderTest
    ) -> None:
        began: list[datetime] = []
        ended: list[datetime] = []

        async def work() -> None:
            began.append(subject.now())
            await subject.let_pass(0.2)
            ended.append(subject.now())

        subject.jobs.every(0.3, "slow", work)

        async def thrice() -> bool:
            return len(ended) >= 3

        async with subject.working():
            await subject.until(thrice)
        pauses = [later - earlier for earlier, later in zip(ended, began[1:], strict=False)]
        assert pauses
        assert min(pauses) >= timedelta(seconds=0.29)


async def _raises_value_error(jobs: Jobs, tasks: list[Task]) -> bool:
    try:
        await jobs.put(tasks)
    except ValueError:
        return True
    return False
