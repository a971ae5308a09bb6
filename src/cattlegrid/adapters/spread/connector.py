"""Sends procrastinate's statements over the store's kind of connections, to the namespace `cattlegrid_jobs`.

Statements name tables and functions without their namespace. A search path of the session would lead them there, but
behind a pooler nothing may be left in a session, so the names are written out instead.
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from typing import Any, Final, cast

from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector, Notify
from psycopg import AsyncCursor, Error, errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from cattlegrid.adapters.ending import uninterrupted, until_cancelled
from cattlegrid.adapters.postgres.connections import Connection, Connections

NAMESPACE: Final = "cattlegrid_jobs"
_OWN: Final = re.compile(r"\bprocrastinate_(?=[a-z])")
_AGAIN_S: Final = 1.0

Row = dict[str, Any]


class StoreConnector(BaseAsyncConnector):
    """A connector over opened `Connections`, which it does not close."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.broken = asyncio.Event()
        """Set when a statement fails for another reason than what it says; then another one takes its place."""

    async def open_async(self, pool: object = None) -> None:
        """Nothing to do."""

    async def close_async(self) -> None:
        """Nothing to do."""

    async def execute_query_async(self, query: str, **arguments: Any) -> None:  # noqa: ANN401
        """Run what has no result: the end of a job, a heartbeat. Nobody hears of an error but who waits for `broken`.

        procrastinate lets it end a task that nobody awaits. That a job is not there to be ended is no error: its worker
        was given up, and another one has done it.
        """
        with contextlib.suppress(exceptions.ConnectorException):
            await self._anywhere(query, arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> Row:  # noqa: ANN401
        return _one(await self._anywhere(query, arguments))

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[Row]:  # noqa: ANN401
        return await self._anywhere(query, arguments)

    async def execute_query_one_async_with_connection(
        self,
        connection: Connection,
        query: str,
        **arguments: Any,  # noqa: ANN401
    ) -> Row:
        return _one(await rows_of(connection, query, arguments))

    async def execute_query_all_async_with_connection(
        self,
        connection: Connection,
        query: str,
        **arguments: Any,  # noqa: ANN401
    ) -> list[Row]:
        return await rows_of(connection, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Hear of new jobs until cancelled, and connect again whenever that has broken."""
        names = list(channels)
        while True:
            try:
                await until_cancelled(self._follow(on_notification, names))
            except (Error, OSError):
                await asyncio.sleep(_AGAIN_S)  # the table is polled as well

    async def _follow(self, on_notification: Notify, channels: Sequence[str]) -> None:
        async with await self._connections.connect() as connection:
            for channel in channels:
                await connection.execute(f'LISTEN "{channel}"'.encode())
            async for notification in connection.notifies():
                await on_notification(channel=notification.channel, payload=notification.payload)

    async def _anywhere(self, query: str, arguments: Row) -> list[Row]:
        try:
            return await uninterrupted(self._run(query, arguments))
        except exceptions.ConnectorException as error:
            if not isinstance(error.__cause__, errors.RaiseException | errors.UniqueViolation):
                self.broken.set()
                self.broken = asyncio.Event()
            raise

    async def _run(self, query: str, arguments: Row) -> list[Row]:
        with translated():
            async with self._connections.use() as connection:
                return await rows_of(connection, query, arguments)


@contextlib.asynccontextmanager
async def transaction(connections: Connections) -> AsyncGenerator[Connection]:
    """A connection for one transaction. Raises procrastinate.exceptions.ConnectorException."""
    with translated():
        async with connections.use() as connection, connection.transaction():
            yield connection


async def rows_of(connection: Connection, query: str, arguments: Row) -> list[Row]:
    """The rows of a statement with named values, none for one without rows.

    Raises:
        procrastinate.exceptions.ConnectorException: whatever the database says.
    """
    with translated():
        cursor = AsyncCursor(cast("Any", connection), row_factory=dict_row)
        await cursor.execute(
            qualified(query).encode(), {name: _as_value(value) for name, value in arguments.items()}
        )
        return await cursor.fetchall() if cursor.description is not None else []


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Errors of the database as procrastinate knows them."""
    try:
        yield
    except errors.UniqueViolation as error:
        raise exceptions.UniqueViolation(
            constraint_name=error.diag.constraint_name or "", queueing_lock=None
        ) from error
    except Error as error:
        raise exceptions.ConnectorException(str(error)) from error


@functools.cache
def qualified(query: str) -> str:
    """The statement with the namespace of every name that is procrastinate's."""
    return _OWN.sub(f"{NAMESPACE}.procrastinate_", query)


def _as_value(value: object) -> object:
    convert: Callable[[Any], object] = _as_value
    match value:
        case dict():
            return Jsonb(value)
        case list():
            return [convert(item) for item in cast("list[Any]", value)]
        case tuple():
            return tuple(convert(item) for item in cast("tuple[Any, ...]", value))
        case _:
            return value


def _one(rows: list[Row]) -> Row:
    if not rows:
        raise exceptions.NoResult
    return rows[0]
