"""Chooses where a command's requests go: to the server that is named or runs, or to the same app inside this process.

So every command works with and without a server, through one interface and with one set of checks. What serves in this
process (`local.py`) takes a second to import and is imported only when no server runs.
"""

import importlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

import httpx2
import msgspec

from cattlegrid.app.client import Client, ServerUnreachable
from cattlegrid.app.options import Options
from cattlegrid.app.state import RunningServer, StateFolder, nearest_state
from cattlegrid.core.errors import ConfigurationError

USER: Final = "you@example.com"
"""The customer of development."""
_LIVE_S: Final = 3.0
_SILENCE_S: Final = 60.0
"""A stream that says nothing for so long, not even a heartbeat, is dead."""


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """What a command is about to do, as far as it matters for the connection."""

    acting: Literal["user", "operator"] = "operator"
    """Whose key of development it takes."""
    user: str = ""
    """For which customer, when the key acts for customers."""
    runs: bool = False
    """Whether agents run: then, without a server, what keeps sessions going starts too."""
    agent: str = ""
    """An agent whose files count as they are now: without a server, they are registered first."""


@asynccontextmanager
async def connect(options: Options, purpose: Purpose) -> AsyncGenerator[Client]:
    """A client for one command.

    Raises:
        BundleInvalid: there is no project, or its files are wrong.
        ConfigurationError: no key is known.
        ServerUnreachable: the server that should be there does not answer.
    """
    if options.url:
        if not options.key:
            raise ConfigurationError(f"Which key is for {options.url}? Give --key, or set CATTLEGRID_KEY.")
        async with _remote(options.url, headers_of(options, purpose, kept="")) as client:
            yield client
        return
    state = nearest_state(options.folder)
    server = state.server() if state is not None else None
    if state is not None and server is not None:
        async with _remote(server.url, known_headers(options, purpose, state)) as client:
            await _check_alive(client, server)
            yield client
        return
    local = importlib.import_module("cattlegrid.app.local")
    async with local.serve_here(options, purpose) as client:
        yield client


def known_headers(options: Options, purpose: Purpose, state: StateFolder) -> Mapping[str, str]:
    """The headers of the key that was given, or of the one that `dev` keeps. Raises ConfigurationError."""
    kept = state.key(purpose.acting)
    if not options.key and not kept:
        raise ConfigurationError(
            "No API key is known here. Give --key or set CATTLEGRID_KEY; `cattlegrid keys create` makes one."
        )
    return headers_of(options, purpose, kept=kept)


def headers_of(options: Options, purpose: Purpose, *, kept: str) -> Mapping[str, str]:
    """The headers that say who asks."""
    acts = not options.key and purpose.acting == "user"
    user = purpose.user or (USER if acts else "")
    named = {"X-Cattlegrid-User": user} if user else {}
    return {"Authorization": f"Bearer {options.key or kept}", **named}


@asynccontextmanager
async def _remote(url: str, headers: Mapping[str, str]) -> AsyncGenerator[Client]:
    timeout = httpx2.Timeout(_SILENCE_S, connect=5.0)
    # A proxy of the environment has no business between two processes of one machine.
    inside = httpx2.URL(url).host in {"127.0.0.1", "::1", "localhost"}
    async with httpx2.AsyncClient(
        base_url=url, headers=dict(headers), timeout=timeout, trust_env=not inside
    ) as http:
        yield Client(http)


async def _check_alive(client: Client, server: RunningServer) -> None:
    try:
        await client.get("/live", timeout_s=_LIVE_S)
    except ServerUnreachable as error:
        raise ServerUnreachable(
            f"The project's server, process {server.pid}, does not answer at {server.url}. "
            "See its log, or stop it with `cattlegrid dev --stop`."
        ) from error
