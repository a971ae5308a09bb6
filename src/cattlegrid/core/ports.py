"""The ports that several rooms need: time, work that runs again and again, and work that runs later."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final, Protocol, TypeVar

import msgspec

Payload = TypeVar("Payload", bound=msgspec.Struct)
PAYLOAD_BYTES: Final = 4_096
"""The most that the JSON of a task's payload may take: ids and numbers fit, texts belong into bodies."""


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


class Rounds(Protocol):
    """Work that is done again and again. Whose it is depends on the object: this process's, or the store's."""

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Have `work` done again and again, `interval_s` after it last ended; a failure is logged and tried again.

        To be called before the work begins.
        """
        ...


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done once by the handler of its name."""

    name: str
    key: str
    """Put again under the same name and key, it is still one task, also when it has been done already."""
    payload: msgspec.Struct
    """Frozen data that JSON can carry; at most `PAYLOAD_BYTES` of it."""
    due: datetime | None = None
    """Not before this time; at once when absent."""
    batch: str = ""
    """What `tally` counts together."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tasks of a batch are."""

    waiting: int = 0
    """Not begun, under way, or to be tried again."""
    done: int = 0
    failed: int = 0
    """Given up after the last attempt."""


class Jobs(Rounds, Protocol):
    """The work of one store, done by whichever process of it does such work.

    Rounds: by one process at a time. Tasks: at least once each, several at a time in each process, so handlers must be
    idempotent; one that raises is tried again a few times, later and later. `adapters.jobs` does it in this process
    alone, and its tasks end with the process: whoever puts one must put it again after a restart if it still matters,
    from what the journal says and under the same key. `adapters.spread` keeps it in PostgreSQL, for many processes.
    """

    def handle(
        self, name: str, payload: type[Payload], handler: Callable[[Payload], Awaitable[object]]
    ) -> None:
        """Say who does the tasks of a name. To be called before the work begins, in every process alike.

        Raises:
            ValueError: the name has a handler.
        """
        ...

    async def put(self, tasks: Iterable[Task]) -> int:
        """Have tasks done; how many of them are new.

        Raises:
            ValueError: the name of one has no handler, or its payload is not what the handler takes, or too large.
            StoreUnavailable: none of those that were to be stored last may have been.
        """
        ...

    async def tally(self, batch: str) -> Tally:
        """How far the tasks of a batch are. What ended more than a week ago is not counted.

        Raises:
            StoreUnavailable: no answer.
        """
        ...


class CrashPoints(Protocol):
    """Named places where a test may kill the process. The shipped implementation does nothing."""

    def reach(self, name: str) -> None:
        """Called when execution passes the place `name`."""
        ...
