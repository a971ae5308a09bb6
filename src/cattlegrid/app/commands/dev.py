"""`cattlegrid dev`: serve the project on this machine while you work on it."""

import contextlib
from pathlib import Path
from typing import Annotated, cast

import typer
from fastapi import FastAPI

from cattlegrid.app import background
from cattlegrid.app.compose import OpenProject, register_agents
from cattlegrid.app.development import ensure_keys
from cattlegrid.app.options import examples, options_of, single_command
from cattlegrid.app.serving import Serving, serve
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.state import StateFolder
from cattlegrid.app.terminal import err, out, working
from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.release.build import BuiltBundle
from cattlegrid.release.project import find_root
from cattlegrid.release.summary import describe

app = single_command()


@app.command(
    epilog=examples(
        "cattlegrid dev                        # in this terminal; Ctrl-C stops it",
        "cattlegrid dev --detach               # in the background",
        "cattlegrid dev --stop",
        "cattlegrid dev --port 0 --agent shop  # any free port, one agent only",
    )
)
def dev(
    context: typer.Context,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server of this project.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8700,
    agent: Annotated[str, typer.Option(help="Serve the files of this agent only.")] = "",
) -> None:
    """Serve the project on this machine while you work on it.

    Checks the agents' files and gives every changed agent a new number. Makes two API keys in .cattlegrid/ that the
    other commands use by themselves. Without OPENAI_API_KEY the scripted model answers. Changed files count after a
    restart.
    """
    root = find_root(options_of(context).folder)
    settings = load_settings(root)
    if settings.environment != "development":
        raise ConfigurationError(
            f"The environment is `{settings.environment}`: `cattlegrid serve` is the command for that."
        )
    state = StateFolder(settings.state_folder)
    if stop:
        _stop(state)
    elif detach:
        _detach(root, state, ["--port", str(port), *(["--agent", agent] if agent else [])])
    else:
        with contextlib.chdir(root):
            _serve(settings, state, port=port, agent=agent)


def tell_agents(registered: list[tuple[BuiltBundle, BundleVersion]]) -> None:
    """One line for each agent: its version, and what it may do."""
    for built, version in registered:
        out().print(f"{version}  {describe(built.bundle)}")
        for warning in built.warnings:
            err().print(str(warning), style="yellow")


def _serve(settings: Settings, state: StateFolder, *, port: int, agent: str) -> None:
    async def prepare(project: OpenProject) -> None:
        tell_agents(await register_agents(project.registry, settings, only=agent))
        await ensure_keys(project.services.keys, state)

    def announce(project: OpenProject, url: str) -> None:
        if settings.scripted:
            out().print(
                f"No model is set up ({settings.missing_keys}): the scripted model answers, a test instrument "
                "that follows rules.",
                style="yellow",
            )
        else:
            for name, connection in settings.used_connections.items():
                out().print(f"Model: {name} at {connection.base_url}")
        out().print(f"{url}{_page(project)}")

    serve(Serving(settings=settings, port=port, log_level="warning", prepare=prepare, announce=announce))


def _page(project: OpenProject) -> str:
    """Where a browser finds what the server can do."""
    routes = cast("FastAPI", project.app).routes
    return "/docs" if any(getattr(route, "path", "") == "/docs" for route in routes) else "/openapi.json"


def _detach(root: Path, state: StateFolder, arguments: list[str]) -> None:
    running = state.server()
    if running is not None:
        raise ConfigurationError(
            f"This project is being served already at {running.url} by process {running.pid}. "
            "Stop that first: `cattlegrid dev --stop`."
        )
    with working("Starting"):
        server = background.start(root, state, arguments)
    out().print(background.tail(state.log))
    out().print(f"Process {server.pid}, log {state.log}  Stop it with `cattlegrid dev --stop`.", style="dim")


def _stop(state: StateFolder) -> None:
    with working("Stopping: runs that are open may end"):
        server = background.stop(state)
    if server is None:
        err().print("No server of this project runs.")
    else:
        out().print(f"Stopped process {server.pid}.")
