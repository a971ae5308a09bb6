"""A thread that does the work of one connection: jobs go in by a queue, results come back to the event loop together.

The thread takes everything that has gathered while it was busy, so that many callers share one transaction and the
loop is woken once for all of them. Neither side ever waits for the other's lock.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from cattlegrid.core.errors import StoreUnavailable

MAX_TOGETHER: Final = 512
"""How many jobs are taken at once, so that one transaction stays small."""


class Job:
    """One thing to do for a caller who holds `future`."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: object, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None


Handler = Callable[[Sequence[Job]], None]
"""Does jobs and sets `result` or `error` of each; it delivers none of them."""


class Worker:
    """One thread with its queue. Made and used on one event loop."""

    def __init__(self, name: str, handle: Handler) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ended = self._loop.create_future()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether no more work is taken."""
        return self._closing

    def submit(self, work: object) -> asyncio.Future[Any]:
        """Queue some work; the future has its result."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("The journal is closed."))
        else:
            self._queue.put(Job(work, future))
        return future

    async def close(self) -> None:
        """Do what is queued, then end the thread."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._gather()
            ended = jobs[-1] is None
            wanted = [job for job in jobs if job is not None]
            if wanted:
                try:
                    self._handle(wanted)
                except Exception as error:  # noqa: BLE001 - the top of a thread: no caller may wait for ever
                    for job in wanted:
                        job.error = job.error or _failed(error)
                self._call(lambda done=wanted: _deliver(done))
            if ended:
                self._call(lambda: self._ended.done() or self._ended.set_result(None))
                return

    def _gather(self) -> list[Job | None]:
        """Everything that is queued, at least one; what ends the thread comes last."""
        jobs = [self._queue.get()]
        while jobs[-1] is not None and len(jobs) < MAX_TOGETHER:
            try:
                jobs.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return jobs

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told


def _deliver(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


def _failed(error: Exception) -> StoreUnavailable:
    return StoreUnavailable("The journal could not do this.", detail=repr(error))
