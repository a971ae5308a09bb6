"""Serves the project's app to one command, inside its process and without a network."""

import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, cast

import httpx2
from starlette.types import ASGIApp

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.app.client import Client
from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.connect import Purpose, known_headers
from cattlegrid.app.development import ensure_keys
from cattlegrid.app.in_process import InProcessTransport
from cattlegrid.app.options import Options
from cattlegrid.app.settings import load_settings
from cattlegrid.app.state import StateFolder
from cattlegrid.release.project import find_root
from cattlegrid.telemetry.logs import configure

_HERE: Final = "http://127.0.0.1"


@asynccontextmanager
async def serve_here(options: Options, purpose: Purpose) -> AsyncGenerator[Client]:
    """A client of the project's app, which lives as long as the block.

    Raises:
        BundleInvalid: there is no project, or its files are wrong.
        ConfigurationError: no key is known.
        KeyMissing, StoreUnavailable: the journal cannot be opened.
    """
    quiet()
    root = find_root(options.folder)
    settings = load_settings(root)
    state = StateFolder(settings.state_folder)
    with contextlib.chdir(root):
        async with open_project(settings, background=purpose.runs) as project:
            if purpose.agent:
                await register_agents(project.registry, settings, only=purpose.agent)
            if settings.environment == "development":
                await ensure_keys(project.services.keys, state)
            async with httpx2.AsyncClient(
                base_url=_HERE,
                transport=InProcessTransport(cast("ASGIApp", project.app)),
                headers=dict(known_headers(options, purpose, state)),
                timeout=None,
            ) as http:
                yield Client(http)


def quiet() -> None:
    """Commands tell themselves what people need to know: log errors only."""
    configure(clock=SystemClock(), stream=sys.stderr, level="error")
