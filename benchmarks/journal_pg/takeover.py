"""How long a run stands still when its process is killed: three servers on one database, one of them killed again and again.

Each time twelve runs are under way in a server, on a scripted model that takes four seconds for each answer. At a random
moment, so that leases are of any age, the server is killed (SIGKILL); for each run the time is taken until another one
has recorded that it goes on with it.
"""

import asyncio
import base64
import os
import random
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import psycopg

from benchmarks.common import percentile, say
from benchmarks.serve import environ_of, key_of, scripted_model
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.state import StateFolder

SERVERS = 3
RUNS = 12
LATENCY_S = 4.0
UNDER_WAY_S = (0.5, 7.0)
"""After how long the kill comes, at least and at most; a run makes two model calls."""
READY_S = 30.0
GIVE_UP_S = 60.0
_RESUMED = (
    "SELECT run_id, min(at_us) FROM cattlegrid.events "
    "WHERE type LIKE 'run_resumed.%%' AND run_id = ANY (%s) AND at_us > %s GROUP BY run_id"
)


class Replica:
    """One of the servers, started again after each kill."""

    def __init__(self, root: Path, number: int, environ: dict[str, str]) -> None:
        self._root = root
        self._state = root / f".replica-{number}"
        self._environ = {**environ, "CATTLEGRID_STATE": str(self._state)}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start, and wait until runs are taken."""
        command = [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", "0"]
        log = self._root / "server.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, cwd=self._root, env=self._environ, stdout=file, stderr=file
            )
        deadline_s = time.perf_counter() + READY_S
        while (running := StateFolder(self._state).server()) is None or running.pid != self._process.pid:
            if self._process.poll() is not None or time.perf_counter() > deadline_s:
                raise SystemExit(log.read_text()[-4_000:])
            time.sleep(0.05)
        self.url = running.url

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def measure(database: str, folder: Path, *, kills: int) -> dict[str, float]:
    """Figures over all runs of all kills."""
    root = folder / "shop"
    write_scaffold(root, "shop")
    with scripted_model(latency_s=LATENCY_S) as base_url:
        environ = environ_of(
            DATABASE_URL=database,
            CATTLEGRID_MASTER_KEY=base64.b64encode(os.urandom(32)).decode(),
            OPENAI_BASE_URL=base_url,
            OPENAI_API_KEY="unused",
        )
        with _replicas(root, environ) as replicas:
            key = key_of(root, environ)
            took_s = asyncio.run(_kill_each(replicas, key, database, kills))
    say(
        f"take-over after {kills} kills, {len(took_s)} runs: p50 {percentile(took_s, 0.5):.2f} s, "
        f"p95 {percentile(took_s, 0.95):.2f} s"
    )
    return {
        "takeover_p50_s": round(percentile(took_s, 0.5), 2),
        "takeover_p95_s": round(percentile(took_s, 0.95), 2),
        "takeovers": len(took_s),
    }


@contextmanager
def _replicas(root: Path, environ: dict[str, str]) -> Generator[list[Replica]]:
    with ExitStack() as stack:
        replicas = [Replica(root, number, environ) for number in range(SERVERS)]
        for replica in replicas:
            stack.callback(replica.kill)
            replica.start()
        yield replicas


async def _kill_each(replicas: Sequence[Replica], key: str, database: str, kills: int) -> list[float]:
    took_s: list[float] = []
    moments = random.Random(17)
    for turn in range(kills):
        victim = replicas[turn % len(replicas)]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
            runs = await asyncio.gather(*(_begin(http, victim.url) for _ in range(RUNS)))
        await asyncio.sleep(moments.uniform(*UNDER_WAY_S))
        victim.kill()
        killed_us = time.time_ns() // 1_000
        resumed = await _resumed(database, runs, killed_us)
        took_s += [(at_us - killed_us) / 1_000_000 for at_us in resumed]
        victim.start()
    return took_s


async def _begin(http: aiohttp.ClientSession, url: str) -> str:
    body = {"agent": "shop", "input": "Where is my order 17?"}
    async with http.post(f"{url}/runs", json=body, headers={"Prefer": "respond-async"}) as answer:
        run = await answer.json()
    if answer.status != 202:
        raise SystemExit(f"not a run under way: {run}")
    return str(run["id"])


async def _resumed(database: str, runs: Sequence[str], killed_us: int) -> list[int]:
    """When each run was gone on with."""
    deadline_s = time.perf_counter() + GIVE_UP_S
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        while True:
            found = await (await connection.execute(_RESUMED, (list(runs), killed_us))).fetchall()
            if len(found) == len(runs):
                return [row[1] for row in found]
            if time.perf_counter() > deadline_s:
                raise SystemExit(f"only {len(found)} of {len(runs)} runs were gone on with")
            await asyncio.sleep(0.05)
