"""The audit and the export of traces on the stores that users have: SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.core.errors import NotFound
from cattlegrid.core.principal import Principal
from cattlegrid.journal.audit import AuditLog
from cattlegrid.journal.kek import KEY_BYTES, Kek
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.telemetry.spans import Span
from cattlegrid.telemetry.traces import TraceExport
from cattlegrid.testing.models import answer
from cattlegrid.testing.world import World, bundle_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[JournalStore]:
    opened: JournalStore
    if request.param == "sqlite":
        opened = await SqliteJournal.open(tmp_path / "journal.db", clock=SystemClock())
    else:
        url: str = request.getfixturevalue("database")
        opened = await PostgresJournal.open(url, ledger=tmp_path / "erasures.jsonl", clock=SystemClock())
    yield opened
    await opened.close()


def principal(tenant: str, user: str) -> Principal:
    return Principal(
        tenant=tenant, user=user, roles=frozenset({"admin"}), credential="key", credential_id="key_1"
    )


@pytest.mark.requirement("identity:audit")
async def test_lines_of_several_processes_are_listed_in_the_order_in_which_they_were_written(
    store: JournalStore,
) -> None:
    kek = Kek(bytes(KEY_BYTES))
    logs = [
        AuditLog(store, Vault(store, kek, SystemClock()), clock=SystemClock(), holder=holder)
        for holder in ("one", "two")
    ]
    kim, bo = principal("acme", "kim"), principal("other", "bo")
    await asyncio.gather(*(log.record(kim, "replay", f"ses_{n}") for n in range(4) for log in logs))
    await logs[0].record(bo, "erase", "usr_1")
    with pytest.raises(NotFound):
        async with logs[1].acting(kim, "cancel", "run_1"):
            raise NotFound("Not there.")
    lines = await logs[0].lines("acme")
    assert [(line.action, line.outcome, line.who) for line in lines[:2]] == [
        ("cancel", "not_found", "kim"),
        ("cancel", "done", "kim"),
    ]
    assert sorted(line.subject for line in lines[2:]) == sorted(f"ses_{n}" for n in range(4) for _ in logs)
    assert [line.id for line in lines] == sorted((line.id for line in lines), reverse=True)
    assert [line.action for line in await logs[1].lines("other")] == ["erase"]
    paged = await logs[1].lines("acme", limit=3)
    paged += await logs[1].lines("acme", limit=100, before_id=paged[-1].id)
    assert paged == lines


class Kept:
    """A `SpanSink` that keeps everything."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def send(self, spans: Sequence[Span]) -> int:
        self.spans += spans
        return len(spans)


@pytest.mark.requirement("telemetry:export")
async def test_traces_go_on_from_their_place_in_another_process(store: JournalStore) -> None:
    world = World(bundle_of("support"), model=lambda _: answer("Hello."), store=store)
    sink = Kept()
    exports = [
        TraceExport(store, world.vault, sink, clock=world.clock, holder=name) for name in ("one", "two")
    ]
    await exports[0].round()
    first = await world.ask("Hi")
    assert await exports[1].round() == 0, "another process sends"
    await exports[0].close()
    second = await world.ask("Hi again")
    await exports[1].round()
    await exports[1].close()
    roots = [span.attributes["cattlegrid.run.id"] for span in sink.spans if not span.parent_id]
    assert roots == [first.id, second.id]
