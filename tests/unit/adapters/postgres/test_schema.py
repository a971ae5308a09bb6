"""The schema is the sum of its migrations, is made where there is none, and left alone where it is another one."""

import subprocess
import sys
from pathlib import Path

import pytest

from cattlegrid.adapters.postgres import migrate
from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.adapters.postgres.schema import VERSION
from cattlegrid.core.errors import ConfigurationError
from tests.postgres import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("journal:sharing")]


def name_of(url: str) -> str:
    return url.rpartition("@/")[2].partition("?")[0]


def test_the_migrations_lead_to_the_metadata(database: str) -> None:
    assert len(migrate.migrations()) == VERSION
    assert migrate.differences(database) == []


async def test_an_empty_database_becomes_a_journal_even_when_several_open_it_at_once(
    postgres: Cluster, tmp_path: Path
) -> None:
    name = postgres.empty()
    command = (
        "import asyncio, pathlib, sys\n"
        "from cattlegrid.adapters.postgres.journal import PostgresJournal\n"
        "async def main():\n"
        "    store = await PostgresJournal.open(sys.argv[1], ledger=pathlib.Path(sys.argv[2]))\n"
        "    print(await store.first_setting('who', sys.argv[3]))\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    arguments = [sys.executable, "-c", command, postgres.url(name), str(tmp_path / "erasures.jsonl")]
    processes = [
        subprocess.Popen([*arguments, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    done = [process.communicate(timeout=50) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], done
    assert len({said for said, _ in done}) == 1
    postgres.drop(name)


async def test_opening_a_current_database_loads_neither_sqlalchemy_nor_alembic(
    database: str, tmp_path: Path
) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from cattlegrid.adapters.postgres.journal import PostgresJournal\n"
        "async def main():\n"
        "    await (await PostgresJournal.open(sys.argv[1], ledger=pathlib.Path(sys.argv[2]))).close()\n"
        "asyncio.run(main())\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'sqlalchemy', 'alembic'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, database, tmp_path / "erasures.jsonl"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (f"INSERT INTO cattlegrid.schema_version VALUES ({VERSION + 1})", "newer version"),
        (f"DELETE FROM cattlegrid.schema_version WHERE version_num = {VERSION}", "cattlegrid db upgrade"),
    ],
)
async def test_a_database_of_another_version_is_refused_with_what_to_do(
    postgres: Cluster, database: str, tmp_path: Path, change: str, says: str
) -> None:
    postgres.run(change, database=name_of(database))
    with pytest.raises(ConfigurationError, match=says):
        await PostgresJournal.open(database, ledger=tmp_path / "erasures.jsonl")


async def test_a_user_without_rights_is_told_which_ones_are_missing(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    postgres.run("DROP ROLE IF EXISTS guest")
    postgres.run("CREATE ROLE guest LOGIN")
    empty = postgres.empty()
    for name, says in ((empty, "GRANT CREATE ON DATABASE"), (name_of(database), "GRANT")):
        with pytest.raises(ConfigurationError, match=says):
            await PostgresJournal.open(postgres.url(name, user="guest"), ledger=tmp_path / "erasures.jsonl")
    postgres.run("GRANT USAGE ON SCHEMA cattlegrid TO guest", database=name_of(database))
    postgres.run("GRANT SELECT ON cattlegrid.schema_version TO guest", database=name_of(database))
    with pytest.raises(ConfigurationError, match="ON ALL TABLES"):
        await PostgresJournal.open(
            postgres.url(name_of(database), user="guest"), ledger=tmp_path / "erasures.jsonl"
        )
    for things in ("ALL TABLES", "ALL SEQUENCES"):
        postgres.run(f"GRANT ALL ON {things} IN SCHEMA cattlegrid TO guest", database=name_of(database))
    store = await PostgresJournal.open(
        postgres.url(name_of(database), user="guest"), ledger=tmp_path / "erasures.jsonl"
    )
    await store.ping()
    await store.close()
    postgres.drop(empty)
    postgres.drop(name_of(database))
    postgres.run("DROP ROLE guest")
