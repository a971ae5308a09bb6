"""`cattlegrid serve`: serve the project for others."""

import contextlib
from typing import Annotated

import typer

from cattlegrid.app.commands.dev import tell_agents
from cattlegrid.app.compose import CONCURRENCY, OpenProject, register_agents
from cattlegrid.app.connect import USER
from cattlegrid.app.development import ensure_keys
from cattlegrid.app.open_door import OpenDoor
from cattlegrid.app.options import examples, options_of, single_command
from cattlegrid.app.serving import Serving, serve
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.app.state import StateFolder
from cattlegrid.app.terminal import out
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.release.project import find_root
from cattlegrid.server.bind import is_loopback

app = single_command()


@app.command(
    "serve",
    epilog=examples(
        "cattlegrid keys create --act-as --label 'web shop'",
        "cattlegrid serve --env production --host 0.0.0.0",
        "cattlegrid serve --port 8701",
        "cattlegrid serve --no-worker",
    ),
)
def serve_command(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8700,
    environment: Annotated[
        str,
        typer.Option("--env", help="development, staging or production; default: as cattlegrid.yaml says."),
    ] = "",
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth", help="Requests of this machine need no key. Development only, loopback only."
        ),
    ] = False,
    no_worker: Annotated[
        bool,
        typer.Option(
            "--no-worker",
            help="Leave expiry, closing, retention and seals to `cattlegrid worker`. PostgreSQL only.",
        ),
    ] = False,
) -> None:
    """Serve the project for others.

    Logs one JSON line for each request on standard error. In production every agent must be exactly as it was
    committed. SIGTERM ends it: no more requests are taken, open runs may end, held ones wait for the next start.
    """
    settings = load_settings(find_root(options_of(context).folder), environment=environment)
    local = is_loopback(host)
    if no_auth and not (local and settings.environment == "development"):
        raise ConfigurationError("--no-auth is for development at a loopback address: leave it out.")
    if no_worker and not settings.database_url:
        raise ConfigurationError(
            "--no-worker is for PostgreSQL, where workers can be other processes: leave it out, or set DATABASE_URL."
        )
    state = StateFolder(settings.state_folder)

    async def prepare(project: OpenProject) -> None:
        if settings.environment == "development":
            await ensure_keys(project.services.keys, state)
        tell_agents(await register_agents(project.registry, settings))

    with contextlib.chdir(settings.project.root):
        serve(
            Serving(
                settings=settings,
                host=host,
                port=port,
                prepare=prepare,
                announce=lambda _, url: _announce(settings, url),
                front=(lambda app: app.add_middleware(OpenDoor, key=state.key("user"), user=USER))
                if no_auth
                else (lambda _: None),
                concurrency=0 if no_worker else CONCURRENCY,
            )
        )


def _announce(settings: Settings, url: str) -> None:
    model = "the scripted model, a test instrument" if settings.scripted else "a real model"
    store = "the database of DATABASE_URL" if settings.database_url else "a SQLite file"
    out().print(f"Serving at {url}  ({settings.environment}, {model}, journal in {store})", soft_wrap=True)
