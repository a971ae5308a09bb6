"""A thread with its queue: whatever happens in it, no caller waits for ever."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from cattlegrid.adapters.sqlite.threads import Job, Worker
from cattlegrid.core.errors import StoreUnavailable
from tests.unit.adapters.sqlite.support import opened, raw

pytestmark = pytest.mark.anyio


async def test_an_error_that_nobody_foresaw_fails_its_jobs_and_the_thread_goes_on() -> None:
    def handle(jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.work == "break":
                raise ZeroDivisionError("unforeseen")
            job.result = job.work

    worker = Worker("test", handle)
    with pytest.raises(StoreUnavailable, match="unforeseen"):
        await worker.submit("break")
    assert await worker.submit("fine") == "fine"
    await worker.close()


async def test_what_gathers_while_the_thread_is_busy_is_taken_together() -> None:
    taken: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def handle(jobs: Sequence[Job]) -> None:
        taken.append(len(jobs))
        started.set()
        assert go_on.wait(10)

    worker = Worker("test", handle)
    first = worker.submit("first")
    await asyncio.get_running_loop().run_in_executor(None, started.wait, 10)
    rest = [worker.submit(number) for number in range(20)]
    go_on.set()
    await asyncio.gather(first, *rest)
    await worker.close()
    assert taken == [1, 20]


async def test_a_caller_that_went_away_disturbs_nobody() -> None:
    go_on = threading.Event()

    def handle(jobs: Sequence[Job]) -> None:
        assert go_on.wait(10)
        for job in jobs:
            job.result = job.work

    worker = Worker("test", handle)
    gone, here = worker.submit("gone"), worker.submit("here")
    gone.cancel()
    go_on.set()
    assert await here == "here"
    await worker.close()
    await worker.close()


async def test_a_query_that_the_database_cannot_answer_says_so_and_the_next_one_is_answered(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "journal.db") as store:
        with raw(tmp_path / "journal.db") as other:
            other.execute("DROP TABLE settings")
        with pytest.raises(StoreUnavailable, match="settings"):
            await store.setting("name")
        with pytest.raises(StoreUnavailable, match="settings"):
            await store.put_setting("name", "value")
        assert await store.rows("ses_1") == []
        assert (await store.acquire("ses_1", holder="me", lease_s=1)).epoch == 1
