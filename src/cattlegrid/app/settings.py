"""Turns a project's folder and the environment into the settings of one process. Secrets stay out of `repr`."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.app.connections import Connection, connections_of, used, what_is_missing
from cattlegrid.app.secret import Secret
from cattlegrid.app.tracing import collector_of
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.release.project import STATE_FOLDER, Project, load_project
from cattlegrid.telemetry.traces import Collector

ENVIRONMENTS: Final = ("development", "staging", "production")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process runs a project. Each field but the first two can be set by the environment."""

    project: Project
    holder: str
    """Name of this process in leases: host, pid and when it began."""
    environment: str = "development"
    state_folder: Path
    """`CATTLEGRID_STATE`: the store, its key and what else is made at run time."""
    database_url: Secret = Secret()
    """`DATABASE_URL`: the PostgreSQL database of the store; a SQLite file in the state folder when empty."""
    master_key: Secret = Secret()
    """`CATTLEGRID_MASTER_KEY`: the key-encryption key, base64; else a file in the state folder."""
    connections: Mapping[str, Connection]
    """Where models are asked, by provider; keys and addresses come from the environment."""
    persona: str = "careful"
    """`CATTLEGRID_PERSONA`: who the scripted model plays when there is no real one."""
    lease_s: float = 5.0
    """`CATTLEGRID_LEASE_S`: how long a session stays with a process of which nothing is heard."""
    leave_s: float = 3.0
    """`CATTLEGRID_LEAVE_S`: how long a process of several is not ready, yet serves, before it stops."""
    collector: Collector | None = None
    """Where traces go, by OpenTelemetry's variables; see `tracing.py`."""
    crash_at: str = ""
    """`CATTLEGRID_CRASH_AT`, in development only: `name` or `name:occurrence` of a crash point."""

    @property
    def scripted(self) -> bool:
        """Whether the scripted model answers, since no real one is set up."""
        return not any(connection.ready for connection in self.used_connections.values())

    @property
    def used_connections(self) -> Mapping[str, Connection]:
        """The connections that models of the project name."""
        return used(self.project.file, self.connections)

    @property
    def missing_keys(self) -> str:
        """The variables to set before every model of the project can be asked; empty when all can."""
        return what_is_missing(self.used_connections.values())

    @property
    def database(self) -> Path:
        return self.state_folder / "journal.db"


def load_settings(
    root: Path, environ: Mapping[str, str] | None = None, *, environment: str = "", serial: str = ""
) -> Settings:
    """The settings of a project.

    Args:
        root: the folder of `cattlegrid.yaml`.
        environ: the process's environment when absent.
        environment: overrides what the file says.
        serial: sets two processes with the same pid apart; by default when this one began.

    Raises:
        BundleInvalid: the project's file is wrong.
        ConfigurationError: a value of the environment is.
    """
    environ = os.environ if environ is None else environ
    project = load_project(root)
    chosen = environment or environ.get("CATTLEGRID_ENV", "") or project.file.environment
    if chosen not in ENVIRONMENTS:
        raise ConfigurationError(f"The environment `{chosen}` is none of {', '.join(ENVIRONMENTS)}.")
    holder = f"{socket.gethostname()}-{os.getpid()}-{serial or os.urandom(4).hex()}"
    settings = Settings(
        project=project,
        holder=holder,
        environment=chosen,
        state_folder=Path(environ.get("CATTLEGRID_STATE") or root / STATE_FOLDER).resolve(),
        database_url=Secret(environ.get("DATABASE_URL", "")),
        master_key=Secret(environ.get("CATTLEGRID_MASTER_KEY", "")),
        connections=connections_of(project.file, environ),
        persona=environ.get("CATTLEGRID_PERSONA", "careful"),
        lease_s=_seconds(environ, "CATTLEGRID_LEASE_S", 5.0),
        leave_s=_seconds(environ, "CATTLEGRID_LEAVE_S", 3.0),
        collector=collector_of(environ, environment=chosen, instance=holder),
        crash_at=environ.get("CATTLEGRID_CRASH_AT", ""),
    )
    if settings.scripted and chosen == "production":
        raise ConfigurationError(
            f"No model is set up: set {settings.missing_keys}. The scripted model does not serve production."
        )
    if settings.crash_at and chosen != "development":
        raise ConfigurationError("CATTLEGRID_CRASH_AT is for development only: unset it.")
    return settings


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0.2 <= value <= 3600:
        raise ConfigurationError(f"{name} must be a number of seconds from 0.2 to 3600, not `{text}`.")
    return value
