"""Measures the journal at 1, 8 and 100 sessions, beside the bare floor and LangGraph's SQLite checkpointer.

Each side runs in a process of its own, three rounds each in turn, and the median counts. CPU is that of the whole
process, all threads, user and system. LangGraph has an environment of its own, installed from a lock file with hashes
into `.make/`. The last line is one JSON object; its plain keys are those of 100 sessions.

    ratio_cpu_to_floor             our CPU for a run by that of the floor
    ratio_cpu_langgraph_to_ours    LangGraph's checkpointer alone, without its graph, by ours
    ratio_cpu_graph_to_ours        with its graph
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import environment, fdatasync_p50_ms, finish, machine, say, texts
from benchmarks.journal.load import ROUNDS, STEP_BYTES, rounds_of

ROOT = Path(__file__).parents[2]
LANGGRAPH_ROUNDS = {1: 60, 8: 20, 100: 4}
GOALS = {"ratio_cpu_to_floor": 4.0, "cpu_ms_per_run": 1.5}
LANGGRAPH_GOAL = 5.0

Figures = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="journal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--without-langgraph", action="store_true", help="leave LangGraph out: needs no packages"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: 3)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the runs to make, for a quick look (default: 1)"
    )
    given = parser.parse_args()
    state = ROOT / ".make"
    state.mkdir(exist_ok=True)
    python = None if given.without_langgraph else environment(state, "langgraph")
    found: dict[int, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(dir=state) as folder:
        sync_ms = fdatasync_p50_ms(Path(folder))
        for sessions in ROUNDS:
            found[sessions] = _measure(sessions, given.rounds, python, share=given.share)
            _tell(sessions, found[sessions])
    _finish(found, sync_ms)


def _measure(sessions: int, rounds: int, langgraph: Path | None, *, share: float) -> dict[str, Figures]:
    sides: dict[str, list[Figures]] = {}
    load = [str(sessions), str(rounds_of(sessions, share))]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=ROOT / ".make") as made:
            folder = Path(made)
            kept = str(folder / "rows")
            # The rows for the floor are kept in a round that does not count: keeping them takes time, too.
            _child([sys.executable, "-m", "benchmarks.journal.ours", *load, made, kept])
            (folder / "journal.db").unlink()
            floor = _child([sys.executable, "-m", "benchmarks.journal.floor", *load, made, kept])
            ours = _child([sys.executable, "-m", "benchmarks.journal.ours", *load, made])
            sides.setdefault("ours", []).append(ours)
            sides.setdefault("floor", []).append(floor)
            if langgraph is not None:
                (folder / "texts.json").write_text(json.dumps(texts(997, STEP_BYTES)))
                script = str(Path(__file__).with_name("langgraph_side.py"))
                arguments = [
                    str(sessions),
                    str(max(2, round(LANGGRAPH_ROUNDS[sessions] * share))),
                    made,
                    str(folder / "texts.json"),
                ]
                both = _child([str(langgraph), script, *arguments])
                sides.setdefault("langgraph", []).append(both["saver"])
                sides.setdefault("langgraph_graph", []).append(both["graph"])
    return {name: _median(figures) for name, figures in sides.items()}


def _median(figures: Sequence[Figures]) -> Figures:
    return {key: round(statistics.median(one[key] for one in figures), 4) for key in figures[0]}


def _child(command: Sequence[str]) -> Any:  # noqa: ANN401 - one side's figures, or two sides' by name
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def _tell(sessions: int, sides: dict[str, Figures]) -> None:
    for name, figures in sides.items():
        p50 = f"{figures['p50_ms']:9.2f}" if "p50_ms" in figures else " " * 9
        p99 = f"{figures['p99_ms']:9.2f}" if "p99_ms" in figures else " " * 9
        say(
            f"{sessions:>4} sessions  {name:<16}{figures['runs_per_s']:8.0f} runs/s  p50 {p50} ms  p99 {p99} ms  "
            f"CPU {figures['cpu_ms_per_run']:6.2f} ms/run  {figures['bytes_per_run']:7.0f} bytes/run"
        )


def _finish(found: dict[int, dict[str, Figures]], sync_ms: float) -> None:
    many = found[100]
    ours_ms = many["ours"]["cpu_ms_per_run"]
    result: dict[str, object] = dict(many["ours"])
    ratios = {"ratio_cpu_to_floor": ours_ms / many["floor"]["cpu_ms_per_run"]}
    for key, side in (
        ("ratio_cpu_langgraph_to_ours", "langgraph"),
        ("ratio_cpu_graph_to_ours", "langgraph_graph"),
    ):
        if side in many:
            ratios[key] = many[side]["cpu_ms_per_run"] / ours_ms
    result |= {key: round(value, 2) for key, value in ratios.items()}
    result["fdatasync_p50_ms"] = round(sync_ms, 3)
    result["sessions"] = {str(sessions): sides for sessions, sides in found.items()}
    result["machine"] = machine()
    missed = [key for key, most in GOALS.items() if float(str(result[key])) > most]
    if ratios.get("ratio_cpu_langgraph_to_ours", LANGGRAPH_GOAL) < LANGGRAPH_GOAL:
        missed.append("ratio_cpu_langgraph_to_ours")
    say(f"journal: {'all goals met' if not missed else 'goals missed: ' + ', '.join(missed)}")
    result["goals_missed"] = missed
    finish(result)


if __name__ == "__main__":
    main()
