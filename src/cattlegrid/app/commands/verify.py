"""`cattlegrid verify`: check that the journal is whole and unchanged."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cattlegrid.adapters.seal_log import SealLog
from cattlegrid.app.compose import open_store
from cattlegrid.app.local import quiet
from cattlegrid.app.options import JsonOption, examples, options_of, single_command
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.terminal import clean, count, err, out, print_json
from cattlegrid.core.errors import NotFound
from cattlegrid.journal.verify import Report, verify
from cattlegrid.release.project import find_root

app = single_command()
_BROKEN: Final = 1
_SHOWN: Final = 20


@app.command(
    "verify",
    epilog=examples(
        "cattlegrid verify",
        "cattlegrid verify --seals /mnt/elsewhere/seals.jsonl  # against a copy of the seals that nobody here can change",
        "cattlegrid verify --json",
    ),
)
def verify_command(
    context: typer.Context,
    *,
    seals: Annotated[
        Path | None, typer.Option(help="A copy of the seal log; default: the project's own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the journal is whole and unchanged.

    Recomputes the hash of every event, follows the chain of every stream to its head, and compares both with every
    seal that was ever made. Finds rewritten events and cut tails. A server may run meanwhile. Exit codes: 0 whole,
    1 something was changed or is missing.
    """
    if seals is not None and not seals.is_file():
        raise NotFound(f"There is no seal log {seals}.")
    settings = load_settings(find_root(options_of(context).folder))
    report = asyncio.run(_verify(settings, SealLog(seals or settings.state_folder / "seals.jsonl")))
    if as_json:
        print_json(
            {
                "ok": report.ok,
                "streams": report.streams,
                "events": report.events,
                "seals": report.seals,
                "problems": report.problems,
            }
        )
    else:
        _tell(report)
    if not report.ok:
        raise typer.Exit(_BROKEN)


async def _verify(settings: Settings, log: SealLog) -> Report:
    quiet()
    async with open_store(settings) as opened:
        total, _ = await opened.store.heads_changed_since(0)
        bar = Progress(
            TextColumn("Verifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            console=err(),
            transient=True,
            disable=not err().is_terminal,
        )
        with bar:
            task = bar.add_task("", total=total)
            return await verify(
                opened.store,
                log.lines(),
                opened.kek.signing_key().public_key(),
                progress=lambda events: bar.update(task, completed=events),
            )


def _tell(report: Report) -> None:
    checked = (
        f"{count(report.events, 'event')} in {count(report.streams, 'stream')}, {count(report.seals, 'seal')}"
    )
    if report.ok:
        out().print(f"verify: whole, {checked}", soft_wrap=True)
        if not report.seals:
            err().print("No seal was made yet: a server makes one every minute.", style="dim")
        return
    out().print(
        f"verify: NOT as it was written, {count(len(report.problems), 'problem')} in {checked}", style="red"
    )
    for problem in report.problems[:_SHOWN]:
        out().print(f"  {clean(str(problem))}", soft_wrap=True)
    if len(report.problems) > _SHOWN:
        out().print(f"  and {len(report.problems) - _SHOWN:,} more: see them with --json")
