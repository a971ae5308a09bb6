"""How long starting takes: importing the core, printing help, and `cattlegrid serve` until it takes runs.

Each is a process of its own, started several times; medians are reported. The first start of a project, which makes its
store and its keys, is not counted. Goals: `import_s` <= 0.2, `help_cpu_s` <= 0.4, `ready_s` <= 2.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from benchmarks.common import finish, machine, say
from cattlegrid.app.background import stop
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.state import StateFolder

TIMES = 7
READY_WITHIN_S = 30.0
IMPORT = """
import time
began_s = time.perf_counter()
from cattlegrid.core import bundle, errors, ids, messages, money, ports, tools
print(time.perf_counter() - began_s)
"""
GOALS = {"import_s": 0.2, "help_cpu_s": 0.4, "ready_s": 2.0}


def import_s() -> float:
    """Wall time of importing the core in a new process, Python's own start left out."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def help_cpu_s() -> float:
    """CPU time of a whole process that prints the help."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "cattlegrid.app.cli", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def ready_s(root: Path) -> float:
    """Wall time from the start of a server until it says that it takes runs."""
    state = StateFolder(root / ".cattlegrid")
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))
    }
    began_s = time.perf_counter()
    with (root / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "cattlegrid.app.cli", "serve", "--port", "0"],
            cwd=root,
            env=environ,
            stdout=log,
            stderr=log,
        )
    try:
        while not _is_ready(state):
            if server.poll() is not None or time.perf_counter() - began_s > READY_WITHIN_S:
                raise SystemExit(f"the server did not start:\n{(root / 'serve.log').read_text()}")
            time.sleep(0.01)
        return time.perf_counter() - began_s
    finally:
        stop(state)
        server.wait(READY_WITHIN_S)


def _is_ready(state: StateFolder) -> bool:
    found = state.server()
    return found is not None and httpx2.get(f"{found.url}/ready", trust_env=False).status_code == 200


def median(name: str, measure: Callable[[], float], times: int) -> float:
    """The median of several measurements, told as it is found."""
    values = [measure() for _ in range(times)]
    found = statistics.median(values)
    say(
        f"{name:<12} {found:.3f} s   (goal {GOALS[name]:g} s; {min(values):.3f} to {max(values):.3f}, {times} times)"
    )
    return round(found, 3)


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES, help="how often each is started")
    times: int = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shop"
        write_scaffold(root, "shop")
        ready_s(root)
        result = {
            "import_s": median("import_s", import_s, times),
            "help_cpu_s": median("help_cpu_s", help_cpu_s, times),
            "ready_s": median("ready_s", lambda: ready_s(root), times),
        }
    finish({**result, **machine()})


if __name__ == "__main__":
    main()
