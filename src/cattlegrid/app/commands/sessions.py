"""`cattlegrid sessions`: conversations."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cattlegrid.app.client import LAST, Client
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, LimitOption, Options, command_group, examples, options_of
from cattlegrid.app.render import session_text, sessions_table
from cattlegrid.app.terminal import err, out, print_json
from cattlegrid.app.views import Session

app = command_group(
    "See and close conversations.",
    "cattlegrid sessions list",
    "cattlegrid sessions show last",
    "cattlegrid sessions close ses_01KAF2M8WZ",
)
SessionArgument = Annotated[str, typer.Argument(help="A session's id, its beginning, or `last`.")]
_SHOWN_RUNS: Final = 200
_LOOKS: Final = 50
_PAUSE_S: Final = 0.1


@app.command("list", epilog=examples("cattlegrid sessions list", "cattlegrid sessions list -n 5 --json"))
def list_sessions(context: typer.Context, *, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List sessions, newest first."""
    asyncio.run(_list(options_of(context), limit=limit, as_json=as_json))


@app.command(
    epilog=examples("cattlegrid sessions show last", "cattlegrid sessions show ses_01KAF2M8WZ --json")
)
def show(context: typer.Context, session: SessionArgument = LAST, *, as_json: JsonOption = False) -> None:
    """Show one session as the conversation that it was."""
    asyncio.run(_show(options_of(context), session, as_json=as_json))


@app.command(epilog=examples("cattlegrid sessions close last"))
def close(context: typer.Context, session: SessionArgument) -> None:
    """End a session; an open run ends first."""
    asyncio.run(_close(options_of(context), session))


async def _list(options: Options, *, limit: int, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        if as_json:
            print_json(await client.get("/sessions", limit=limit))
            return
        sessions = await client.sessions(limit=limit)
    console = out()
    if sessions:
        console.print(sessions_table(sessions, now=datetime.now(UTC), whole_ids=not console.is_terminal))
    else:
        err().print("There is no session yet: `cattlegrid chat` makes one.")


async def _show(options: Options, given: str, *, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        session_id = await client.id_of("session", given)
        if as_json:
            print_json(await client.get(f"/sessions/{session_id}"))
            return
        session = await client.session(session_id)
        runs = await client.runs(session_id=session_id, limit=_SHOWN_RUNS)
    out().print(session_text(session, runs[::-1]), soft_wrap=True)


async def _close(options: Options, given: str) -> None:
    async with connect(options, Purpose(runs=True)) as client:
        session_id = await client.id_of("session", given)
        await client.post(f"/sessions/{session_id}/close")
        session = await _until_closed(client, session_id)
    out().print(
        f"{session_id} {'is being closed' if session.status == 'open' else f'is closed: {session.status}'}."
    )


async def _until_closed(client: Client, session_id: str) -> Session:
    """The session once it is closed, or as it is when its open run takes long to end."""
    session = await client.session(session_id)
    for _ in range(_LOOKS):
        if session.status != "open":
            break
        await asyncio.sleep(_PAUSE_S)
        session = await client.session(session_id)
    return session
