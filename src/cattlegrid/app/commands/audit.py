"""`cattlegrid audit`: what those who run the service did."""

import asyncio
from typing import Annotated

import typer

from cattlegrid.app.client import many
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, LimitOption, Options, command_group, examples, options_of
from cattlegrid.app.render import audit_table
from cattlegrid.app.terminal import err, out, print_json
from cattlegrid.app.views import AuditLine

app = command_group(
    "See what those who run the service did.",
    "cattlegrid audit list",
    "cattlegrid audit list -n 200 --json",
)


@app.callback()
def audit() -> None:
    """See what those who run the service did."""


@app.command(
    "list",
    epilog=examples(
        "cattlegrid audit list",
        "cattlegrid audit list -n 200 --json",
        "cattlegrid audit list --before aud_000000000042",
    ),
)
def list_audit(
    context: typer.Context,
    *,
    limit: LimitOption = 20,
    before: Annotated[str, typer.Option(help="Only what is older than this line, by its id.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List actions, newest first: who did what to what, when, and what they showed to come in.

    An action is on record before it is done. One that failed has a second line that says how. Needs the role
    `security` or `admin`.
    """
    asyncio.run(_list(options_of(context), limit=limit, before=before, as_json=as_json))


async def _list(options: Options, *, limit: int, before: str, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        content = await client.get("/audit", limit=limit, before=before)
    if as_json:
        print_json(content)
        return
    lines = many(content, AuditLine)
    if lines:
        out().print(audit_table(lines))
    else:
        err().print("Nobody has done anything yet that takes a role.")
