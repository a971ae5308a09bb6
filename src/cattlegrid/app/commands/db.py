"""`cattlegrid db`: look after the database of the journal, and copy a journal from one to another."""

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cattlegrid.adapters.databases import Place, copy, examine, upgrade
from cattlegrid.app.local import quiet
from cattlegrid.app.options import JsonOption, command_group, examples, options_of
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.terminal import clean, count, err, out, print_json
from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.verify import Report
from cattlegrid.release.project import find_root

_UNFIT = 1

app = command_group(
    "Look after the journal's database.",
    "cattlegrid db check",
    "cattlegrid db upgrade",
    'cattlegrid db copy .cattlegrid/journal.db "$DATABASE_URL"',
)


@app.callback()
def db() -> None:
    """Look after the journal's database.

    It is the PostgreSQL database that DATABASE_URL names; without it, a SQLite file in the project's state folder.
    """


@app.command("check", epilog=examples("cattlegrid db check", "cattlegrid db check --json"))
def check_command(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Look whether the database is fit to serve from.

    Says which server or file it is, whether what it acknowledges survives a crash, and whether its schema is the one that
    this program needs. Exit codes: 0 fit, 1 not.
    """
    found = asyncio.run(examine(_own(_settings(context))))
    fit = all(one.ok for one in found)
    if as_json:
        print_json({"ok": fit, "findings": msgspec.to_builtins(found)})
    else:
        for one in found:
            mark, style = ("ok", "green") if one.ok else ("NO", "red")
            out().print(f"{mark}  {one.name:<14}{clean(one.said)}", style=style, soft_wrap=True)
    if not fit:
        raise typer.Exit(_UNFIT)


@app.command("upgrade", epilog=examples("cattlegrid db upgrade", "cattlegrid db upgrade --json"))
def upgrade_command(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Bring the schema of the database to what this program needs.

    Stop the servers of the older version first. What was cut off can be repeated; two that upgrade at once wait for
    each other. A new database gets its tables.
    """
    done = asyncio.run(upgrade(_own(_settings(context))))
    if as_json:
        print_json({"from": done.before, "to": done.after})
    elif done.before == done.after:
        out().print(f"The schema has version {done.after} already.")
    else:
        out().print(f"The schema was brought from version {done.before} to {done.after}.")


@app.command(
    "copy",
    epilog=examples(
        'cattlegrid db copy .cattlegrid/journal.db "$DATABASE_URL"',
        'cattlegrid db copy "$DATABASE_URL" backup/journal.db --json',
    ),
)
def copy_command(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="The file or the URL of the journal.")],
    target: Annotated[str, typer.Argument(help="The file or the URL of an empty one.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Copy a journal into an empty database, and verify the copy.

    Stop the servers first. Everything is copied: sessions, texts, keys of users, settings; positions and hashes stay
    what they are, and so the seals that were made. The key-encryption key stays where it is, and opens the copy too.
    """
    settings = _settings(context)
    places = [Place.of(text, folder=settings.state_folder) for text in (source, target)]
    with _bar() as bar:
        rows, events = (bar.add_task(doing, total=None) for doing in ("Copying rows", "Verifying events"))
        report = asyncio.run(
            copy(
                places[0],
                places[1],
                told=lambda done, total: bar.update(rows, completed=done, total=total),
                checked=lambda done: bar.update(events, completed=done),
            )
        )
    if as_json:
        print_json({"ok": report.ok, "streams": report.streams, "events": report.events})
    elif report.ok:
        checked = f"{count(report.events, 'event')} in {count(report.streams, 'stream')}"
        out().print(f"Copied and verified: {checked}.", soft_wrap=True)
    if not report.ok:
        raise IntegrityError("The copy does not verify.", detail=_first(report))


def _settings(context: typer.Context) -> Settings:
    quiet()
    return load_settings(find_root(options_of(context).folder))


def _own(settings: Settings) -> Place:
    """Where the project keeps its journal."""
    return Place(url=settings.database_url.value, folder=settings.state_folder)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err(),
        transient=True,
        disable=not err().is_terminal,
    )


def _first(report: Report) -> str:
    return "; ".join(str(problem) for problem in report.problems[:3])
