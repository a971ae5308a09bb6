"""Jobs in PostgreSQL when workers die, stall, stop and lose their connections: real processes, real signals."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cattlegrid.adapters.databases import Place, examine, upgrade
from cattlegrid.adapters.spread.jobs import SpreadJobs
from cattlegrid.core.errors import ConfigurationError, StoreUnavailable
from cattlegrid.core.ports import Tally, Task
from tests.integration.jobs_child import SETTINGS, TABLES, Payment, Till
from tests.postgres import Cluster

pytestmark = pytest.mark.anyio
CHILD = Path(__file__).with_name("jobs_child.py")


class Desk:
    """The database as the test sees it, and the workers that it has started."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.children: list[subprocess.Popen[str]] = []
        for table in TABLES:
            self.ask(table)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def child(self, who: str, how: str = "works", *, until: str = "ready") -> "subprocess.Popen[str]":
        """A worker in a process of its own, once it has said so."""
        child = subprocess.Popen(
            [sys.executable, str(CHILD), self.url, who, how], stdout=subprocess.PIPE, text=True
        )
        self.children.append(child)
        assert child.stdout is not None
        while (line := child.stdout.readline().strip()) != until:
            assert line, "the worker has ended"
        return child

    def effects(self) -> dict[str, int]:
        """How many of each effect, whatever their keys."""
        return dict(self.ask("SELECT what, count(*) FROM effects GROUP BY what"))

    def notes(self, what: str) -> list[str]:
        """Who has noted it, in the order of time."""
        return [row[0] for row in self.ask(f"SELECT who FROM notes WHERE what = '{what}' ORDER BY n")]


@pytest.fixture
def desk(database: str) -> Generator[Desk]:
    desk = Desk(database)
    yield desk
    for child in desk.children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@asynccontextmanager
async def worker(desk: Desk, who: str) -> AsyncGenerator[Till]:
    """A worker in this process."""
    till = Till(desk.url, who)
    async with till.jobs:
        yield till
    await till.jobs.close()


@pytest.fixture
async def clerk(desk: Desk) -> AsyncGenerator[Till]:
    """Somebody who puts tasks and does none."""
    till = Till(desk.url, "clerk")
    yield till
    await till.jobs.close()


async def until(happened: Callable[[], bool], *, within_s: float = 15.0) -> None:
    deadline_s = time.perf_counter() + within_s
    while not happened():
        assert time.perf_counter() < deadline_s, "it has not happened"
        await asyncio.sleep(0.02)


async def ended(jobs: SpreadJobs, count: int, *, within_s: float = 15.0) -> Tally:
    """The tally once so many tasks have ended."""
    deadline_s = time.perf_counter() + within_s
    while True:
        tally = await jobs.tally("batch")
        if tally.done + tally.failed == count:
            return tally
        assert time.perf_counter() < deadline_s, tally
        await asyncio.sleep(0.02)


def payments(count: int) -> list[Task]:
    return [
        Task(name="pay", key=str(number), payload=Payment(str(number)), batch="batch")
        for number in range(count)
    ]


@pytest.mark.requirement("jobs:killed")
async def test_a_job_whose_worker_was_killed_is_done_by_another_with_the_effects_of_one(
    desk: Desk, clerk: Till
) -> None:
    await clerk.jobs.put(payments(1))
    dead = desk.child("dead", "blocks:pay", until="blocked")
    assert desk.effects() == {"debit": 1}
    dead.kill()
    dead.wait()
    killed_s = time.perf_counter()
    async with worker(desk, "other"):
        tally = await ended(clerk.jobs, 1)
    assert time.perf_counter() - killed_s < SETTINGS.stalled_s + 10 * SETTINGS.tend_s + 2.0
    assert tally == Tally(done=1)
    assert desk.effects() == {"debit": 1, "credit": 1}
    assert desk.notes("pay") == ["dead", "other"]
    assert desk.ask("SELECT 1 FROM cattlegrid_jobs.procrastinate_jobs WHERE task_name = 'task/pay'") == []


@pytest.mark.requirement("jobs:killed")
async def test_a_stalled_job_is_freed_once_however_many_look_for_such(desk: Desk, clerk: Till) -> None:
    await clerk.jobs.put(payments(1))
    dead = desk.child("dead", "blocks:pay", until="blocked")
    dead.kill()
    dead.wait()
    async with worker(desk, "b"), worker(desk, "c"), worker(desk, "d"):
        await ended(clerk.jobs, 1)
        rounds = len(desk.notes("end"))
        await until(lambda: len(desk.notes("end")) >= rounds + 3)
    assert len(desk.notes("pay")) == 2
    assert desk.effects() == {"debit": 1, "credit": 1}


@pytest.mark.requirement("jobs:killed")
async def test_a_worker_that_wakes_after_it_was_given_up_doubles_nothing(desk: Desk, clerk: Till) -> None:
    await clerk.jobs.put(payments(1))
    zombie = desk.child("zombie", "blocks:pay", until="blocked")
    zombie.send_signal(signal.SIGSTOP)
    async with worker(desk, "other"):
        assert await ended(clerk.jobs, 1) == Tally(done=1)
        zombie.send_signal(signal.SIGCONT)
        zombie_made = len([who for who in desk.notes("end") if who == "zombie"])
        # It goes on: its job is another's by now, but it can do others.
        await until(lambda: len([who for who in desk.notes("end") if who == "zombie"]) > zombie_made)
        assert await clerk.jobs.put(payments(5)) == 4
        assert await ended(clerk.jobs, 5) == Tally(done=5)
    assert desk.effects() == {"debit": 5, "credit": 5}


@pytest.mark.requirement("jobs:killed")
async def test_a_task_that_kills_its_workers_is_given_up(desk: Desk, clerk: Till) -> None:
    await clerk.jobs.put(payments(1))
    for number in range(5):
        child = desk.child(f"victim {number}", "dies:pay")
        await asyncio.to_thread(child.wait, 20)
        assert child.returncode == -signal.SIGKILL
    async with worker(desk, "other"):
        assert await ended(clerk.jobs, 1) == Tally(failed=1)
    assert desk.notes("pay") == [f"victim {number}" for number in range(5)]
    assert desk.effects() == {"debit": 1}


@pytest.mark.requirement("jobs:one-round")
async def test_two_workers_never_make_the_same_round(desk: Desk) -> None:
    async with worker(desk, "a"), worker(desk, "b"):
        await until(lambda: len(desk.notes("end")) >= 6)
    rows = desk.ask(
        "SELECT what, extract(epoch FROM at)::float FROM notes WHERE what IN ('begin', 'end') ORDER BY n"
    )
    assert [row[0] for row in rows[:12]] == ["begin", "end"] * 6
    pauses_s = [later[1] - earlier[1] for earlier, later in zip(rows[1:11:2], rows[2:12:2], strict=True)]
    assert min(pauses_s) >= 0.29


@pytest.mark.requirement("jobs:one-round")
async def test_rounds_go_on_when_the_worker_that_makes_one_is_killed(desk: Desk) -> None:
    dead = desk.child("dead", "blocks:round", until="blocked")
    async with worker(desk, "other"):
        dead.kill()
        dead.wait()
        killed_s = time.perf_counter()
        await until(lambda: "other" in desk.notes("end"))
        assert time.perf_counter() - killed_s < SETTINGS.stalled_s + 10 * SETTINGS.tend_s + 2.0
        await until(lambda: desk.notes("end").count("other") >= 3)
    assert desk.notes("begin")[0] == "dead"


@pytest.mark.requirement("jobs:one-round")
async def test_rounds_go_on_when_a_worker_leaves(desk: Desk) -> None:
    leaving = desk.child("leaving")
    await until(lambda: "leaving" in desk.notes("end"))
    async with worker(desk, "other"):
        leaving.terminate()
        await asyncio.to_thread(leaving.wait, 10)
        made = len(desk.notes("end"))
        left_s = time.perf_counter()
        await until(lambda: len(desk.notes("end")) > made)
        assert time.perf_counter() - left_s < SETTINGS.stalled_s
    assert leaving.returncode == 0


@pytest.mark.requirement("jobs:stop")
async def test_what_a_stopped_worker_has_not_ended_is_done_by_another_at_once(
    desk: Desk, clerk: Till
) -> None:
    await clerk.jobs.put(payments(1))
    stopped = desk.child("stopped", "blocks:pay", until="blocked")
    stopped.terminate()
    assert await asyncio.to_thread(stopped.wait, 10) == 0
    left_s = time.perf_counter()
    async with worker(desk, "other"):
        assert await ended(clerk.jobs, 1) == Tally(done=1)
    assert time.perf_counter() - left_s < SETTINGS.stalled_s
    assert desk.notes("pay") == ["stopped", "other"]
    assert desk.effects() == {"debit": 1, "credit": 1}


@pytest.mark.requirement("jobs:spread")
async def test_a_batch_is_spread_over_workers(desk: Desk, clerk: Till) -> None:
    async with worker(desk, "a"), worker(desk, "b"), worker(desk, "c"):
        assert await clerk.jobs.put(payments(60)) == 60
        assert await ended(clerk.jobs, 60) == Tally(done=60)
    assert desk.effects() == {"debit": 60, "credit": 60}
    assert len(desk.notes("pay")) == 60
    assert set(desk.notes("pay")) == {"a", "b", "c"}


@pytest.mark.requirement("jobs:spread")
async def test_thousands_are_put_at_once_and_keep_their_keys(desk: Desk, clerk: Till) -> None:
    assert await clerk.jobs.put(payments(2_000)) == 2_000
    assert await clerk.jobs.put(payments(2_001)) == 1
    assert await clerk.jobs.tally("batch") == Tally(waiting=2_001)
    analyzed = "SELECT count(*) FROM pg_stats WHERE schemaname = 'cattlegrid_jobs' AND tablename = 'tasks'"
    assert desk.ask(analyzed)[0][0] > 0


@pytest.mark.requirement("jobs:outage")
async def test_workers_outlive_the_loss_of_every_connection(desk: Desk, clerk: Till) -> None:
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with worker(desk, "a"):
        await clerk.jobs.put(payments(20))
        await until(lambda: bool(desk.notes("pay")))
        desk.ask(others)
        assert await ended(clerk.jobs, 20, within_s=30) == Tally(done=20)
        rounds = len(desk.notes("end"))
        await until(lambda: len(desk.notes("end")) > rounds)
    assert desk.effects() == {"debit": 20, "credit": 20}


@pytest.mark.requirement("jobs:outage")
async def test_a_job_whose_end_could_not_be_kept_is_settled_and_not_done_again(
    desk: Desk, clerk: Till
) -> None:
    finish = "cattlegrid_jobs.procrastinate_finish_job_v1(bigint, cattlegrid_jobs.procrastinate_job_status, boolean)"
    left = "SELECT status::text FROM cattlegrid_jobs.procrastinate_jobs WHERE task_name = 'task/pay'"
    await clerk.jobs.put(payments(1))
    desk.ask(f"ALTER FUNCTION {finish} RENAME TO away")
    async with worker(desk, "a"):
        await ended(clerk.jobs, 1)
        desk.ask(
            f"ALTER FUNCTION {finish.replace('procrastinate_finish_job_v1', 'away')} RENAME TO procrastinate_finish_job_v1"
        )
        await until(lambda: desk.ask(left) == [])
        rounds = len(desk.notes("end"))
        await until(lambda: len(desk.notes("end")) > rounds)
    assert await clerk.jobs.tally("batch") == Tally(done=1)
    assert desk.notes("pay") == ["a"]


@pytest.mark.requirement("jobs:outage")
async def test_a_database_that_does_not_answer_is_said_in_one_sentence(tmp_path: Path) -> None:
    jobs = SpreadJobs(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(StoreUnavailable, match="PostgreSQL does not answer"):
        await jobs.tally("batch")
    await jobs.close()


@pytest.mark.requirement("jobs:schema")
async def test_two_that_begin_at_once_make_the_tables_once(desk: Desk) -> None:
    async with worker(desk, "a"), worker(desk, "b"):
        await until(lambda: bool(desk.notes("end")))
    assert desk.ask("SELECT count(*) FROM cattlegrid_jobs.made_of WHERE file = 'cattlegrid.1.sql'") == [(1,)]
    nowhere_else = "SELECT count(*) FROM pg_class WHERE relname LIKE 'procrastinate%' AND relnamespace <> 'cattlegrid_jobs'::regnamespace"
    assert desk.ask(nowhere_else) == [(0,)]


@pytest.mark.requirement("jobs:schema")
async def test_older_tables_are_refused_until_they_are_brought_up_to_date(
    desk: Desk, clerk: Till, tmp_path: Path
) -> None:
    place = Place(url=desk.url, folder=tmp_path)
    assert await _finding(place) == (True, "the first server makes their tables")
    await clerk.jobs.put(payments(1))
    desk.ask("DROP TABLE cattlegrid_jobs.rounds, cattlegrid_jobs.tasks")
    desk.ask("DELETE FROM cattlegrid_jobs.made_of WHERE file = 'cattlegrid.1.sql'")
    later = Till(desk.url, "later")
    with pytest.raises(ConfigurationError, match="cattlegrid db upgrade"):
        await later.jobs.put(payments(1))
    assert await _finding(place) == (False, "older than this program: run `cattlegrid db upgrade`")
    await upgrade(place)
    assert await _finding(place) == (True, "as this program needs them")
    assert await later.jobs.put(payments(1)) == 1
    await later.jobs.close()


async def _finding(place: Place) -> tuple[bool, str]:
    """What `db check` says of the jobs."""
    (found,) = (one for one in await examine(place) if one.name == "jobs")
    return found.ok, found.said


@pytest.mark.requirement("jobs:schema")
async def test_a_user_who_may_not_make_the_tables_is_told_what_to_grant(
    desk: Desk, postgres: Cluster
) -> None:
    name = desk.url.partition("@/")[2].partition("?")[0]
    role = f"reader_{os.getpid()}"
    postgres.run(f"CREATE ROLE {role} LOGIN")
    try:
        jobs = SpreadJobs(postgres.url(name, user=role))
        with pytest.raises(ConfigurationError, match="GRANT CREATE ON DATABASE"):
            await jobs.tally("batch")
        await jobs.close()
    finally:
        postgres.run(f"DROP ROLE {role}")
