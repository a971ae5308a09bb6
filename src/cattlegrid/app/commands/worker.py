"""`cattlegrid worker`: do the work of a project that no request waits for."""

import contextlib
from typing import Annotated

import typer

from cattlegrid.app.compose import CONCURRENCY
from cattlegrid.app.options import examples, options_of, single_command
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.terminal import count, out
from cattlegrid.app.working import work
from cattlegrid.release.project import find_root

app = single_command()


@app.command(
    "worker",
    epilog=examples(
        "DATABASE_URL=postgresql://app@db/app cattlegrid worker",
        "cattlegrid worker --env production --concurrency 16",
        "cattlegrid serve --no-worker   # beside it: a server that leaves this work to workers",
    ),
)
def worker_command(
    context: typer.Context,
    *,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=256, help="How many tasks to do at once.")
    ] = CONCURRENCY,
    environment: Annotated[
        str,
        typer.Option("--env", help="development, staging or production; default: as cattlegrid.yaml says."),
    ] = "",
) -> None:
    """Do the work that no request waits for: expiry of approvals, closing of sessions, retention, seals.

    Any number of workers share the work of one PostgreSQL database, on any number of machines; each round is made by
    one of them, and when one dies the others do what it has left after a minute. A worker also goes on with the runs
    of servers that have died, so it needs the same model keys and master key as they do. SIGTERM ends it: what is
    under way may end, the rest is left to others. Servers do this work themselves unless they run with --no-worker.
    """
    settings = load_settings(find_root(options_of(context).folder), environment=environment)
    with contextlib.chdir(settings.project.root):
        work(settings, concurrency=concurrency, announce=lambda: _announce(settings, concurrency))


def _announce(settings: Settings, concurrency: int) -> None:
    model = "the scripted model, a test instrument" if settings.scripted else "a real model"
    out().print(f"Working, {count(concurrency, 'task')} at once  ({settings.environment}, {model})")
