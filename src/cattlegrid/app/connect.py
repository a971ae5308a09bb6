"""Chooses where a command's requests go: to the server that is named or runs, or to the same app inside this process.

So every command works with and without a server, through one interface and with one set of checks.
"""

import contextlib
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, cast

import httpx2
import msgspec
from starlette.types import ASGIApp

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.app.client import Client, ServerUnreachable
from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.development import USER, ensure_keys
from cattlegrid.app.in_process import InProcessTransport
from cattlegrid.app.options import Options
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.state import RunningServer, StateFolder
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.release.project import find_root
from cattlegrid.telemetry.logs import configure

_LIVE_S: Final = 3.0
_SILENCE_S: Final = 60.0
"""A stream that says nothing for so long, not even a heartbeat, is dead."""
_HERE: Final = "http://127.0.0.1"


def quiet() -> None:
    """Commands tell themselves what people need to know: log errors only."""
    configure(clock=SystemClock(), stream=sys.stderr, level="error")


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
        async with _remote(options.url, _headers(options.key, purpose.user)) as client:
            yield client
        return
    root = find_root(options.folder)
    settings = load_settings(root)
    state = StateFolder(settings.state_folder)
    server = state.server()
    if server is not None:
        async with _remote(server.url, _known_headers(options, purpose, settings, state)) as client:
            await _check_alive(client, server)
            yield client
        return
    with contextlib.chdir(root):
        async with _local(options, purpose, settings, state) as client:
            yield client


@asynccontextmanager
async def _remote(url: str, headers: Mapping[str, str]) -> AsyncGenerator[Client]:
    timeout = httpx2.Timeout(_SILENCE_S, connect=5.0)
    # A proxy of the environment has no business between two processes of one machine.
    inside = httpx2.URL(url).host in {"127.0.0.1", "::1", "localhost"}
    async with httpx2.AsyncClient(
        base_url=url, headers=dict(headers), timeout=timeout, trust_env=not inside
    ) as http:
        yield Client(http)


@asynccontextmanager
async def _local(
    options: Options, purpose: Purpose, settings: Settings, state: StateFolder
) -> AsyncGenerator[Client]:
    quiet()
    async with open_project(settings, background=purpose.runs) as project:
        if purpose.agent:
            await register_agents(project.registry, settings, only=purpose.agent)
        if settings.environment == "development":
            await ensure_keys(project.services.keys, state)
        headers = _known_headers(options, purpose, settings, state)
        transport = InProcessTransport(cast("ASGIApp", project.app))
        async with httpx2.AsyncClient(
            base_url=_HERE, transport=transport, headers=dict(headers), timeout=_SILENCE_S
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


def _known_headers(
    options: Options, purpose: Purpose, settings: Settings, state: StateFolder
) -> dict[str, str]:
    if options.key:
        return _headers(options.key, purpose.user)
    kept = state.key(purpose.acting) if settings.environment == "development" else ""
    if not kept:
        raise ConfigurationError(
            "No API key is known here. Give --key or set CATTLEGRID_KEY; `cattlegrid keys create` makes one."
        )
    return _headers(kept, (purpose.user or USER) if purpose.acting == "user" else "")


def _headers(key: str, user: str) -> dict[str, str]:
    named = {"X-Cattlegrid-User": user} if user else {}
    return {"Authorization": f"Bearer {key}", **named}
