"""The two ports that several rooms need: time, and work that runs later."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time as a value from outside; `adapters.clock.SystemClock` and `testing.clock.ManualClock` implement it."""

    def now(self) -> datetime:
        """Wall time, timezone-aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards, for durations and deadlines."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock."""
        ...


class Jobs(Protocol):
    """Periodic work: one implementation in process (`adapters.jobs`), one spread over machines."""

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run `work` again and again, `interval_s` after it last ended; a failure is logged and tried again."""
        ...


class CrashPoints(Protocol):
    """Named places where a test may kill the process. The shipped implementation does nothing."""

    def reach(self, name: str) -> None:
        """Called when execution passes the place `name`."""
        ...
