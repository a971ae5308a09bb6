"""Turns rounds and tasks into jobs of procrastinate, and does them together with other processes of the database.

    jobs = SpreadJobs(url)
    jobs.every(...), jobs.handle(...)    the same in every process
    await jobs.put(...)                  from any process, whether it works or not
    async with jobs: ...                 this process works

procrastinate takes each job once, notices which workers have gone quiet, and tries again what has failed. It has nobody
who frees the jobs of a dead worker: `tending.py` does, after `stalled_s`. A worker that only seemed dead may then finish
what another one has begun again, which is why handlers must be idempotent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Self

import msgspec
import structlog
from procrastinate import App, JobContext
from procrastinate.exceptions import ProcrastinateException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from cattlegrid.adapters.handlers import ATTEMPTS, Handlers, code_of, pause_s
from cattlegrid.adapters.jobs import Round
from cattlegrid.adapters.postgres.connections import Connections
from cattlegrid.adapters.spread import schema
from cattlegrid.adapters.spread.connector import StoreConnector
from cattlegrid.adapters.spread.tending import ROUND, TASK, Tending, task_job
from cattlegrid.core.errors import CattlegridError, StoreUnavailable
from cattlegrid.core.ports import Payload, Tally, Task

_log = structlog.get_logger("cattlegrid.jobs")
_CHUNK: Final = 500
_CONNECTIONS: Final = 3
_AGAIN_S: Final = 1.0
_FORGET_EVERY_S: Final = 3_600.0


class SpreadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How processes work together; the same in all of them."""

    concurrency: int = 8
    """How many tasks one process does at once; rounds come on top."""
    poll_s: float = 0.2
    """How often each process looks for tasks; most are heard of sooner."""
    heartbeat_s: float = 2.0
    stalled_s: float = 60.0
    """Who has not been heard of for so long is dead. Longer than a graceful stop."""
    stop_s: float = 20.0
    """How long jobs may go on after the stop; what is left is done by others."""
    tend_s: float = 1.0
    """How often to look for rounds that are due, and ten times as seldom for the dead."""
    retry_s: float = 1.0
    """How long to wait after the first failure of a task; four times as long after each further one."""


class _Crew(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of procrastinate in this process."""

    name: str
    queues: tuple[str, ...]
    concurrency: int
    poll_s: float
    listens: bool = False


class SpreadJobs:
    """A `core.ports.Jobs` in PostgreSQL."""

    def __init__(self, url: str, settings: SpreadSettings | None = None) -> None:
        """Nothing is connected until there is something to do.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        # It writes of each job with all its arguments.
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL + 1)
        self._settings = settings or SpreadSettings()
        self._connections = Connections(url, size=_CONNECTIONS)
        self._connector = StoreConnector(self._connections)
        self._app = App(connector=self._connector)
        self._tending = Tending(self._connections, self._app.job_manager)
        self._handlers = Handlers()
        self._intervals: dict[str, float] = {}
        self._opening = asyncio.Lock()
        self._opened = False
        self._at_work: tuple[asyncio.Task[None], ...] = ()

    def every(self, interval_s: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        round_ = Round(name, work)

        async def do(_: JobContext) -> None:
            await round_.make()
            await self._tending.put_off(name)

        self._intervals[name] = interval_s
        self._app.task(name=ROUND + name, queue=ROUND + name, pass_context=True)(do)

    def handle(
        self, name: str, payload: type[Payload], handler: Callable[[Payload], Awaitable[object]]
    ) -> None:
        self._handlers.add(name, payload, handler)

        async def do(context: JobContext, *, key: str, payload: str) -> None:
            await self._do(context.job, name, key, payload.encode())

        retry = _Again(self._settings.retry_s)
        self._app.task(name=TASK + name, queue=TASK + name, pass_context=True, retry=retry)(do)

    async def put(self, tasks: Iterable[Task]) -> int:
        encoded = [(task, self._handlers.encode(task)) for task in tasks]
        rows = [
            (
                task.name,
                task.key,
                task.batch,
                task_job(task.name, key=task.key, payload=payload, due=task.due),
            )
            for task, payload in encoded
        ]
        await self._ready()
        try:
            return sum(
                [await self._tending.put(rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)]
            )
        except ProcrastinateException as error:
            raise _unavailable(error) from error

    async def tally(self, batch: str) -> Tally:
        await self._ready()
        try:
            return Tally(**await self._tending.tally(batch))
        except ProcrastinateException as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        await self._ready()
        await self._tending.register(self._intervals)
        self._at_work = (
            *(asyncio.create_task(self._work(crew), name=crew.name) for crew in self._crews()),
            asyncio.create_task(self._tend(), name="tending of jobs"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._at_work:
            task.cancel()
        if self._at_work:
            await asyncio.wait(self._at_work)

    async def _ready(self) -> None:
        async with self._opening:
            if not self._opened:
                await self._connections.open()
                await schema.ensure(self._connections)
                self._opened = True

    async def _work(self, crew: "_Crew") -> None:
        """Be a worker until cancelled, and another one whenever the database has broken it off."""
        failing = False
        while True:
            try:
                await self._be_worker(crew)
                failing = False
            except Exception as error:  # noqa: BLE001 - the top of a worker: said once, then tried again
                if not failing:
                    _log.warning("job_failed", job=crew.name, error=code_of(error))
                failing = True
            await asyncio.sleep(_AGAIN_S)

    async def _be_worker(self, crew: "_Crew") -> None:
        """Be one worker until cancelled, or until nobody knows how one of its jobs is kept in the database.

        What it has left in doubt is freed like the jobs of the dead, because the next worker is another one.
        """
        settings = self._settings
        broken = asyncio.create_task(self._connector.broken.wait())
        worker = asyncio.create_task(
            self._app.run_worker_async(
                name=crew.name,
                queues=list(crew.queues),
                concurrency=crew.concurrency,
                fetch_job_polling_interval=crew.poll_s,
                listen_notify=crew.listens,
                shutdown_graceful_timeout=settings.stop_s,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=settings.heartbeat_s,
                stalled_worker_timeout=settings.stalled_s,
            )
        )
        try:
            await asyncio.wait({worker, broken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            broken.cancel()
            worker.cancel()  # it lets its jobs end
            await asyncio.wait({worker, broken})
        if not worker.cancelled():
            worker.result()

    def _crews(self) -> list["_Crew"]:
        """Who does rounds, and who does tasks: apart, so that no number of tasks keeps a round waiting."""
        settings = self._settings
        rounds = _Crew(
            name="rounds",
            queues=tuple(ROUND + name for name in self._intervals),
            concurrency=max(1, len(self._intervals)),
            poll_s=settings.tend_s,
        )
        tasks = _Crew(
            name="tasks",
            queues=tuple(TASK + name for name in self._handlers.names),
            concurrency=settings.concurrency,
            poll_s=settings.poll_s,
            listens=not self._connections.facts.pooled,
        )
        return [crew for crew in (rounds, tasks) if crew.queues]

    async def _tend(self) -> None:
        settings = self._settings
        names = tuple(self._intervals)
        chores = (
            (settings.tend_s, Round("due", lambda: self._tending.put_due(names))),
            (settings.tend_s * 10, Round("reaper", lambda: self._tending.reap(stalled_s=settings.stalled_s))),
            (_FORGET_EVERY_S, Round("forget", self._tending.forget)),
        )
        async with asyncio.TaskGroup() as group:
            for interval_s, chore in chores:
                group.create_task(_repeat(interval_s, chore))

    async def _do(self, job: Job, name: str, key: str, payload: bytes) -> None:
        """Do a task, unless somebody has who died before he could say so."""
        if job.attempts and await self._tending.state(name, key) != "waiting":
            return
        attempt = job.attempts + 1
        if await self._handlers.call(name, payload, attempt=attempt):
            await self._tending.end(name, key)
            return
        if attempt >= ATTEMPTS:
            await self._tending.end(name, key, failed=True)
        raise _Failed


class _Failed(Exception):
    """A handler has not done its task; it has been logged."""


class _Again(BaseRetryStrategy):
    """Tries again later and later; at once what was broken off by a stop."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision()
        attempt = job.attempts + 1
        if attempt >= ATTEMPTS:
            return None
        wait_s = pause_s(attempt, first_s=self._first_s)
        return RetryDecision(retry_in={"milliseconds": round(1_000 * wait_s)})


async def _repeat(interval_s: float, chore: Round) -> None:
    while True:
        await chore.make()
        await asyncio.sleep(interval_s)


def _unavailable(error: ProcrastinateException) -> CattlegridError:
    return StoreUnavailable("The jobs' store is not available.", detail=str(error))
