"""Opens connections to the one database file, keeps its schema current, and notices when the file is no longer it.

A fresh database is made from `schema.sql`; an older one is brought up to date by the migrations, which alone need
SQLAlchemy and Alembic; a newer one is refused. `PRAGMA user_version` tells which of them it is.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from cattlegrid.core.errors import ConfigurationError, StoreUnavailable

VERSION: Final = 2
"""How many migrations there are."""

_SCHEMA: Final = Path(__file__).with_name("schema.sql")
_WAL_PAGES: Final = 2_000
_CACHE_KIB: Final = 16_384


class Database:
    """The file: where it is, and which file it was when it was opened."""

    def __init__(self, path: Path, *, busy_s: float) -> None:
        self.path: Final = path
        self._wal = path.with_name(path.name + "-wal")
        self.busy_ms: Final = round(busy_s * 1000)
        self._identity: tuple[int, int] | None = None
        self._wal_identity: tuple[int, int] | None = None
        self._anchor: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """Make the file when there is none, and bring its schema up to date.

        Raises:
            StoreUnavailable: it cannot be made or opened.
            ConfigurationError: it is no database, or one that a newer version has made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            status = os.fstat(handle)
            os.close(handle)
        except OSError as error:
            raise unavailable(error, self.path) from error
        self._identity = (status.st_dev, status.st_ino)
        try:
            self._make_current()
            self._drop_anchor()
        except sqlite3.Error as error:
            if error_code(error) == sqlite3.SQLITE_NOTADB:
                detail = f"{self.path}: {error}"
                raise ConfigurationError("The journal's file is not a database.", detail=detail) from error
            raise unavailable(error, self.path) from error

    def close(self) -> None:
        """Let go of the file, after every other connection."""
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def connect(self, *, read_only: bool = False, busy_s: float | None = None) -> sqlite3.Connection:
        """A connection for one thread, which waits for locks as long as the store, or for `busy_s`.

        Raises sqlite3.Error, StoreUnavailable.
        """
        self.check_identity()
        uri = f"{self.path.absolute().as_uri()}?mode=rw"  # never makes a file where one has vanished
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self.busy_ms / 1000 if busy_s is None else busy_s,
            isolation_level=None,
            cached_statements=256,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            if read_only:
                connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def check_identity(self) -> None:
        """Prove that the path still leads to the file that was opened, and so for its write-ahead log.

        Raises:
            StoreUnavailable: the file was deleted, moved or replaced: what is written now would be lost.
        """
        if _identity(self.path) != self._identity:
            raise StoreUnavailable("The journal's file is gone or was replaced.", detail=str(self.path))
        if self._anchor is not None and _identity(self._wal) != self._wal_identity:
            raise StoreUnavailable("The journal's log is gone or was replaced.", detail=str(self._wal))

    def _make_current(self) -> None:
        connection = self.connect()
        try:
            version = _version(connection)
            if version == 0:
                version = self._create(connection)
        finally:
            connection.close()
        if version > VERSION:
            detail = f"{self.path} has schema {version}, this version knows {VERSION}"
            raise ConfigurationError("A newer version of Cattlegrid has made this journal.", detail=detail)
        if version < VERSION:
            # Loading Alembic takes longer than starting all the rest, and is needed once in the life of a version.
            from cattlegrid.adapters.sqlite import migrate

            migrate.upgrade(self.path, to=VERSION, busy_ms=self.busy_ms)

    def _drop_anchor(self) -> None:
        """Hold the file open: the last connection that closes takes the log with it, and only then may it vanish."""
        anchor = self.connect()
        anchor.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._wal_identity = _identity(self._wal)
        self._anchor = anchor

    def _create(self, connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and tables == 0:
                for statement in _SCHEMA.read_text(encoding="utf-8").split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
                version = VERSION
            elif version == 0:
                raise ConfigurationError("The journal's file holds something else.", detail=str(self.path))
            connection.execute("COMMIT")
        finally:
            roll_back(connection)
        return version


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed, if it has not ended by itself."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def unavailable(error: Exception, path: Path) -> StoreUnavailable:
    """The error that callers see for one of the database or the file system."""
    name = getattr(error, "sqlite_errorname", "")
    return StoreUnavailable("The journal is not available.", detail=f"{path}: {name} {error}")


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html), 0 when the error has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - once in every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino
