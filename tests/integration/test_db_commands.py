"""`cattlegrid db`: a journal goes from SQLite to PostgreSQL and back, whole, and an unfit database is told from a fit one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cattlegrid.adapters.postgres.schema import VERSION
from tests.postgres import Cluster
from tests.scenario.till import clean_environ


class Shop:
    """A project and its command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run("-C", str(root.parent), "init", root.name)

    def ran(self, *words: str, url: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cattlegrid.app.cli", *words],
            cwd=self.root if self.root.exists() else self.root.parent,
            env=clean_environ(**({"DATABASE_URL": url} if url else {})),
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    def run(self, *words: str, url: str = "") -> str:
        done = self.ran(*words, url=url)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *words: str, url: str = "") -> Any:  # noqa: ANN401 - whatever JSON it is
        return json.loads(self.run(*words, "--json", url=url))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A new project."""
    return Shop(tmp_path / "shop")


@pytest.mark.requirement("journal:copy")
def test_a_journal_goes_to_postgres_and_back_and_everything_is_there(
    shop: Shop, postgres: Cluster, tmp_path: Path
) -> None:
    name = postgres.empty()
    url = postgres.url(name)
    shop.run("chat", "shop", "Where is my order 17?")
    file = str(shop.root / ".cattlegrid" / "journal.db")
    before = (shop.json("verify"), shop.run("runs", "show", "last"), shop.json("sessions", "list"))
    assert before[0]["seals"] > 0
    copied = shop.json("db", "copy", file, url)
    assert (copied["ok"], copied["events"]) == (True, before[0]["events"])
    there = (
        shop.json("verify", url=url),
        shop.run("runs", "show", "last", url=url),
        shop.json("sessions", "list", url=url),
    )
    assert there == before
    shop.run("chat", "shop", "Where is my order 18?", url=url)
    shop.run("replay", "last", url=url)
    after = shop.json("verify", url=url)
    assert after["ok"]
    assert after["events"] > before[0]["events"]
    back = tmp_path / "back" / "journal.db"
    assert shop.json("db", "copy", url, str(back))["events"] == after["events"]
    Path(file).unlink()
    back.rename(file)
    assert shop.json("verify") == after
    assert "18" in shop.run("runs", "show", "last")
    shop.run("chat", "shop", "Where is my order 19?")
    assert shop.json("verify")["ok"]
    postgres.drop(name)


@pytest.mark.requirement("journal:copy")
def test_nothing_is_copied_over_a_journal_nor_from_under_a_server(
    shop: Shop, postgres: Cluster, database: str
) -> None:
    shop.run("chat", "shop", "Where is my order 17?")
    file = str(shop.root / ".cattlegrid" / "journal.db")
    held = postgres.journal()
    postgres.run("SELECT cattlegrid.acquire('ses_1', '\\x00', 'somebody', 60000000, NULL)", database=held)
    done = shop.ran("db", "copy", postgres.url(held), str(shop.root / "new.db"))
    assert done.returncode == 1
    assert "stop it, then copy" in done.stderr
    assert "Traceback" not in done.stderr
    shop.run("db", "copy", file, database)
    again = shop.ran("db", "copy", file, database)
    assert again.returncode == 1
    assert "copy to an empty one" in again.stderr
    missing = shop.ran("db", "copy", "nowhere.db", database)
    assert missing.returncode == 1
    assert "There is no journal" in missing.stderr
    postgres.drop(held)


@pytest.mark.requirement("journal:refusals")
def test_check_tells_a_fit_database_from_one_that_is_not(
    shop: Shop, postgres: Cluster, database: str
) -> None:
    fit = shop.json("db", "check", url=database)
    assert fit["ok"]
    assert {one["name"] for one in fit["findings"]} >= {"server", "durability", "clock", "schema", "writes"}
    name = database.rpartition("@/")[2].partition("?")[0]
    postgres.run("DELETE FROM cattlegrid.schema_version WHERE version_num > 1", database=name)
    done = shop.ran("db", "check", url=database)
    assert done.returncode == 1
    assert "cattlegrid db upgrade" in done.stdout
    refused = shop.ran("serve", "--port", "0", url=database)
    assert refused.returncode == 1
    assert "cattlegrid db upgrade" in refused.stderr
    nobody = shop.ran("db", "check", url="postgresql://kim:hunter2secret@127.0.0.1:1/x")
    assert nobody.returncode == 1
    assert "does not answer" in nobody.stderr
    assert "hunter2secret" not in nobody.stderr + nobody.stdout


def test_upgrade_makes_or_updates_the_schema_and_says_which(shop: Shop, postgres: Cluster) -> None:
    name = postgres.empty()
    url = postgres.url(name)
    assert not json.loads(shop.ran("db", "check", "--json", url=url).stdout)["ok"]
    assert shop.json("db", "upgrade", url=url) == {"from": 0, "to": VERSION}
    assert shop.json("db", "upgrade", url=url) == {"from": VERSION, "to": VERSION}
    assert shop.json("db", "check", url=url)["ok"]
    postgres.drop(name)


def test_a_file_is_checked_and_upgraded_too(shop: Shop) -> None:
    assert not json.loads(shop.ran("db", "check", "--json").stdout)["ok"]
    shop.run("db", "upgrade")
    assert shop.json("db", "check")["ok"]
    path = shop.root / ".cattlegrid" / "journal.db"
    path.write_bytes(path.read_bytes()[:4_096] + b"\xff" * 8_192 + path.read_bytes()[12_288:])
    assert shop.ran("db", "check").returncode == 1
