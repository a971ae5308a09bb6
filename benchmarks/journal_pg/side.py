"""What every side's process does: waits until all are ready, and measures itself. Imports nothing of Cattlegrid."""

import sys
import time
from types import TracebackType
from typing import Self


def wait_for_start() -> None:
    """Say that this process is ready, and wait until it is told to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


class Meter:
    """CPU of this process, all threads, user and system, and when it worked, by the machine's clock."""

    def __enter__(self) -> Self:
        self._cpu_s, self._began_s = time.process_time(), time.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cpu_s, self._ended_s = time.process_time() - self._cpu_s, time.time()

    def figures(self, runs: int) -> dict[str, float]:
        """What was done."""
        return {"runs": runs, "cpu_s": self._cpu_s, "began_s": self._began_s, "ended_s": self._ended_s}
