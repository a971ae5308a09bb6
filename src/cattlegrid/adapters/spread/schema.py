"""Makes the tables of the jobs in a database that has none, and brings older ones up to date when told to.

`cattlegrid_jobs.made_of` lists the files that have been run: procrastinate's schema stands for all migrations that came
with it, and those of a later version are run one by one.
"""

from importlib import resources
from pathlib import Path
from typing import Final

from procrastinate.schema import SchemaManager
from psycopg import Error, errors

from cattlegrid.adapters.postgres.connections import Connection, Connections, fetch
from cattlegrid.core.errors import ConfigurationError

_OWN: Final = "cattlegrid.1.sql"
_LOCK: Final = "SELECT pg_advisory_xact_lock((-13705::bigint << 48) + 1)"
_HERE: Final = "SET LOCAL search_path TO cattlegrid_jobs"
_EXISTS: Final = "SELECT to_regclass('cattlegrid_jobs.made_of') IS NOT NULL"
_DONE: Final = "SELECT file FROM cattlegrid_jobs.made_of"
_NOTE: Final = "INSERT INTO cattlegrid_jobs.made_of (file) VALUES ($1)"
_FIX_PATHS: Final = """
DO $$
DECLARE
  found regprocedure;
BEGIN
  FOR found IN SELECT oid FROM pg_proc WHERE pronamespace = 'cattlegrid_jobs'::regnamespace LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = cattlegrid_jobs, pg_temp', found);
  END LOOP;
END
$$
"""
"""The functions find each other whoever calls them, and nobody can slip in tables of their own."""


async def ensure(connections: Connections) -> None:
    """Have the tables of this version: made when there are none, refused when they are older.

    Raises:
        ConfigurationError: they are older, or this user may not make or use them.
        StoreUnavailable: the server does not answer.
    """
    missing = await lacking(connections)
    if missing is None:
        await upgrade(connections)
    elif missing:
        raise ConfigurationError(
            "The database has the jobs of an older version. Stop the servers and workers of that version, then bring "
            "it up to date: cattlegrid db upgrade.",
            detail=f"{connections.where} lacks {', '.join(missing)}",
        )


async def lacking(connections: Connections) -> list[str] | None:
    """What has not been run yet; None when there are no tables at all.

    Raises:
        ConfigurationError: this user may not look.
        StoreUnavailable: the server does not answer.
    """
    try:
        if not (await connections.fetch(_EXISTS))[0][0]:
            return None
        done = {str(row[0]) for row in await connections.fetch(_DONE)}
    except errors.InsufficientPrivilege as error:
        raise _no_rights(connections, error) from error
    except Error as error:
        raise connections.unavailable(error) from error
    return [name for name in _files() if name not in done]


async def upgrade(connections: Connections) -> None:
    """Make what is missing, each file in a transaction of its own; others who do so at once wait.

    Raises:
        ConfigurationError: this user may not.
        StoreUnavailable: the server does not answer.
    """
    try:
        for name in ("", *_files()):
            async with connections.use(patience_s=60.0) as connection, connection.transaction():
                await fetch(connection, _LOCK)
                await (_run(connection, name) if name else _begin(connection))
    except errors.InsufficientPrivilege as error:
        raise _no_rights(connections, error) from error
    except Error as error:
        raise connections.unavailable(error) from error


async def _begin(connection: Connection) -> None:
    """Make the namespace with procrastinate's schema, unless it is there."""
    if (await fetch(connection, _EXISTS))[0][0]:
        return
    for statement in (
        "CREATE SCHEMA cattlegrid_jobs",
        _HERE,
        "CREATE TABLE cattlegrid_jobs.made_of (file text PRIMARY KEY)",
        SchemaManager.get_schema(),
        _FIX_PATHS,
    ):
        await connection.execute(statement.encode(), prepare=False)
    for name in _files():
        if name != _OWN:
            await fetch(connection, _NOTE, (name,))


async def _run(connection: Connection, name: str) -> None:
    """Run one file, unless it has been run."""
    if await fetch(connection, f"{_DONE} WHERE file = $1", (name,)):
        return
    for statement in (_HERE, _text(name), _FIX_PATHS):
        await connection.execute(statement.encode(), prepare=False)
    await fetch(connection, _NOTE, (name,))


def _files() -> list[str]:
    """Everything that has to be run, in its order."""
    folder = Path(SchemaManager.get_migrations_path())
    return [*sorted(path.name for path in folder.glob("*.sql")), _OWN]


def _text(name: str) -> str:
    if name == _OWN:
        return (resources.files("cattlegrid.adapters.spread") / "tables.sql").read_text(encoding="utf-8")
    return (Path(SchemaManager.get_migrations_path()) / name).read_text(encoding="utf-8")


def _no_rights(connections: Connections, error: Error) -> ConfigurationError:
    return ConfigurationError(
        "This user may not make or see the tables of the jobs: GRANT CREATE ON DATABASE to it, or let somebody who "
        "may run `cattlegrid db upgrade` and grant it the use of the schema `cattlegrid_jobs`.",
        detail=f"{connections.where}: {' '.join(str(error).split())}",
    )
