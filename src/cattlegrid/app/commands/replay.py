"""`cattlegrid replay`: run a recorded session again and compare every step."""

import asyncio
from typing import Annotated, Final

import typer

from cattlegrid.app.client import LAST, one
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, Options, examples, options_of, single_command
from cattlegrid.app.render import difference_text
from cattlegrid.app.terminal import out, print_json, working
from cattlegrid.app.views import Replay

app = single_command()
_DIFFERENT: Final = 1


@app.command(epilog=examples("cattlegrid replay last", "cattlegrid replay ses_01KAF2M8WZ --json"))
def replay(
    context: typer.Context,
    session: Annotated[str, typer.Argument(help="A session's id, its beginning, or `last`.")] = LAST,
    *,
    as_json: JsonOption = False,
) -> None:
    """Run a recorded session again and compare every step.

    The real loop runs with the recorded answers; nothing is called. Exit codes: 0 identical, 1 different.
    """
    if not asyncio.run(_replay(options_of(context), session, as_json=as_json)):
        raise typer.Exit(_DIFFERENT)


async def _replay(options: Options, given: str, *, as_json: bool) -> bool:
    async with connect(options, Purpose()) as client:
        session_id = await client.id_of("session", given)
        with working("Replaying"):
            content = await client.post("/debug/replay", {"session_id": session_id})
    report = one(content, Replay)
    if as_json:
        print_json(content)
    else:
        out().print(difference_text(report), soft_wrap=True)
    return report.identical
