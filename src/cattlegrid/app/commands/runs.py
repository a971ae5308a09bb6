"""`cattlegrid runs`: what happened in a run, step by step."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from cattlegrid.app.client import LAST
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, LimitOption, Options, command_group, examples, options_of
from cattlegrid.app.render import run_tree, runs_table
from cattlegrid.app.terminal import err, out, print_json
from cattlegrid.core.errors import InvalidRequest
from cattlegrid.journal.directory import DEAD

app = command_group(
    "See what happened in a run, step by step; cancel one; retry one that was given up.",
    "cattlegrid runs list",
    "cattlegrid runs show last",
    "cattlegrid runs cancel run_01KAF2M8WZ",
    "cattlegrid runs retry run_01KAF2M8WZ",
)
RunArgument = Annotated[str, typer.Argument(help="A run's id, its beginning, or `last`.")]


@app.command(
    "list",
    epilog=examples(
        "cattlegrid runs list", "cattlegrid runs list --status held --json", "cattlegrid runs list --dead"
    ),
)
def list_runs(
    context: typer.Context,
    *,
    session: Annotated[
        str, typer.Option("--session", "-s", help="Of this session only: an id or `last`.")
    ] = "",
    status: Annotated[
        str, typer.Option(help="running, held, dead, completed, partial, denied, failed or cancelled.")
    ] = "",
    dead: Annotated[
        bool,
        typer.Option("--dead", help="Only those that were given up after killing process after process."),
    ] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    if dead and status not in {"", DEAD}:
        raise InvalidRequest("--dead and --status say different things: give one of them.")
    status = DEAD if dead else status
    asyncio.run(_list(options_of(context), session=session, status=status, limit=limit, as_json=as_json))


@app.command(epilog=examples("cattlegrid runs show last", "cattlegrid runs show run_01KAF2M8WZ --full"))
def show(
    context: typer.Context,
    run: RunArgument = LAST,
    *,
    full: Annotated[bool, typer.Option("--full", help="Whole arguments and results.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one run as a tree: what came in, every call with its time and cost, who decided, what went out."""
    asyncio.run(_show(options_of(context), run, full=full, as_json=as_json))


@app.command(epilog=examples("cattlegrid runs cancel last"))
def cancel(context: typer.Context, run: RunArgument) -> None:
    """Ask for the end of a run. A call that is being made is waited for; nothing new begins."""
    asyncio.run(_cancel(options_of(context), run))


@app.command(epilog=examples("cattlegrid runs list --dead", "cattlegrid runs retry run_01KAF2M8WZ"))
def retry(context: typer.Context, run: RunArgument) -> None:
    """Let a run go on that was given up after it had killed one process after the other."""
    asyncio.run(_retry(options_of(context), run))


async def _list(options: Options, *, session: str, status: str, limit: int, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        session_id = await client.id_of("session", session) if session else ""
        if as_json:
            print_json(await client.get("/runs", session_id=session_id, status=status, limit=limit))
            return
        runs = await client.runs(session_id=session_id, status=status, limit=limit)
    console = out()
    if runs:
        console.print(runs_table(runs, now=datetime.now(UTC), whole_ids=not console.is_terminal))
    else:
        err().print(
            "There is no such run."
            if status or session
            else "There is no run yet: `cattlegrid chat` makes one."
        )


async def _show(options: Options, given: str, *, full: bool, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        run_id = await client.id_of("run", given)
        if as_json:
            print_json(await client.get(f"/runs/{run_id}"))
            return
        run = await client.run(run_id)
    out().print(run_tree(run, full=full))


async def _retry(options: Options, given: str) -> None:
    async with connect(options, Purpose(runs=True)) as client:
        run_id = await client.id_of("run", given)
        await client.post(f"/runs/{run_id}/retry", {})
    out().print(f"{run_id} goes on.")


async def _cancel(options: Options, given: str) -> None:
    async with connect(options, Purpose(runs=True)) as client:
        run_id = await client.id_of("run", given)
        await client.post(f"/runs/{run_id}/cancel", {"reason": "asked for by an operator"})
        run = await client.run(run_id)
    words = f"is {run.status}" if run.over else "is being cancelled"
    out().print(f"{run_id} {words}.")
