"""The schema is the sum of its migrations, and starting needs none of the libraries that make them."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from cattlegrid.adapters.sqlite import schema
from cattlegrid.adapters.sqlite.database import VERSION
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.adapters.sqlite.migrate import engine_of, migrations, upgrade
from cattlegrid.adapters.tables import LIVE, METADATA
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.journal.directory import LIVE_STATUSES
from cattlegrid.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


def described(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {
        name: " ".join(sql.split()).replace(" ,", ",").replace("( ", "(").replace(" )", ")")
        for name, sql in rows
    }


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    connection.close()
    return found


async def test_a_fresh_database_is_the_sum_of_all_migrations(tmp_path: Path) -> None:
    fresh, migrated = tmp_path / "fresh.db", tmp_path / "migrated.db"
    await (await SqliteJournal.open(fresh, clock=ManualClock())).close()
    upgrade(migrated, to=VERSION)
    assert described(fresh) == described(migrated)
    assert version(fresh) == version(migrated) == VERSION == len(migrations())


def test_the_migrations_lead_to_the_metadata(tmp_path: Path) -> None:
    upgrade(tmp_path / "migrated.db", to=VERSION)
    engine = engine_of(tmp_path / "migrated.db")
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_the_sql_file_is_rendered_from_the_metadata() -> None:
    assert schema.SCHEMA_FILE.read_text(encoding="utf-8") == schema.render()


def test_the_index_of_what_waits_names_every_live_status() -> None:
    assert "status IN (" + ", ".join(f"'{status}'" for status in LIVE_STATUSES) + ")" == LIVE


async def test_an_empty_file_becomes_a_journal_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    upgrade(path, to=0)
    store = await SqliteJournal.open(path, clock=ManualClock())
    await store.put_setting("name", "value")
    await store.close()
    assert version(path) == VERSION


def test_a_migration_that_was_made_already_is_not_made_again(tmp_path: Path) -> None:
    upgrade(tmp_path / "journal.db", to=VERSION)
    upgrade(tmp_path / "journal.db", to=VERSION)
    assert version(tmp_path / "journal.db") == VERSION


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await (await SqliteJournal.open(path, clock=ManualClock())).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        await SqliteJournal.open(path, clock=ManualClock())


async def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.db"
    text.write_text("not a database, but long enough to have a header that is not one" * 10)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in (text, other):
        before = path.read_bytes() if path == text else b""
        with pytest.raises(ConfigurationError):
            await SqliteJournal.open(path, clock=ManualClock())
        assert not before or path.read_bytes() == before
    assert set(described(other)) == {"mine"}


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "journal.db"
    store = await SqliteJournal.open(path, clock=ManualClock())
    await store.put_setting("name", "value")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await store.close()
    assert modes["journal.db"] == modes["journal.db-wal"] == 0o600


def test_opening_a_current_database_loads_neither_sqlalchemy_nor_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from cattlegrid.adapters.sqlite.journal import SqliteJournal\n"
        "from cattlegrid.adapters.clock import SystemClock\n"
        "async def main():\n"
        "    store = await SqliteJournal.open(pathlib.Path(sys.argv[1]), clock=SystemClock())\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'sqlalchemy', 'alembic'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "journal.db"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == "[]"
