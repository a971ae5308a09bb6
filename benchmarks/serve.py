"""The time that Cattlegrid adds to a run over model calls of 200 ms, at 1 and at 50 runs at once, and its memory.

A real `cattlegrid serve` on SQLite, a scripted model in a process of its own that takes 200 ms for each answer, clients
in this process over loopback. A run is one question about an order: two model calls and one tool call. What is added is
the time of the whole request less two times 200 ms. The same two model calls are made directly, too, since the
scripted model, the client and the loop of this process cost something as well; they share the machine's cores.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from cattlegrid.app.scaffold import write_scaffold

LATENCY_S = 0.2
MODEL_CALLS = 2
QUESTION = "Where is my order 17?"
WARM_UP = 5
READY_S = 20.0


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shop"
        write_scaffold(root, "shop")
        model = _scripted_model()
        try:
            base_url = model.stdout.readline().decode().strip() if model.stdout is not None else ""
            environ = _environ(OPENAI_BASE_URL=base_url, OPENAI_API_KEY="unused")
            key = _key(root, environ)
            server, url = _server(root, environ)
            try:
                result = asyncio.run(_measure(url, key, base_url))
                result["rss_mb"] = _rss_mb(server.pid)
                result["cpu_ms_per_run"] = round(_cpu_s(server.pid) * 1000 / result["runs"], 2)
            finally:
                server.terminate()
                server.wait(timeout=30)
        finally:
            model.terminate()
            model.wait(timeout=10)
    print(json.dumps(result))


async def _measure(url: str, key: str, base_url: str) -> dict[str, float]:
    result: dict[str, float] = {"latency_ms": LATENCY_S * 1000, "model_calls": MODEL_CALLS, "runs": 0}
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=200)) as http:
        for at_once, rounds in ((1, 30), (50, 8)):
            direct = await _load(at_once, rounds, lambda: _direct(http, base_url))
            result["runs"] += WARM_UP + at_once * rounds
            for _ in range(WARM_UP):
                await _run(http, url)
            times = await _load(at_once, rounds, lambda: _run(http, url))
            nominal_ms = MODEL_CALLS * LATENCY_S * 1000
            direct_ms = statistics.median(direct) * MODEL_CALLS
            quantiles = statistics.quantiles(times, n=100)
            result[f"added_p50_ms_{at_once}"] = round(statistics.median(times) - nominal_ms, 2)
            result[f"added_p99_ms_{at_once}"] = round(quantiles[98] - nominal_ms, 2)
            result[f"added_over_direct_p50_ms_{at_once}"] = round(statistics.median(times) - direct_ms, 2)
            print(f"{at_once} at once: run p50 {statistics.median(times):.1f} ms, direct calls {direct_ms:.1f} ms")
    return result


async def _load(at_once: int, rounds: int, one: "Callable[[], Awaitable[float]]") -> list[float]:
    """Each of `at_once` clients makes `rounds` requests in a row; milliseconds of each."""

    async def client(number: int) -> list[float]:
        # Clients do not start as one: real ones never do.
        await asyncio.sleep(number * LATENCY_S * MODEL_CALLS / at_once)
        return [await one() for _ in range(rounds)]

    return [took for times in await asyncio.gather(*map(client, range(at_once))) for took in times]


async def _run(http: aiohttp.ClientSession, url: str) -> float:
    began_s = time.perf_counter()
    async with http.post(f"{url}/runs", json={"agent": "shop", "input": QUESTION}) as answer:
        run = await answer.json()
    took_ms = (time.perf_counter() - began_s) * 1000
    if run.get("status") != "completed" or run.get("model_calls") != MODEL_CALLS:
        raise SystemExit(f"not the run that is measured: {run}")
    return took_ms


async def _direct(http: aiohttp.ClientSession, base_url: str) -> float:
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": QUESTION}]}
    began_s = time.perf_counter()
    async with http.post(f"{base_url}/chat/completions", json=body) as answer:
        await answer.read()
    return (time.perf_counter() - began_s) * 1000


def _scripted_model() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cattlegrid.testing.scripted", "--port", "0", "--latency", str(LATENCY_S)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CATTLEGRID_", "OPENAI_"))}
    return {**kept, **more}


def _key(root: Path, environ: dict[str, str]) -> str:
    command = [sys.executable, "-m", "cattlegrid.app.cli", "keys", "create", "--user", "you@example.com", "--json"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["key"])


def _server(root: Path, environ: dict[str, str]) -> "tuple[subprocess.Popen[bytes], str]":
    command = [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", "8799"]
    log = (root / "server.log").open("wb")
    server = subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=log)
    deadline_s = time.perf_counter() + READY_S
    while time.perf_counter() < deadline_s:
        done = subprocess.run(["curl", "-fsS", "http://127.0.0.1:8799/ready"], capture_output=True, check=False)
        if done.returncode == 0:
            return server, "http://127.0.0.1:8799"
        time.sleep(0.05)
    raise SystemExit((root / "server.log").read_text())


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
