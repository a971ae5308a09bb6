"""No query of the hot path or of upkeep goes through a whole table."""

import sqlite3
from collections.abc import Callable, Generator

import pytest

from cattlegrid.adapters.sqlite import reading
from cattlegrid.adapters.sqlite.schema import SCHEMA_FILE
from cattlegrid.journal.store import EntryQuery


class Explaining(sqlite3.Connection):
    """Keeps the plan of every query."""

    plans: list[str]

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        plan = super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)  # pyright: ignore[reportArgumentType]
        self.plans.extend(step[3] for step in plan)
        return super().execute(sql, parameters)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def connection() -> Generator[Explaining]:
    made = sqlite3.connect(":memory:", factory=Explaining)
    made.executescript(SCHEMA_FILE.read_text(encoding="utf-8"))
    made.plans = []
    yield made
    made.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (EntryQuery(kind="run", statuses=("running",)), "entries_live"),
        (EntryQuery(kind="run", statuses=("running", "held"), before_id="run_9"), "entries_live"),
        (EntryQuery(kind="session", statuses=("open",), updated_before_us=5, tenant="acme"), "entries_live"),
        (EntryQuery(kind="approval", statuses=("pending",), due_before_us=5), "entries_live"),
        (EntryQuery(kind="session", owner="usr_ann"), "entries_owner"),
        (EntryQuery(kind="run", owner="usr_ann", statuses=("running",)), "entries_owner"),
        (EntryQuery(kind="run", stream="ses_1"), "entries_owner"),
        (EntryQuery(kind="run", stream="ses_1", statuses=("running", "held")), "entries_owner"),
        (EntryQuery(kind="session", tenant="acme"), "PRIMARY KEY"),
        (EntryQuery(kind="session", statuses=("completed",), before_id="ses_9"), "PRIMARY KEY"),
    ],
    ids=lambda value: "-".join(value.statuses) or value.kind if isinstance(value, EntryQuery) else value,
)
def test_entries_are_found_by_the_index_that_is_made_for_them(
    connection: Explaining, query: EntryQuery, index: str
) -> None:
    reading.entries(connection, query)
    assert (
        f"SEARCH entries USING {'' if index == 'PRIMARY KEY' else 'INDEX '}{index} (" in connection.plans[0]
    )
    assert not any(step.startswith("SCAN") for step in connection.plans)


HOT: dict[str, Callable[[sqlite3.Connection], object]] = {
    "head": lambda connection: reading.head(connection, "ses_1"),
    "rows": lambda connection: reading.rows(connection, "ses_1", 5, None),
    "feed": lambda connection: reading.feed(connection, 5, 100),
    "bodies": lambda connection: reading.bodies(connection, "usr_ann", ["a", "b"]),
    "entry": lambda connection: reading.entry(connection, "run", "run_1"),
    "inbox": lambda connection: reading.inbox(connection, "ses_1"),
    "owner_key": lambda connection: reading.owner_key(connection, "usr_ann"),
    "setting": lambda connection: reading.setting(connection, "name"),
}


@pytest.mark.parametrize("name", HOT)
def test_nothing_on_the_hot_path_goes_through_a_whole_table(connection: Explaining, name: str) -> None:
    HOT[name](connection)
    assert connection.plans
    assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in connection.plans)
