"""Keeps connections to one database: a pool with deadlines, what the server is like, and its errors as ours.

A call that does not come back in time has its socket shut down: psycopg then sees the end of the connection, whatever
the network does, and the pool replaces it. Behind a pooler that hands each transaction to another server connection
(PgBouncer's transaction mode) nothing may be left in a session: no prepared statements, no settings, no LISTEN.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection, AsyncRawCursor, Error, OperationalError, ProgrammingError, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8BinaryDumper
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from cattlegrid.adapters.postgres.arrays import teach
from cattlegrid.core.errors import CattlegridError, ConfigurationError, StoreUnavailable

Connection = AsyncConnection[tuple[Any, ...]]

_DEFAULTS: Final = {
    "application_name": "cattlegrid",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_FACTS: Final = """
SELECT pg_backend_pid(), current_setting('server_version_num')::int, current_setting('synchronous_commit'),
       current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', pg_is_in_recovery()
"""
_OLDEST: Final = 140_000
_LOST: Final = ("57P", "08")
"""The server ends, or the connection has (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
POOL: Final = 8
_FREE_S: Final = 2.0
"""How long to wait for a connection of the pool: long when all are busy, and no time to keep a client waiting."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server is like."""

    version: int
    """As in `server_version_num`: 160004 is 16.4."""
    pooled: bool
    """Whether somebody between us and the server hands transactions to connections of its own."""
    synchronous_commit: str
    fsync: bool
    full_page_writes: bool
    in_recovery: bool

    @property
    def unsafe(self) -> str:
        """The settings with which a crash of the server may lose what it acknowledged; empty when there are none."""
        off = {"fsync": self.fsync, "full_page_writes": self.full_page_writes}
        return ", ".join(f"{name} is off" for name, on in off.items() if not on)


class Connections:
    """See the module. Made by `open`."""

    def __init__(self, url: str, *, patience_s: float = 10.0, size: int = POOL) -> None:
        """Nothing is connected yet.

        Args:
            url: `postgresql://user:password@host:port/database?options`.
            patience_s: how long one statement may take.
            size: the most connections of the pool; one more listens for notifications.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        self.conninfo: Final = conninfo_of(url)
        self.where: Final = _where(self.conninfo)
        self.patience_s: Final = patience_s
        self.facts: Facts
        self._size = size
        self._pool: AsyncConnectionPool[Connection] | None = None

    async def open(self) -> None:
        """Connect once, to learn what there is, and keep a pool from then on.

        Raises:
            StoreUnavailable: nobody answers.
            ConfigurationError: whoever answers does not let us in, or is no server that can be used.
        """
        self.facts = await self._look()
        self._pool = AsyncConnectionPool(
            self.conninfo,
            connection_class=Connection,
            kwargs={"autocommit": True, "cursor_factory": AsyncRawCursor},
            min_size=1,
            max_size=self._size,
            timeout=_FREE_S,
            reconnect_timeout=_FREE_S,
            configure=self._configure,
            open=False,
        )
        await self._pool.open()

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        if self._pool is not None:
            await self._pool.close(timeout=5.0)
            self._pool = None

    async def connect(self) -> Connection:
        """A connection outside of the pool. Raises psycopg.Error."""
        connection = await Connection.connect(self.conninfo, autocommit=True, cursor_factory=AsyncRawCursor)
        await self._configure(connection)
        return connection

    @contextlib.asynccontextmanager
    async def use(self, *, patience_s: float | None = None) -> AsyncGenerator[Connection]:
        """A connection for as long as the block, which ends in time or not at all.

        Raises psycopg.Error as it comes.
        """
        if self._pool is None:
            raise PoolClosed("the store is closed")
        connection = await self._healthy(self._pool)
        after_s = self.patience_s if patience_s is None else patience_s
        watch = asyncio.get_running_loop().call_later(after_s, _shut_down, connection)
        try:
            yield connection
        finally:
            watch.cancel()
            await self._pool.putconn(connection)

    async def fetch(
        self, query: str, values: Sequence[object] = (), *, patience_s: float | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement. Raises psycopg.Error as it comes."""
        async with self.use(patience_s=patience_s) as connection:
            return await fetch(connection, query, values)

    async def read(
        self, query: str, values: Sequence[object] = (), *, patience_s: float | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a query that changes nothing; asked again on another connection when the first one breaks.

        Raises:
            StoreUnavailable: no answer.
        """
        try:
            try:
                return await self.fetch(query, values, patience_s=patience_s)
            except Error as error:
                if not is_lost(error) or isinstance(error, PoolTimeout):
                    raise
                return await self.fetch(query, values, patience_s=patience_s)
        except Error as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: Error) -> StoreUnavailable:
        """The error that callers see for one of the database."""
        return StoreUnavailable("The journal is not available.", detail=f"{self.where}: {_said(error)}")

    async def _healthy(self, pool: AsyncConnectionPool[Connection]) -> Connection:
        """A connection that has not been closed from the other side while nobody used it."""
        while True:
            connection = await pool.getconn()
            if not _ended(connection):
                return connection
            await connection.close()
            await pool.putconn(connection)

    async def _configure(self, connection: Connection) -> None:
        teach(connection)
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.prepare_threshold = None if self.facts.pooled else 0
        if self.facts.synchronous_commit == "off":
            await connection.execute("SET synchronous_commit = on")

    async def _look(self) -> Facts:
        try:
            connection = await Connection.connect(self.conninfo, autocommit=True)
        except Error as error:
            raise self._refused(error) from error
        try:
            pid, *rest = (await fetch(connection, _FACTS))[0]
            version, synchronous_commit, fsync, full_page_writes, in_recovery = rest
            facts = Facts(
                version=version,
                pooled=pid != connection.info.backend_pid,
                synchronous_commit=synchronous_commit,
                fsync=fsync,
                full_page_writes=full_page_writes,
                in_recovery=in_recovery,
            )
        except Error as error:
            raise self.unavailable(error) from error
        finally:
            await connection.close()
        self._check(facts)
        return facts

    def _check(self, facts: Facts) -> None:
        if facts.version < _OLDEST:
            raise ConfigurationError(
                f"PostgreSQL {_OLDEST // 10_000} or newer is needed.",
                detail=f"{self.where} is version {facts.version // 10_000}",
            )
        if facts.in_recovery:
            raise ConfigurationError(
                "This PostgreSQL server is a standby, which takes no writes: name the primary in DATABASE_URL.",
                detail=self.where,
            )
        if facts.pooled and facts.synchronous_commit == "off":
            raise ConfigurationError(
                "The server does not wait until what it acknowledges is durable, and behind a pooler that cannot be "
                "changed for one program: ALTER DATABASE ... SET synchronous_commit = on.",
                detail=self.where,
            )

    def _refused(self, error: Error) -> CattlegridError:
        """Why there is no connection; the server's own words are the only thing that tells."""
        said = _said(error)
        for words, message in _REFUSALS:
            if words in said:
                return ConfigurationError(message, detail=f"{self.where}: {said}")
        return StoreUnavailable(
            "PostgreSQL does not answer. Is it running, and does DATABASE_URL name the right host and port?",
            detail=f"{self.where}: {said}",
        )


_REFUSALS: Final = (
    ("password authentication failed", "PostgreSQL refuses the user or the password of DATABASE_URL."),
    (
        "no password supplied",
        "PostgreSQL wants a password: put it into DATABASE_URL, or into a .pgpass file.",
    ),
    (
        "does not exist",
        "The database or the user of DATABASE_URL does not exist: create it, or name another one.",
    ),
    ("pg_hba.conf", "PostgreSQL lets this user not in from here: see its pg_hba.conf."),
    (
        "permission denied for database",
        "This user may not connect to the database: GRANT CONNECT ON DATABASE.",
    ),
    ("certificate", "The TLS certificates of DATABASE_URL and of the server do not fit together."),
)


async def fetch(connection: Connection, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """The rows of one statement, none for one without rows. Raises psycopg.Error."""
    cursor = connection.cursor()
    await cursor.execute(query.encode(), values, binary=True)
    return await cursor.fetchall() if cursor.description is not None else []


def is_lost(error: Error) -> bool:
    """Whether the connection is gone, so that nobody knows what became of the statement."""
    if error.sqlstate is None:
        return isinstance(error, OperationalError)
    return error.sqlstate.startswith(_LOST)


def may_try_again(error: Error) -> bool:
    """Whether the very same statement may well succeed: it was rolled back for being in somebody's way."""
    return (error.sqlstate or "").startswith("40")


def is_unwritable(error: Error) -> bool:
    """Whether the values are to blame: they are not such as the database takes."""
    return isinstance(error, errors.DataError | errors.IntegrityError)


def _said(error: Error) -> str:
    text = " ".join(str(error).split())
    return f"{error.sqlstate} {text}" if error.sqlstate else text or type(error).__name__


def _ended(connection: Connection) -> bool:
    """Whether the other side has closed a connection on which nothing is expected."""
    poll = select.poll()  # `select` knows no file numbers above 1023
    try:
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, Error):
        return True


def _shut_down(connection: Connection) -> None:
    with contextlib.suppress(OSError, Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


def conninfo_of(url: str) -> str:
    """What libpq takes, from a URL, with our defaults. Raises ConfigurationError."""
    scheme = url.partition("://")[0]
    if scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ConfigurationError(
            "DATABASE_URL must begin with `postgresql://`; without it the journal is a SQLite file.",
            detail=f"it begins with `{scheme[:20]}`",
        )
    try:
        given = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
        return make_conninfo("", **{**_DEFAULTS, **given})
    except ProgrammingError:  # its text would show the password
        raise ConfigurationError(
            "DATABASE_URL cannot be read: write `postgresql://user:password@host:port/database`, with special "
            "characters of the password percent-encoded."
        ) from None


def _where(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    return f"{parts.get('user', '')}@{host}:{port}/{parts.get('dbname', '')}"
