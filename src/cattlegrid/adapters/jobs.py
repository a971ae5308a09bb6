"""Work inside this process: rounds and tasks as asyncio tasks, gone when the process is.

`InProcessRounds` are what every process does for itself. `InProcessJobs` are the work of a store that only this process
serves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final, Self

import msgspec
import structlog

from cattlegrid.adapters.handlers import ATTEMPTS, KEPT_S, Handlers, code_of, pause_s
from cattlegrid.core.ports import Clock, Payload, Tally, Task

_log = structlog.get_logger("cattlegrid.jobs")


class InProcessRounds:
    """Does registered work again and again while it is entered as a context."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._work: list[tuple[float, str, Callable[[], Awaitable[object]]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Register work; it begins when the context is entered."""
        self._work.append((interval_s, name, work))

    async def __aenter__(self) -> Self:
        self._ending = False
        self._tasks = [
            asyncio.create_task(self._repeat(interval_s, Round(name, work)), name=f"round {name}")
            for interval_s, name, work in self._work
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True  # a cancellation may get lost in what a round waits for: see `adapters.ending`
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, interval_s: float, round_: "Round") -> None:
        while not self._ending:
            await round_.make()
            await self._clock.sleep(0 if self._ending else interval_s)


class Round:
    """One kind of work; says once that it fails, until it has succeeded again."""

    def __init__(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        self.name: Final = name
        self._work = work
        self._failing = False

    async def make(self) -> None:
        """Do it once."""
        try:
            await self._work()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - the top of a worker: said once, then tried again
            if not self._failing:
                _log.warning("job_failed", job=self.name, error=code_of(error))
            self._failing = True


class _Record(msgspec.Struct):
    """What is known of a task; `ended_s` by the clock's monotonic time."""

    task: Task
    payload: bytes
    ended_s: float | None = None
    failed: bool = False


class InProcessJobs:
    """A `core.ports.Jobs` of this process. Tasks begin once it is entered as a context."""

    def __init__(self, clock: Clock, *, concurrency: int = 8, retry_s: float = 1.0) -> None:
        """Nothing runs yet.

        Args:
            clock: when tasks are due, and rounds.
            concurrency: how many tasks may be under way at once.
            retry_s: how long to wait after the first failure of a task; four times as long after each further one.
        """
        self._clock = clock
        self._rounds = InProcessRounds(clock)
        self._handlers = Handlers()
        self._records: dict[tuple[str, str], _Record] = {}
        self._free = asyncio.Semaphore(concurrency)
        self._retry_s = retry_s
        self._running: set[asyncio.Task[None]] | None = None

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        self._rounds.every(interval_s, name, work)

    def handle(
        self, name: str, payload: type[Payload], handler: Callable[[Payload], Awaitable[object]]
    ) -> None:
        self._handlers.add(name, payload, handler)

    async def put(self, tasks: Iterable[Task]) -> int:
        self._forget()
        count = 0
        for record in [_Record(task, self._handlers.encode(task)) for task in tasks]:
            place = (record.task.name, record.task.key)
            if place not in self._records:
                self._records[place] = record
                self._start(record)
                count += 1
        return count

    async def tally(self, batch: str) -> Tally:
        self._forget()
        records = [record for record in self._records.values() if record.task.batch == batch]
        failed = sum(record.failed for record in records)
        waiting = sum(record.ended_s is None for record in records)
        return Tally(waiting=waiting, done=len(records) - waiting - failed, failed=failed)

    async def close(self) -> None:
        """Nothing to do."""

    async def __aenter__(self) -> Self:
        self._running = set()
        for record in self._records.values():
            self._start(record)
        await self._rounds.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rounds.__aexit__()
        running, self._running = self._running or set(), None
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, record: _Record) -> None:
        if self._running is not None and record.ended_s is None:
            task = asyncio.create_task(self._do(record), name=f"task {record.task.name}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _do(self, record: _Record) -> None:
        await self._until(record.task.due)
        for attempt in range(1, ATTEMPTS + 1):
            async with self._free:
                if await self._handlers.call(record.task.name, record.payload, attempt=attempt):
                    break
            if attempt < ATTEMPTS:
                await self._clock.sleep(pause_s(attempt, first_s=self._retry_s))
        else:
            record.failed = True
        record.ended_s = self._clock.monotonic_s()

    async def _until(self, due: datetime | None) -> None:
        while due is not None and (wait_s := (due - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(wait_s)

    def _forget(self) -> None:
        """Drop what ended long ago."""
        oldest_s = self._clock.monotonic_s() - KEPT_S
        gone = [
            place
            for place, record in self._records.items()
            if record.ended_s is not None and record.ended_s < oldest_s
        ]
        for place in gone:
            del self._records[place]
