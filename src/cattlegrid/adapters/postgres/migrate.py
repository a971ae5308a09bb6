"""Runs migrations: all that the database has not seen or none, in one transaction that others who upgrade wait for.

Loaded only when there is something to make. `cattlegrid.schema_version` counts the migrations of a database.
"""

from pathlib import Path
from typing import Any, Final

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from cattlegrid.adapters.tables import METADATA

SCRIPTS: Final = Path(__file__).with_name("migrations")
_VERSIONS: Final = "schema_version"
_LOCK: Final = text("SELECT pg_advisory_xact_lock(-13705::bigint << 48)")
_NAMESPACE: Final = text("SELECT to_regnamespace('cattlegrid') IS NOT NULL")
_HERE: Final = text("SET LOCAL search_path TO cattlegrid")
_COUNTER: Final = text(f"CREATE TABLE IF NOT EXISTS {_VERSIONS} (version_num integer PRIMARY KEY)")
_DONE: Final = text(f"SELECT coalesce(max(version_num), 0) FROM {_VERSIONS}")
_COUNT: Final = text(f"INSERT INTO {_VERSIONS} (version_num) VALUES (:number)")


def engine_of(conninfo: str) -> Engine:
    """An engine over psycopg."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(conninfo, prepare_threshold=None),
        poolclass=NullPool,
    )


def upgrade(conninfo: str, *, to: int) -> None:
    """Run the migrations up to number `to`. Raises sqlalchemy.exc.DBAPIError, psycopg.Error."""
    with engine_of(conninfo).begin() as connection:
        _upgrade(connection, to)


def differences(conninfo: str) -> list[object]:
    """What is not as the metadata of the tables says. Raises sqlalchemy.exc.DBAPIError, psycopg.Error."""
    with engine_of(conninfo).begin() as connection:
        connection.execute(_HERE)
        found: list[object] = list(compare_metadata(MigrationContext.configure(connection), METADATA))
    return [one for one in found if _VERSIONS not in repr(one)]


def migrations() -> list[Any]:
    """The modules of all migrations, oldest first, as Alembic orders them."""
    scripts = ScriptDirectory(str(SCRIPTS))
    return [revision.module for revision in reversed(list(scripts.walk_revisions()))]


def _upgrade(connection: Connection, to: int) -> None:
    connection.execute(_LOCK)
    if not connection.execute(_NAMESPACE).scalar_one():
        connection.execute(text("CREATE SCHEMA cattlegrid"))
    connection.execute(_HERE)
    connection.execute(_COUNTER)
    done = int(connection.execute(_DONE).scalar_one())
    operations = Operations(MigrationContext.configure(connection))
    for number, migration in enumerate(migrations(), 1):
        if done < number <= to:
            with Operations.context(operations.migration_context):
                migration.upgrade()
            connection.execute(_COUNT, {"number": number})
