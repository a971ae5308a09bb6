"""A clock that stands still until a test moves it: `advance` sets the time and wakes the sleepers that are due."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A `core.ports.Clock` for tests. `now` and `monotonic_s` move together, by `advance` only."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._passed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._lain_down = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic_s(self) -> float:
        return self._passed_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed_s + delay_s, next(self._order), woken))
        self._lain_down.set()
        await woken

    def advance(self, seconds_s: float) -> None:
        """Let time pass; sleepers that are due wake in the order of their times, once the loop runs again.

        Raises:
            ValueError: time does not run backwards.
        """
        if seconds_s < 0:
            raise ValueError(f"time does not run backwards: {seconds_s}")
        self._passed_s += seconds_s
        while self._sleepers and self._sleepers[0][0] <= self._passed_s:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the first sleeper wakes; None when nobody sleeps."""
        due = [at_s for at_s, _, woken in self._sleepers if not woken.done()]
        return min(due) - self._passed_s if due else None

    async def asleep(self, count: int = 1) -> None:
        """Return once `count` sleepers wait; for tests that must not advance too early."""
        while sum(not woken.done() for _, _, woken in self._sleepers) < count:
            self._lain_down.clear()
            await self._lain_down.wait()
