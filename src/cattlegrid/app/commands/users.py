"""`cattlegrid users`: erase what is stored about a user."""

import asyncio
import sys
from typing import Annotated

import typer

from cattlegrid.app.client import one
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, Options, command_group, examples, options_of
from cattlegrid.app.terminal import clean, count, out, print_json, working
from cattlegrid.app.views import Erased
from cattlegrid.core.errors import ConfigurationError

app = command_group(
    "Erase what is stored about a user.",
    "cattlegrid users erase kim@example.com",
    "cattlegrid users erase --help",
)


@app.callback()
def users() -> None:
    """Erase what is stored about a user."""


@app.command(
    epilog=examples("cattlegrid users erase kim@example.com", "cattlegrid users erase kim@example.com --yes")
)
def erase(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's name, as in their API key.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase every word of a user, for good.

    Their data key is deleted, their open runs end as `erased`, their API keys are revoked. What happened stays on
    record without words, so that the journal still verifies.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("Nobody is here to be asked: give --yes to erase without a question.")
        typer.confirm(
            f"Erase everything that {clean(user)} has said and was told? This cannot be undone.", abort=True
        )
    asyncio.run(_erase(options_of(context), user, as_json=as_json))


async def _erase(options: Options, user: str, *, as_json: bool) -> None:
    async with connect(options, Purpose(runs=True)) as client:
        with working("Erasing"):
            content = await client.post("/users/erase", {"user": user})
    if as_json:
        print_json(content)
        return
    erased = one(content, Erased)
    out().print(
        f"Erased {clean(user)}: {count(erased.sessions, 'session')}, {count(erased.keys, 'API key')} revoked.",
        soft_wrap=True,
    )
