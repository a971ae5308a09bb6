"""Knows which schema a database has, makes it in an empty one, and brings an older one up to date when told to.

The tables live in a namespace of their own, `cattlegrid`. A server makes them in an empty database by itself; it never
changes those that are there, because others of an older version may be at work: that is what `cattlegrid db upgrade` is
for. SQLAlchemy and Alembic are imported only when there is something to make.
"""

import asyncio
from typing import Final

from psycopg import Error, errors

from cattlegrid.adapters.postgres.connections import Connections
from cattlegrid.core.errors import CattlegridError, ConfigurationError, StoreUnavailable

VERSION: Final = 2
"""How many migrations there are."""

_EXISTS: Final = "SELECT to_regclass('cattlegrid.schema_version') IS NOT NULL"
_READ: Final = "SELECT coalesce(max(version_num::int), 0) FROM cattlegrid.schema_version"
_MAY_USE: Final = """
SELECT coalesce(bool_and(has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')), true)
FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('cattlegrid') AND c.relkind = 'r'
  AND c.relname <> 'schema_version'
"""


async def ensure(connections: Connections) -> None:
    """Have the schema of this version: made when there is none, refused when it is another one.

    Raises:
        ConfigurationError: it is older or newer, or this user may not make or use it.
        StoreUnavailable: the server does not answer.
    """
    found = await version_of(connections)
    if found == 0:
        await upgrade(connections)
        found = await version_of(connections)
    if found < VERSION:
        raise ConfigurationError(
            "The database has the schema of an older version. Stop the servers of that version, then bring it up to "
            "date: cattlegrid db upgrade.",
            detail=f"{connections.where} has schema {found}, this version needs {VERSION}",
        )
    if found > VERSION:
        raise ConfigurationError(
            "A newer version of Cattlegrid has made this journal.",
            detail=f"{connections.where} has schema {found}, this version knows {VERSION}",
        )
    await _check_rights(connections)


async def version_of(connections: Connections) -> int:
    """How many migrations the database has seen; 0 for a database without a journal.

    Raises:
        ConfigurationError: this user may not look.
        StoreUnavailable: the server does not answer.
    """
    try:
        if not (await connections.fetch(_EXISTS))[0][0]:
            return 0
        return int((await connections.fetch(_READ))[0][0])
    except errors.InsufficientPrivilege as error:
        raise _no_rights(connections, error) from error
    except Error as error:
        raise connections.unavailable(error) from error


async def upgrade(connections: Connections) -> None:
    """Run the migrations that the database has not seen, all of them or none; others who do so at once wait.

    Raises:
        ConfigurationError: this user may not.
        StoreUnavailable: the server does not answer.
    """
    # Loading Alembic takes longer than starting all the rest, and is needed once in the life of a version.
    from sqlalchemy.exc import DBAPIError

    from cattlegrid.adapters.postgres import migrate

    try:
        await asyncio.to_thread(migrate.upgrade, connections.conninfo, to=VERSION)
    except DBAPIError as error:
        raise _of(connections, error.orig) from error
    except Error as error:
        raise _of(connections, error) from error


async def _check_rights(connections: Connections) -> None:
    if not (await connections.read(_MAY_USE))[0][0]:
        raise ConfigurationError(
            "This user may not use the journal's tables: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN "
            "SCHEMA cattlegrid, and USAGE ON ALL SEQUENCES; or name the user that made them.",
            detail=connections.where,
        )


def _of(connections: Connections, error: BaseException | None) -> CattlegridError:
    if isinstance(error, errors.InsufficientPrivilege):
        return _no_rights(connections, error)
    if isinstance(error, Error):
        return connections.unavailable(error)
    return StoreUnavailable("The schema could not be made.", detail=repr(error))


def _no_rights(connections: Connections, error: Error) -> ConfigurationError:
    return ConfigurationError(
        "This user may not make or see the journal's tables: GRANT CREATE ON DATABASE to it, or let somebody who may "
        "run `cattlegrid db upgrade` and grant it the use of the schema `cattlegrid`.",
        detail=f"{connections.where}: {' '.join(str(error).split())}",
    )
