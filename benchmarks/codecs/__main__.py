"""Measures what speaking to models costs, beside the client of OpenAI, pydantic-ai and LiteLLM.

Every side is a process of its own and asks the same provider on the loopback interface, one call after the other, three
rounds each in turn; the median counts. CPU is that of the whole process, HTTP included. The others have environments of
their own, installed from lock files with hashes into `.make/`. Beside it, our codecs by themselves, in memory. The last
line is one JSON object; its plain keys are those of chat completions over HTTP.

    us_per_chunk, us_per_call      of a streamed answer: for each piece, and for everything else
    us_per_stream                  of a whole call that streams 43 pieces
    ratio_cpu_*_to_ours            their `us_per_stream` by ours
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.codecs import memory
from benchmarks.common import finish, machine, say

ROOT = Path(__file__).parents[2]
SIDES = {"openai_client": "openai", "pydantic_ai": "pydantic_ai", "litellm": "litellm"}
CALLS = {"ours": 400, "openai_client": 100, "pydantic_ai": 60, "litellm": 40}
GOAL_KEY, GOAL = "ratio_cpu_openai_client_to_ours", 5.0
WIRE = "openai"

Figures = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="codecs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--without-others", action="store_true", help="our side only: needs no packages")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: 3)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the calls, for a quick look (default: 1)"
    )
    given = parser.parse_args()
    pythons = {} if given.without_others else {name: _python(lock) for name, lock in SIDES.items()}
    in_memory = {
        wire: {key: round(value, 2) for key, value in figures.items()}
        for wire, figures in memory.measured().items()
    }
    rounds: dict[str, list[dict[str, Figures]]] = {}
    with _endpoint() as address:
        for _ in range(given.rounds):
            for side in ("ours", *pythons):
                calls = str(max(4, round(CALLS[side] * given.share)))
                if side == "ours":
                    command = [sys.executable, "-m", "benchmarks.codecs.ours", address, calls]
                else:
                    script = str(Path(__file__).with_name(f"{SIDES[side]}_side.py"))
                    command = [str(pythons[side]), script, address, calls]
                rounds.setdefault(side, []).append(_child(command))
    _finish({side: _median(found) for side, found in rounds.items()}, in_memory)


def _median(rounds: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    return {
        wire: {key: round(statistics.median(one[wire][key] for one in rounds), 1) for key in rounds[0][wire]}
        for wire in rounds[0]
    }


def _child(command: Sequence[str]) -> Any:  # noqa: ANN401 - one side's figures by wire
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def _endpoint() -> Generator[str]:
    """The address of a provider that lives as long as the block."""
    command = [sys.executable, "-m", "benchmarks.codecs.endpoint"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.communicate()


def _python(lock: str) -> Path:
    """The Python of an environment, made when its lock file is a new one."""
    path = ROOT / "benchmarks" / "requirements" / f"{lock}.txt"
    folder = ROOT / ".make" / f"{lock}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say(f"codecs: installing {lock} from its lock file")
        folder.parent.mkdir(exist_ok=True)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True
        )
        install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(path)]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    return python


def _finish(sides: dict[str, dict[str, Figures]], in_memory: dict[str, Figures]) -> None:
    for side, wires in sides.items():
        for wire, figures in wires.items():
            told = "  ".join(f"{key} {value:9.1f}" for key, value in figures.items())
            say(f"{side:<14}{wire:<18}{told}")
    for wire, figures in in_memory.items():
        say(f"{'in memory':<14}{wire:<18}{'  '.join(f'{k} {v:.1f}' for k, v in figures.items())}")
    ours = sides["ours"]
    result: dict[str, object] = {"bench": "codecs", **ours[WIRE]}
    for side, wires in sides.items():
        if side != "ours":
            for key, of in (
                ("", "us_per_stream"),
                ("_per_chunk", "us_per_chunk"),
                ("_per_call", "us_per_call"),
            ):
                result[f"ratio_cpu{key}_{side}_to_ours"] = round(wires[WIRE][of] / ours[WIRE][of], 1)
    missed = [GOAL_KEY] if float(str(result.get(GOAL_KEY, GOAL))) < GOAL else []
    say(f"codecs: {'all goals met' if not missed else 'goals missed: ' + ', '.join(missed)}")
    finish({**result, "sides": sides, "in_memory": in_memory, "machine": machine(), "goals_missed": missed})


if __name__ == "__main__":
    main()
