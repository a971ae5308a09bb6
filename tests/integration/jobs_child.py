"""A worker to be killed, stopped and woken: does jobs of a database and notes in it what it does.

python jobs_child.py URL HOW    with HOW one of `blocks`, `dies`, `works`; says `ready` and then whatever it begins

The task `pay` has two effects, each idempotent as an effect of a task must be; in between it blocks or dies when told
to. The round `round` blocks too. `notes` in the database has one row for each time that something began or ended.
"""

import asyncio
import os
import signal
import sys

import msgspec
import psycopg

from cattlegrid.adapters.spread.jobs import SpreadJobs, SpreadSettings

SETTINGS = SpreadSettings(
    concurrency=2, poll_s=0.02, heartbeat_s=0.1, stalled_s=1.0, stop_s=0.2, tend_s=0.05, retry_s=0.01
)
TABLES = (
    "CREATE TABLE IF NOT EXISTS effects (what text, key text, PRIMARY KEY (what, key))",
    "CREATE TABLE IF NOT EXISTS notes (n serial, who text, what text, at timestamptz DEFAULT clock_timestamp())",
)


class Payment(msgspec.Struct, frozen=True):
    """What to pay."""

    key: str


def say(word: str) -> None:
    """Tell the test."""
    os.write(1, f"{word}\n".encode())


class Till:
    """The handlers."""

    def __init__(self, url: str, who: str, how: str = "works") -> None:
        self.jobs = SpreadJobs(url, SETTINGS)
        self.woken = asyncio.Event()
        self._url = url
        self._who = who
        self._how = how
        self.jobs.handle("pay", Payment, self.pay)
        self.jobs.every(0.3, "round", self.round)

    async def pay(self, payment: Payment) -> None:
        await self.note("pay")
        await self._run("INSERT INTO effects VALUES ('debit', %s) ON CONFLICT DO NOTHING", payment.key)
        await self._meet("pay")
        await self._run("INSERT INTO effects VALUES ('credit', %s) ON CONFLICT DO NOTHING", payment.key)

    async def round(self) -> None:
        await self.note("begin")
        await self._meet("round")
        await self.note("end")

    async def note(self, what: str) -> None:
        await self._run("INSERT INTO notes (who, what) VALUES (%s, %s)", self._who, what)

    async def _meet(self, place: str) -> None:
        if self._how == f"dies:{place}":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == f"blocks:{place}":
            say("blocked")
            await self.woken.wait()

    async def _run(self, statement: str, *values: str) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            await connection.execute(statement.encode(), values)


async def main(url: str, who: str, how: str) -> None:
    """Work until SIGTERM; SIGCONT wakes what blocks."""
    till = Till(url, who, how)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGCONT, till.woken.set)
    async with till.jobs:
        say("ready")
        await stop.wait()
    await till.jobs.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
