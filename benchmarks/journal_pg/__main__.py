"""Measures the journal in PostgreSQL with 1 and 3 processes, beside LangGraph's checkpointer and DBOS workflows.

Each side runs in processes of its own that begin together, in rounds that take turns, and the median counts. CPU is that
of these processes and of the server, all threads, user and system. LangGraph and DBOS have environments of their own,
installed from lock files with hashes into `.make/`. The last line is one JSON object; its plain keys are those of 3
processes with 100 sessions each.

    cpu_ms_per_run                 ours, with the server's
    ratio_cpu_langgraph_to_ours    LangGraph's checkpointer alone, without its graph, by ours
    ratio_cpu_graph_to_ours        with its graph
    ratio_cpu_dbos_to_ours         a DBOS workflow of five steps by ours
    takeover_p95_s                 from the kill of a server until another goes on with its runs; see `takeover.py`
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import environment, fdatasync_p50_ms, finish, machine, say, texts
from benchmarks.journal.load import STEP_BYTES
from benchmarks.journal_pg.server import Server, running
from benchmarks.journal_pg.takeover import measure

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SESSIONS = 100
ROUNDS = {"ours": 20, "langgraph": 3, "langgraph_graph": 2, "dbos": 2}
"""Runs of each session and process."""
KILLS = 9
GOALS_MOST = {"cpu_ms_per_run": 2.0, "takeover_p95_s": 6.0}
GOALS_LEAST = {"ratio_cpu_dbos_to_ours": 5.0, "ratio_cpu_langgraph_to_ours": 4.0}

Figures = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="journal-pg", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ours-only", action="store_true", help="leave the others out: needs no packages")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: 3)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the runs to make, for a quick look (default: 1)"
    )
    given = parser.parse_args()
    state = ROOT / ".make"
    state.mkdir(exist_ok=True)
    pythons = {} if given.ours_only else _pythons(state)
    found: dict[int, dict[str, Figures]] = {}
    with running() as server, tempfile.TemporaryDirectory(dir=state) as folder:
        sync_ms = fdatasync_p50_ms(Path(folder))
        (Path(folder) / "texts.json").write_text(json.dumps(texts(997, STEP_BYTES)))
        for processes in (1, 3):
            sides = {
                name: _commands(name, pythons, folder, share=given.share)
                for name in ROUNDS
                if name == "ours" or pythons
            }
            rounds: dict[str, list[Figures]] = {name: [] for name in sides}
            for _ in range(given.rounds):
                for name, command in sides.items():
                    rounds[name].append(_measure(server, command, processes))
            found[processes] = {name: _median(figures) for name, figures in rounds.items()}
            _tell(processes, found[processes])
        kills = max(1, round(KILLS * given.share))
        takeover = measure(server.url(server.create()), Path(folder), kills=kills)
    _finish(found, takeover, sync_ms)


def _pythons(state: Path) -> dict[str, Path]:
    return {name: environment(state, name) for name in ("langgraph_pg", "dbos")}


def _commands(name: str, pythons: dict[str, Path], folder: str, *, share: float) -> list[list[str]]:
    """What makes the tables, if that is a command of its own, and what runs the load; `URL` stands for the URL."""
    load = [str(SESSIONS), str(max(1, round(ROUNDS[name] * share)))]
    if name == "ours":
        return [[], [sys.executable, "-m", "benchmarks.journal_pg.ours", "URL", *load, folder]]
    side = "dbos" if name == "dbos" else "langgraph_pg"
    script = [str(pythons[side]), str(HERE / ("dbos_side.py" if name == "dbos" else "langgraph_side.py"))]
    what = {"dbos": "run", "langgraph": "saver", "langgraph_graph": "graph"}[name]
    return [[*script, "prepare", "URL"], [*script, what, "URL", *load, str(Path(folder) / "texts.json")]]


def _measure(server: Server, commands: Sequence[Sequence[str]], processes: int) -> Figures:
    """One round of one side: processes that begin together on a database of their own."""
    database = server.create()
    url = server.url(database)
    prepare, load = ([url if word == "URL" else word for word in command] for command in commands)
    if prepare:
        subprocess.run(prepare, check=True, capture_output=True, timeout=120)
    running_ones = [
        subprocess.Popen(load, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for one in running_ones:
        if one.stdout is None or one.stdout.readline() != "ready\n":
            raise SystemExit(f"journal-pg: {load[:3]} has not become ready")
    server.settle()
    server_s = server.cpu_s()
    for one in running_ones:
        if one.stdin is not None:
            one.stdin.write("\n")
            one.stdin.flush()
    told = [json.loads(one.communicate(timeout=600)[0].splitlines()[-1]) for one in running_ones]
    server_s = server.cpu_s() - server_s
    server.drop(database)
    return _figures(told, server_s)


def _figures(told: Sequence[Figures], server_s: float) -> Figures:
    runs = sum(one["runs"] for one in told)
    wall_s = max(one["ended_s"] for one in told) - min(one["began_s"] for one in told)
    client_ms = sum(one["cpu_s"] for one in told) / runs * 1000
    server_ms = server_s / runs * 1000
    made = {
        "runs_per_s": runs / wall_s,
        "cpu_ms_per_run": client_ms + server_ms,
        "client_cpu_ms_per_run": client_ms,
        "server_cpu_ms_per_run": server_ms,
    }
    if "p50_ms" in told[0]:
        made |= {
            key: statistics.median(one[key] for one in told) for key in ("p50_ms", "p99_ms", "barrier_p50_ms")
        }
        made["transactions_per_run"] = sum(one["transactions"] for one in told) / runs
    return made


def _median(figures: Sequence[Figures]) -> Figures:
    return {key: round(statistics.median(one[key] for one in figures), 4) for key in figures[0]}


def _tell(processes: int, sides: dict[str, Figures]) -> None:
    for name, figures in sides.items():
        say(
            f"{processes} x {SESSIONS} sessions  {name:<16}{figures['runs_per_s']:8.0f} runs/s  CPU "
            f"{figures['client_cpu_ms_per_run']:6.2f} + {figures['server_cpu_ms_per_run']:.2f} ms/run"
        )


def _finish(found: dict[int, dict[str, Figures]], takeover: Figures, sync_ms: float) -> None:
    many = found[3]
    ours_ms = many["ours"]["cpu_ms_per_run"]
    result: dict[str, object] = dict(many["ours"])
    for key, side in (
        ("ratio_cpu_langgraph_to_ours", "langgraph"),
        ("ratio_cpu_graph_to_ours", "langgraph_graph"),
        ("ratio_cpu_dbos_to_ours", "dbos"),
    ):
        if side in many:
            result[key] = round(many[side]["cpu_ms_per_run"] / ours_ms, 2)
    result |= takeover
    result["fdatasync_p50_ms"] = round(sync_ms, 3)
    result["processes"] = {str(processes): sides for processes, sides in found.items()}
    result["machine"] = machine()
    missed = [key for key, most in GOALS_MOST.items() if float(str(result[key])) > most]
    missed += [key for key, least in GOALS_LEAST.items() if float(str(result.get(key, least))) < least]
    say(f"journal-pg: {'all goals met' if not missed else 'goals missed: ' + ', '.join(missed)}")
    result["goals_missed"] = missed
    finish(result)


if __name__ == "__main__":
    main()
