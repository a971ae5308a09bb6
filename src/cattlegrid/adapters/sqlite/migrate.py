"""Brings an older database up to date: runs the migrations that it has not seen, all of them or none.

Loaded only when that is needed. `PRAGMA user_version` counts the migrations of the file; Alembic keeps no table of its
own in it.
"""

import sqlite3
from pathlib import Path
from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, text

SCRIPTS: Final = Path(__file__).with_name("migrations")


def engine_of(path: Path, *, busy_ms: int = 5_000) -> Engine:
    """An engine whose transactions are SQLite's own, data definition included."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None),
        poolclass=StaticPool,
    )

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "begin", begin)
    return engine


def upgrade(path: Path, *, to: int, busy_ms: int = 5_000) -> None:
    """Run the migrations up to number `to`; another process that was first leaves nothing to do."""
    engine = engine_of(path, busy_ms=busy_ms)
    try:
        with engine.begin() as connection:
            done = int(connection.execute(text("PRAGMA user_version")).scalar_one())
            operations = Operations(MigrationContext.configure(connection))
            for number, migration in enumerate(migrations(), 1):
                if done < number <= to:
                    with Operations.context(operations.migration_context):
                        migration.upgrade()
            if done < to:
                connection.exec_driver_sql(f"PRAGMA user_version={to}")
    finally:
        engine.dispose()


def migrations() -> list[Any]:
    """The modules of all migrations, oldest first, as Alembic orders them."""
    scripts = ScriptDirectory(str(SCRIPTS))
    return [revision.module for revision in reversed(list(scripts.walk_revisions()))]
