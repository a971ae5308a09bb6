"""Jobs keep their contract in this process and in PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.jobs import InProcessJobs
from cattlegrid.adapters.spread.jobs import SpreadJobs, SpreadSettings
from cattlegrid.core.ports import Jobs
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.contracts.jobs import CONCURRENCY, JobsContract, JobsUnderTest
from tests.postgres import Cluster

pytestmark = pytest.mark.anyio


class InProcess:
    """By a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._jobs = InProcessJobs(self.clock, concurrency=CONCURRENCY)
        self.jobs: Jobs = self._jobs

    def now(self) -> datetime:
        return self.clock.now()

    def working(self) -> AbstractAsyncContextManager[object]:
        return self._jobs

    async def let_pass(self, seconds_s: float) -> None:
        await self._turn()
        self.clock.advance(seconds_s)
        await self._turn()

    async def until(self, happened: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1_000):
            await self._turn()
            if await happened():
                return
            self.clock.advance(self.clock.next_due_s or 0.0)
        raise AssertionError("it has not happened")

    async def _turn(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.mark.requirement("jobs:contract")
class TestJobsInThisProcess(JobsContract):
    @pytest.fixture
    def subject(self) -> JobsUnderTest:
        return InProcess()


class InPostgres:
    """By the server's clock, which is that of this machine."""

    def __init__(self, url: str) -> None:
        settings = SpreadSettings(concurrency=CONCURRENCY, poll_s=0.02, tend_s=0.02, retry_s=0.01)
        self._jobs = SpreadJobs(url, settings)
        self.jobs: Jobs = self._jobs
        self.close = self._jobs.close
        self._clock = SystemClock()

    def now(self) -> datetime:
        return self._clock.now()

    def working(self) -> AbstractAsyncContextManager[object]:
        return self._jobs

    async def let_pass(self, seconds_s: float) -> None:
        await asyncio.sleep(seconds_s)

    async def until(self, happened: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1_000):
            if await happened():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it has not happened")


@pytest.mark.requirement("jobs:contract")
class TestJobsInPostgres(JobsContract):
    @pytest.fixture
    async def subject(self, database: str) -> AsyncGenerator[JobsUnderTest]:
        subject = InPostgres(database)
        yield subject
        await subject.close()


@pytest.mark.requirement("jobs:contract", "jobs:pooler")
class TestJobsBehindAPooler(JobsContract):
    """Nothing is kept in a session, and nobody listens."""

    @pytest.fixture
    async def subject(self, postgres: Cluster, pooled: Path, database: str) -> AsyncGenerator[JobsUnderTest]:
        name = database.partition("@/")[2].partition("?")[0]
        subject = InPostgres(postgres.url(name, folder=pooled))
        yield subject
        await subject.close()
