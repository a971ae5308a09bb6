"""`cattlegrid chat`: one message, or a conversation, with an agent."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Final

import typer

from cattlegrid.app.client import Client
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.lines import standard_input
from cattlegrid.app.options import JsonOption, Options, examples, options_of, single_command
from cattlegrid.app.render import call_text, waiting_line
from cattlegrid.app.talk import Following
from cattlegrid.app.terminal import clean, err, out, print_json
from cattlegrid.app.views import Run
from cattlegrid.core.errors import ConfigurationError

app = single_command()

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_PROMPT: Final = "you> "


@app.command(
    epilog=examples(
        'cattlegrid chat shop "Where is my order 17?"',
        "cattlegrid chat shop                       # a conversation; Ctrl-D ends it",
        'cattlegrid chat shop "And order 18?" --session last',
        'cattlegrid chat shop "Hello" --json',
    )
)
def chat(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="The agent's name.")],
    message: Annotated[str, typer.Argument(help="What to say; without it, a conversation begins.")] = "",
    *,
    session: Annotated[
        str, typer.Option("--session", "-s", help="Go on with a session: an id or `last`.")
    ] = "",
    user: Annotated[str, typer.Option(help="Speak for this customer; default: you@example.com.")] = "",
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream", help="Show the answer while it is made; default: on a terminal."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk to an agent.

    The answer goes to standard output, what the agent does meanwhile to standard error. A call that needs a person
    leaves `[waiting: apr_...]`; decide on it with `cattlegrid approvals`. Ctrl-C cancels the request.

    Exit codes: 0 answered or waiting, 1 the request failed, 130 cancelled.
    """
    if as_json and not message:
        raise ConfigurationError("--json needs a message.")
    live = sys.stdout.isatty() if stream is None else stream
    purpose = Purpose(acting="user", user=user, runs=True, agent="" if session else agent)
    talk = _Talk(agent, live=live and not as_json, as_json=as_json)
    code = asyncio.run(_chat(options_of(context), purpose, talk, message=message, session=session))
    if code:
        raise typer.Exit(code)


async def _chat(options: Options, purpose: Purpose, talk: "_Talk", *, message: str, session: str) -> int:
    async with connect(options, purpose) as client:
        session_id = await client.id_of("session", session) if session else ""
        if message:
            return await talk.say(client, session_id, message)
        async for line in _asked():
            if line.strip():
                await talk.say(client, session_id or talk.session_id, line)
        return 0


async def _asked() -> AsyncIterator[str]:
    """What the person types, with a prompt where somebody sees it."""
    visible = sys.stdin.isatty()
    _prompt(visible=visible)
    async for line in standard_input():
        yield line
        _prompt(visible=visible)
    if visible:
        err().print()


def _prompt(*, visible: bool) -> None:
    if visible:
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()


class _Talk:
    """One conversation on a terminal; hears what happens in its runs."""

    def __init__(self, agent: str, *, live: bool, as_json: bool) -> None:
        self._agent = agent
        self._live = live
        self._as_json = as_json
        self._shown = ""
        self.session_id = ""

    async def say(self, client: Client, session_id: str, message: str) -> int:
        """Send one message and show what comes of it; the exit code."""
        self._shown = ""
        following = Following(client, self)
        body = {"input": message}
        if session_id:
            run = await following.begin(f"/sessions/{session_id}/runs", body)
        else:
            run = await following.begin("/runs", {"agent": self._agent, **body})
        self.session_id = run.session_id
        if self._as_json:
            print_json(await client.get(f"/runs/{run.id}"))
        else:
            self._show(run)
        if following.cancelled and run.status == "cancelled":
            return _INTERRUPTED
        return 0 if run.status in {"completed", "partial", "held"} else _FAILED

    def text(self, piece: str) -> None:
        """Show a piece of the answer."""
        if self._live:
            self._shown += piece
            sys.stdout.write(clean(piece))
            sys.stdout.flush()

    def void(self) -> None:
        """What was shown does not count."""
        if self._shown:
            self._end_line()
            err().print("  (interrupted, the answer begins anew)", style="dim")

    def activity(self, what: str) -> None:
        """Show what the agent does, where it does not disturb the answer."""
        if what and not self._as_json and sys.stderr.isatty():
            self._end_line()
            err().print(f"  · {clean(what)}", style="dim")

    def _end_line(self) -> None:
        if self._shown:
            sys.stdout.write(os.linesep)
            sys.stdout.flush()
        self._shown = ""

    def _show(self, run: Run) -> None:
        console = out()
        if run.output and run.output.strip() != self._shown.strip():
            self._end_line()
            console.print(clean(run.output), soft_wrap=True)
        else:
            self._end_line()
        if run.waiting:
            for approval in run.waiting:
                call = (
                    approval.tool
                    if approval.arguments is None
                    else call_text(approval.tool, approval.arguments)
                )
                console.print(f"{call} waits for a person.  ", end="", soft_wrap=True)
            console.print(waiting_line(run), soft_wrap=True)
        elif run.status != "completed":
            err().print(f"[{run.status}{f': {clean(run.reason)}' if run.reason else ''}]", style="yellow")
