"""`cattlegrid lint`: check the agents' files and say what they may do."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.app.options import JsonOption, examples, options_of, single_command
from cattlegrid.app.terminal import clean, count, out, print_json
from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import Problem
from cattlegrid.journal.codec import decode
from cattlegrid.journal.events import release_stream
from cattlegrid.release.build import Examined, examine
from cattlegrid.release.files import AGENT_FILE
from cattlegrid.release.project import STATE_FOLDER, Project, find_root, read_project
from cattlegrid.release.registry import fold_versions
from cattlegrid.release.summary import describe, title
from cattlegrid.release.validation import choose

_FAILED = 1
_USUAL_FOLDER = "agents"

app = single_command()


@app.command(
    epilog=examples(
        "cattlegrid lint",
        "cattlegrid lint shop",
        "cattlegrid lint --json | jq '.agents[].problems'",
    )
)
def lint(
    context: typer.Context,
    *,
    agent: Annotated[str, typer.Argument(help="One agent; without it all of the project.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check the agents' files and say what they may do.

    Reads every file and imports the tools. Says everything that is wrong with file, line, key and what to do. The
    number is the one that the agent has, or would get, in this project. Exits with 1 when something is wrong.
    """
    root = find_root(options_of(context).folder)
    project, problems = read_project(root)
    folders, missing = _folders(root, project, agent)
    problems = (*problems, *missing)
    found = [examine(folder, root=root, project=project) for folder in folders]
    database = _database(root)
    numbers = asyncio.run(_numbers(database if database.is_file() else None, found))
    if as_json:
        print_json(
            {
                "ok": not problems and all(one.built for one in found),
                "problems": problems,
                "agents": [_document(one, numbers.get(one.agent)) for one in found],
            }
        )
    else:
        _print(problems, found, numbers)
    if problems or not all(one.built for one in found):
        raise typer.Exit(_FAILED)


def _folders(root: Path, project: Project | None, agent: str) -> tuple[list[Path], tuple[Problem, ...]]:
    """The folders to look at. Where `cattlegrid.yaml` is wrong, they are looked for where they usually are."""
    agents = project.agents_folder if project is not None else root / _USUAL_FOLDER
    found = sorted(path.parent for path in agents.glob(f"*/{AGENT_FILE}") if path.parent.name[0] != ".")
    names = [folder.name for folder in found]
    if agent:
        fix = choose(agent, names, otherwise="It has none yet")
        message = f"The project has no agent `{agent}`"
        found = [folder for folder in found if folder.name == agent]
    else:
        fix, message = f"Write `{agents.name}/NAME/{AGENT_FILE}`", "The project has no agent"
    if found:
        return found, ()
    return [], (Problem(file=agents.name, line=None, key="", message=message, fix=fix),)


def _database(root: Path) -> Path:
    return Path(os.environ.get("CATTLEGRID_STATE") or root / STATE_FOLDER) / "journal.db"


async def _numbers(database: Path | None, found: Sequence[Examined]) -> dict[str, int]:
    """The number of each bundle that was built, by agent: its own, or else the next one. Makes no store."""
    built = {one.agent: one.built.bundle.digest for one in found if one.built is not None}
    known: dict[str, tuple[BundleVersion, ...]] = {}
    if built and database is not None:
        store = await SqliteJournal.open(database, clock=SystemClock())
        try:
            for agent in built:
                rows = await store.rows(release_stream(agent))
                known[agent] = fold_versions([decode(row) for row in rows])
        finally:
            await store.close()
    return {
        agent: next(
            (v.number for v in known.get(agent, ()) if v.digest == digest), len(known.get(agent, ())) + 1
        )
        for agent, digest in built.items()
    }


def _print(problems: Sequence[Problem], found: Sequence[Examined], numbers: dict[str, int]) -> None:
    for problem in problems:
        out().print(clean(str(problem)), style="red", soft_wrap=True)
    for one in found:
        for problem in one.problems:
            out().print(clean(str(problem)), style="red", soft_wrap=True)
        for warning in one.warnings:
            out().print(f"warning: {clean(str(warning))}", style="yellow", soft_wrap=True)
        if one.built is not None:
            bundle = one.built.bundle
            line = f"{title(bundle, numbers[one.agent])}  {describe(bundle)}  ok"
            out().print(clean(line), soft_wrap=True)
        else:
            out().print(clean(f"{one.agent}  {count(len(one.problems), 'problem')}"), soft_wrap=True)


def _document(one: Examined, number: int | None) -> dict[str, object]:
    document: dict[str, object] = {
        "agent": one.agent,
        "ok": one.built is not None,
        "problems": one.problems,
        "warnings": one.warnings,
    }
    if one.built is not None:
        bundle = one.built.bundle
        document |= {
            "number": number,
            "digest": bundle.digest,
            "commit": one.built.commit,
            "dirty": one.built.dirty,
            "tools": [tool.name for tool in bundle.offered_tools],
            "approve": bundle.approve,
            "deny": bundle.deny,
            "limits": msgspec.to_builtins(bundle.limits),
        }
    return document
