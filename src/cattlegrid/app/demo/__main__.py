"""Plays the acts, prints what happens as it happens, then one line for each promise. Exit code 1 when one is broken."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape

from cattlegrid.app.demo import acts
from cattlegrid.app.demo.acts import Line, Say, Story
from cattlegrid.app.demo.stage import BrokenPromise, Stage

ACTS: Final[dict[int, Callable[[Stage, Story, Say], Line]]] = {2: acts.act_2, 6: acts.act_6}
NEEDS: Final = {6: (2,)}
"""Acts whose story another one tells first."""
BUDGET_S: Final = 60.0
ROOT: Final = Path(__file__).resolve().parents[4]
HEADER: Final = "scripted model, simulated customers, real server, real database, real SIGKILL"


def main() -> int:
    """Play; 0 when every promise was kept within the time."""
    arguments = _parse()
    console = Console(stderr=arguments.json, highlight=False)
    if not (ROOT / "cattlegrid.yaml").is_file():
        console.print(
            "The demo plays the reference agent of the repository: run `make demo` in a clone of it."
        )
        return 2
    console.print(f"[bold]That Friday night[/bold]  ({HEADER})\n", soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="cattlegrid-demo-"))
    stage = Stage(root=ROOT, folder=folder)
    began_s = time.perf_counter()
    try:
        lines, error = _play(stage, arguments.act, console)
        took_s = time.perf_counter() - began_s
        _tell(lines, took_s, console)
        if error:
            console.print(f"[red]broken:[/red] {escape(error)}")
        kept = promises_kept(lines, error=error, took_s=took_s)
        if arguments.json:
            report = {
                "kept": kept,
                "took_s": round(took_s, 1),
                "budget_s": BUDGET_S,
                "acts": lines,
                "error": error,
            }
            sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        if arguments.keep:
            _keep(stage, folder, console)
    finally:
        stage.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if kept else 1


def promises_kept(lines: list[Line], *, error: str, took_s: float) -> bool:
    """Whether every act was played, kept its promise, and all of them together their time."""
    return bool(lines) and not error and all(line.kept for line in lines) and took_s < BUDGET_S


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--act", type=int, choices=sorted(ACTS), help="play one act, and what it needs")
    parser.add_argument("--keep", action="store_true", help="leave the server up until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def _play(stage: Stage, only: int | None, console: Console) -> tuple[list[Line], str]:
    chosen = sorted(ACTS) if only is None else sorted({only, *NEEDS.get(only, ())})
    story, lines = Story(), list[Line]()
    for number in chosen:
        console.print(f"[bold]Act {number}[/bold]")
        began_s = time.perf_counter()
        try:
            if number == 6:
                _show_run(stage, story, console)
            line = ACTS[number](stage, story, lambda text: console.print(f"  {escape(text)}", soft_wrap=True))
        except (BrokenPromise, ConnectionError) as error:
            return lines, f"act {number}: {error}"
        lines.append(msgspec.structs.replace(line, took_s=round(time.perf_counter() - began_s, 2)))
        console.print()
    return lines, ""


def _show_run(stage: Stage, story: Story, console: Console) -> None:
    """The operator's own command, on the run of the customer."""
    command = [sys.executable, "-m", "cattlegrid.app.cli", "--url", stage.url]
    command += [
        "--key",
        (stage.folder / "dev-operator.key").read_text().strip(),
        "runs",
        "show",
        story.run_id,
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if shown.returncode:
        raise BrokenPromise(f"runs show: {shown.stderr.strip()}")
    console.print(escape(shown.stdout.rstrip()), soft_wrap=True)


def _tell(lines: list[Line], took_s: float, console: Console) -> None:
    names = max((len(line.name) for line in lines), default=0)
    scenes = max((len(line.scene) for line in lines), default=0)
    for line in lines:
        mark = "[green]kept[/green]" if line.kept else "[red]BROKEN[/red]"
        text = f"  {line.act} {line.name:<{names}}  {line.scene:<{scenes}}  {line.result}  {mark}"
        console.print(text, soft_wrap=True)
    kept = sum(line.kept for line in lines)
    console.print(
        f"  {kept} of {len(lines)} promises kept in {took_s:.0f} s       one again: make demo ACT=2"
    )


def _keep(stage: Stage, folder: Path, console: Console) -> None:
    console.print(f"\nThe server is up: {stage.url}/docs   state: {folder}   Ctrl-C ends it.")
    try:
        stage.wait()
    except KeyboardInterrupt:
        console.print("stopped")


if __name__ == "__main__":
    sys.exit(main())
