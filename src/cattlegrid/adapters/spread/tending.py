"""What one process does for the jobs of all: puts rounds that are due, frees what the dead have left, forgets the old.

Everything goes by the server's clock, and any number of processes may do it at once: a round is put by whoever moves
its due time, and only while none of its name waits or runs; what is stalled is freed under a lock.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, LiteralString

from procrastinate import sql
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from psycopg import Error

from cattlegrid.adapters.ending import uninterrupted
from cattlegrid.adapters.handlers import ATTEMPTS, KEPT_S
from cattlegrid.adapters.postgres.connections import Connection, Connections, is_lost
from cattlegrid.adapters.spread.connector import Row, rows_of, transaction

ROUND: Final = "every/"
"""What the queues and tasks of rounds begin with."""
TASK: Final = "task/"
"""What those of tasks do."""

_ROUNDS: Final = """
INSERT INTO cattlegrid_jobs.rounds AS r (name, every_s, due)
SELECT name, every_s, now() FROM unnest(%(names)s::text[], %(intervals)s::float8[]) AS given (name, every_s)
ON CONFLICT (name) DO UPDATE SET every_s = excluded.every_s, due = least(r.due, now() + excluded.every_s * interval '1 s')
"""
_ANY_DUE: Final = (
    "SELECT 1 FROM cattlegrid_jobs.rounds WHERE name = ANY(%(names)s::text[]) AND due <= now() LIMIT 1"
)
_TAKE_DUE: Final = """
UPDATE cattlegrid_jobs.rounds AS r SET due = now() + every_s * interval '1 s'
WHERE name = ANY(%(names)s::text[]) AND due <= now() AND NOT EXISTS (
  SELECT FROM procrastinate_jobs AS j WHERE j.lock = %(prefix)s || r.name AND j.status IN ('todo', 'doing')
) RETURNING name
"""
_PUT_OFF: Final = (
    "UPDATE cattlegrid_jobs.rounds SET due = now() + every_s * interval '1 s' WHERE name = %(name)s"
)
_AT_ONCE: Final = "UPDATE cattlegrid_jobs.rounds SET due = now() WHERE name = %(name)s"
_ALONE: Final = "SELECT pg_try_advisory_xact_lock((-13705::bigint << 48) + 2) AS alone"
_STALLED: Final = """
SELECT j.id, j.task_name, j.attempts, j.args FROM procrastinate_jobs AS j
LEFT JOIN procrastinate_workers AS w ON w.id = j.worker_id
WHERE j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < now() - %(stalled_s)s * interval '1 s')
FOR UPDATE OF j
"""
_NEW: Final = """
INSERT INTO cattlegrid_jobs.tasks (name, key, batch)
SELECT name, key, batch FROM unnest(%(names)s::text[], %(keys)s::text[], %(batches)s::text[]) AS given (name, key, batch)
ORDER BY name, key ON CONFLICT DO NOTHING RETURNING name, key
"""
_END: Final = (
    "UPDATE cattlegrid_jobs.tasks SET state = %(state)s, ended_at = now() "
    "WHERE name = %(name)s AND key = %(key)s AND state = 'waiting'"
)
_STATE: Final = "SELECT state FROM cattlegrid_jobs.tasks WHERE name = %(name)s AND key = %(key)s"
_TALLY: Final = (
    "SELECT state, count(*) AS n FROM cattlegrid_jobs.tasks WHERE batch = %(batch)s GROUP BY state"
)
_ANALYZE: Final = ("ANALYZE procrastinate_jobs", "ANALYZE cattlegrid_jobs.tasks")
_FORGET: Final = "DELETE FROM cattlegrid_jobs.tasks WHERE ended_at < now() - %(kept_s)s * interval '1 s'"
_BULK: Final = 500
"""From so many new rows on, the planner is told."""


class Tending:
    """The statements about rounds and tasks, over connections that somebody else opens and closes.

    All raise procrastinate.exceptions.ConnectorException.
    """

    def __init__(self, connections: Connections, manager: JobManager) -> None:
        self._connections = connections
        self._manager = manager

    # rounds

    async def register(self, rounds: Mapping[str, float]) -> None:
        """Have rounds become due from now on; values are seconds."""
        await self._all(_ROUNDS, {"names": list(rounds), "intervals": list(rounds.values())})

    async def put_due(self, names: Sequence[str]) -> None:
        """Put a job for each round that is due."""
        if await self._all(_ANY_DUE, {"names": list(names)}):
            await uninterrupted(self._put_due(names))

    async def _put_due(self, names: Sequence[str]) -> None:
        async with transaction(self._connections) as connection:
            due = await rows_of(connection, _TAKE_DUE, {"names": list(names), "prefix": ROUND})
            if due:
                jobs = [_job(ROUND + row["name"], {}, lock=ROUND + row["name"]) for row in due]
                await self._manager.batch_defer_jobs_async(jobs, connection=connection)

    async def put_off(self, name: str) -> None:
        """A round has ended: the next one is due an interval later."""
        await self._all(_PUT_OFF, {"name": name})

    # tasks

    async def put(self, tasks: Sequence[tuple[str, str, str, Job]]) -> int:
        """Put tasks as (name, key, batch, job); how many are new."""
        new = await uninterrupted(self._put(tasks))
        if new >= _BULK:
            for statement in _ANALYZE:
                await self._all(statement, {})
        return new

    async def _put(self, tasks: Sequence[tuple[str, str, str, Job]]) -> int:
        async with transaction(self._connections) as connection:
            columns = {"names": [t[0] for t in tasks], "keys": [t[1] for t in tasks]}
            found = await rows_of(connection, _NEW, {**columns, "batches": [t[2] for t in tasks]})
            new = {(row["name"], row["key"]) for row in found}
            jobs = {(name, key): job for name, key, _, job in reversed(tasks) if (name, key) in new}
            if jobs:
                await self._manager.batch_defer_jobs_async([*reversed(jobs.values())], connection=connection)
        return len(new)

    async def end(self, name: str, key: str, *, failed: bool = False) -> None:
        """Keep how a task has ended."""
        await self._all(_END, {"name": name, "key": key, "state": "failed" if failed else "done"})

    async def state(self, name: str, key: str) -> str:
        """`waiting`, `done` or `failed`; empty when nobody knows."""
        rows = await self._all(_STATE, {"name": name, "key": key})
        return str(rows[0]["state"]) if rows else ""

    async def tally(self, batch: str) -> dict[str, int]:
        """How many tasks of a batch are in which state."""
        try:
            rows = await self._all(_TALLY, {"batch": batch})
        except ConnectorException as error:
            if not isinstance(error.__cause__, Error) or not is_lost(error.__cause__):
                raise
            rows = await self._all(_TALLY, {"batch": batch})  # a connection that broke, and changed nothing
        return {row["state"]: row["n"] for row in rows}

    # what is left behind

    async def reap(self, *, stalled_s: float) -> int:
        """Free the jobs of workers that have not been heard of for so long; how many."""
        return await uninterrupted(self._reap(stalled_s))

    async def _reap(self, stalled_s: float) -> int:
        async with transaction(self._connections) as connection:
            if not (await rows_of(connection, _ALONE, {}))[0]["alone"]:
                return 0
            stalled = await rows_of(connection, _STALLED, {"stalled_s": stalled_s})
            for row in stalled:
                await self._free(connection, row)
        return len(stalled)

    async def forget(self) -> None:
        """Delete what ended long ago."""
        await self._all(_FORGET, {"kept_s": KEPT_S})
        hours = round(KEPT_S / 3_600)
        await self._manager.delete_old_jobs(hours, include_failed=True, include_aborted=True)

    async def _free(self, connection: Connection, row: Row) -> None:
        """Let somebody else do a job: a round is due at once, a task waits again unless it has had its attempts."""
        name = str(row["task_name"])
        if name.startswith(ROUND):
            await rows_of(connection, _AT_ONCE, {"name": name.removeprefix(ROUND)})
            await self._finish(connection, row, delete=True)
        elif row["attempts"] + 1 < ATTEMPTS:
            again = {"new_priority": None, "new_queue_name": None, "new_lock": None}
            values = {"job_id": row["id"], "retry_at": datetime.fromtimestamp(0, UTC), **again}
            await rows_of(connection, sql.queries["retry_job"], values)
        else:
            ended = {"name": name.removeprefix(TASK), "key": row["args"]["key"], "state": "failed"}
            await rows_of(connection, _END, ended)
            await self._finish(connection, row, delete=False)

    async def _finish(self, connection: Connection, row: Row, *, delete: bool) -> None:
        values = {"job_id": row["id"], "status": "failed", "delete_job": delete}
        await rows_of(connection, sql.queries["finish_job"], values)

    async def _all(self, query: LiteralString, values: Row) -> list[Row]:
        return await self._manager.connector.execute_query_all_async(query, **values)


def task_job(name: str, *, key: str, payload: bytes, due: datetime | None) -> Job:
    """The job of a task; its payload travels as the text that it is."""
    return _job(TASK + name, {"key": key, "payload": payload.decode()}, due=due)


def _job(name: str, arguments: Row, *, due: datetime | None = None, lock: str | None = None) -> Job:
    """A job in a queue of its own name, so that only who knows the name takes it."""
    return Job(
        id=None,
        queue=name,
        lock=lock,
        queueing_lock=None,
        task_name=name,
        task_kwargs=arguments,
        scheduled_at=due,
    )
