"""Periodic work inside this process: a `core.ports.Jobs` of one asyncio task for each kind of work."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

import structlog

from cattlegrid.core.errors import CattlegridError
from cattlegrid.core.ports import Clock

_log = structlog.get_logger("cattlegrid.jobs")


class InProcessJobs:
    """Runs registered work again and again while it is entered as a context."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._work: list[tuple[float, str, Callable[[], Awaitable[object]]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Register work; it begins when the jobs are started."""
        self._work.append((interval_s, name, work))

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._repeat(interval_s, name, work), name=f"job {name}")
            for interval_s, name, work in self._work
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        failing = False
        while True:
            try:
                await work()
                failing = False
            except Exception as error:  # noqa: BLE001 - the top of a worker: said once, then tried again
                if not failing:
                    code = error.code if isinstance(error, CattlegridError) else type(error).__name__
                    _log.warning("job_failed", job=name, error=code)
                failing = True
            await self._clock.sleep(interval_s)
