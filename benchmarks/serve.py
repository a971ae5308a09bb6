"""The time that Cattlegrid adds to a run over model calls of 200 ms, at 1 and at 50 runs at once, and its memory.

A real `cattlegrid serve` on SQLite, a scripted model in a process of its own that takes 200 ms for each answer, clients
in this process over loopback. A run is one question about an order: two model calls and one tool call. What is added is
the time of the whole request less two times 200 ms. Two plain calls of the model are timed as well, made by the same
clients: what they take above 400 ms is the instrument's, and shares the machine's cores with the server.

50 at once means that runs arrive at random moments (Poisson), as often as keeps 50 of them open if nothing is added.
50 clients that each wait for their answer before they ask again are reported too (`closed_...`): since every model call
takes exactly as long, such clients fall into step and then all wait for each other.

Goals: `added_p50_ms_1` and `added_p50_ms_50` <= 15, `rss_mb` <= 180.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.common import finish, machine, percentile, say
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.state import StateFolder

LATENCY_S = 0.2
MODEL_CALLS = 2
NOMINAL_MS = MODEL_CALLS * LATENCY_S * 1000
ALONE = 40
"""Runs one after the other."""
AT_ONCE = 50
OPEN_RUNS = 800
CLOSED_ROUNDS = 8
QUESTION = "Where is my order 17?"
WARM_UP = 5
READY_S = 30.0
GOALS = {"added_p50_ms_1": 15.0, "added_p50_ms_50": 15.0, "rss_mb": 180.0}


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    with tempfile.TemporaryDirectory() as folder, scripted_model(latency_s=LATENCY_S) as base_url:
        root = Path(folder) / "shop"
        write_scaffold(root, "shop")
        environ = environ_of(OPENAI_BASE_URL=base_url, OPENAI_API_KEY="unused")
        key = key_of(root, environ)
        with _server(root, environ) as (pid, url):
            result = asyncio.run(_measure(url, key, base_url))
            runs = WARM_UP + ALONE + OPEN_RUNS + AT_ONCE * CLOSED_ROUNDS
            result |= {"rss_mb": _rss_mb(pid), "server_cpu_ms_per_run": round(_cpu_s(pid) * 1000 / runs, 2)}
    missed = {name: result[name] for name, goal in GOALS.items() if result[name] > goal}
    say(f"serve: {'goals missed: ' + str(missed) if missed else 'all goals met'}")
    finish({**result, "machine": machine(), "goals_missed": sorted(missed)})


async def _measure(url: str, key: str, base_url: str) -> dict[str, float]:
    result: dict[str, float] = {}
    headers = {"Authorization": f"Bearer {key}"}
    # Kept for less time than the server keeps them, which closes idle ones after 5 s.
    connections = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
    async with aiohttp.ClientSession(headers=headers, connector=connections) as http:

        async def run() -> float:
            return await _run(http, url)

        async def plain() -> float:
            return await _plain_calls(http, base_url)

        for _ in range(WARM_UP):
            await run()
        _note(result, "1", await _clients(1, ALONE, run), await _clients(1, ALONE // 2, plain))
        _note(result, "50", await _arrivals(OPEN_RUNS, run), await _arrivals(OPEN_RUNS // 2, plain))
        closed = await _clients(AT_ONCE, CLOSED_ROUNDS, run)
        _note(result, "50", closed, await _clients(AT_ONCE, CLOSED_ROUNDS // 2, plain), prefix="closed_")
    return result


def _note(
    result: dict[str, float], at_once: str, took: list[float], plain: list[float], *, prefix: str = ""
) -> None:
    figures = {
        "added_p50_ms": statistics.median(took),
        "added_p99_ms": percentile(took, 0.99),
        "instrument_p50_ms": statistics.median(plain),
    }
    result |= {f"{prefix}{name}_{at_once}": round(ms - NOMINAL_MS, 2) for name, ms in figures.items()}
    shown = ", ".join(f"{name} {ms - NOMINAL_MS:.2f}" for name, ms in figures.items())
    say(f"{prefix}{at_once} at once, {len(took)} runs: {shown}")


async def _clients(count: int, rounds: int, one: Callable[[], Awaitable[float]]) -> list[float]:
    """Each client makes its requests one after the other; milliseconds of each."""

    async def client(number: int) -> list[float]:
        await asyncio.sleep(number * NOMINAL_MS / 1000 / count)
        return [await one() for _ in range(rounds)]

    return [took for times in await asyncio.gather(*map(client, range(count))) for took in times]


async def _arrivals(count: int, one: Callable[[], Awaitable[float]]) -> list[float]:
    """Requests that come at random moments, whether or not others are answered; milliseconds of each."""
    moments = random.Random(17)
    between_s = NOMINAL_MS / 1000 / AT_ONCE
    began_s, due_s = time.perf_counter(), 0.0
    under_way: list[asyncio.Task[float]] = []
    for _ in range(count):
        due_s += moments.expovariate(1 / between_s)
        await asyncio.sleep(max(0.0, began_s + due_s - time.perf_counter()))
        under_way.append(asyncio.ensure_future(one()))
    return list(await asyncio.gather(*under_way))


async def _run(http: aiohttp.ClientSession, url: str) -> float:
    began_s = time.perf_counter()
    async with http.post(f"{url}/runs", json={"agent": "shop", "input": QUESTION}) as answer:
        run = await answer.json()
    took_ms = (time.perf_counter() - began_s) * 1000
    if run.get("status") != "completed" or run.get("model_calls") != MODEL_CALLS:
        raise SystemExit(f"not the run that is measured: {run}")
    return took_ms


async def _plain_calls(http: aiohttp.ClientSession, base_url: str) -> float:
    body = {"model": "gpt-4.1-mini", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    began_s = time.perf_counter()
    for _ in range(MODEL_CALLS):
        async with http.post(f"{base_url}/chat/completions", json=body) as answer:
            await answer.read()
    return (time.perf_counter() - began_s) * 1000


@contextmanager
def scripted_model(*, latency_s: float) -> Generator[str]:
    """The base URL of a scripted model that takes its time."""
    command = [
        sys.executable,
        "-m",
        "cattlegrid.testing.scripted",
        "--port",
        "0",
        "--latency-s",
        str(latency_s),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as model:
        try:
            yield model.stdout.readline().split()[-1] if model.stdout is not None else ""
        finally:
            model.terminate()


def environ_of(**more: str) -> dict[str, str]:
    """The environment of a server, without what this shell says about Cattlegrid or models."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))
    }
    return {**kept, **more}


def key_of(root: Path, environ: dict[str, str]) -> str:
    """A new API key of one user."""
    command = [
        sys.executable,
        "-m",
        "cattlegrid.app.cli",
        "keys",
        "create",
        "--user",
        "you@example.com",
        "--json",
    ]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["key"])


@contextmanager
def _server(root: Path, environ: dict[str, str]) -> Generator[tuple[int, str]]:
    """Process id and URL of a server that takes runs."""
    command = [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", "0"]
    state = StateFolder(root / ".cattlegrid")
    with (
        (root / "server.log").open("wb") as log,
        subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=log) as server,
    ):
        try:
            deadline_s = time.perf_counter() + READY_S
            while (running := state.server()) is None:
                if server.poll() is not None or time.perf_counter() > deadline_s:
                    raise SystemExit((root / "server.log").read_text())
                time.sleep(0.05)
            yield server.pid, running.url
        finally:
            server.terminate()


def _rss_mb(pid: int) -> float:
    """The most memory that the process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
