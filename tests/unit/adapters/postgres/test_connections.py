"""Connections that are refused, cut, or silent: the reason is said, and what was written counts once."""

import asyncio
import os
import random
import resource
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.core.errors import CattlegridError, ConfigurationError, StoreUnavailable
from cattlegrid.journal.events import NewEvent, OperatorActed
from cattlegrid.journal.verify import verify
from cattlegrid.journal.writer import SessionWriter, new_stream
from cattlegrid.testing.clock import ManualClock
from tests.cutting_proxy import CuttingProxy
from tests.postgres import Cluster
from tests.unit.adapters.postgres.conftest import Open

pytestmark = pytest.mark.anyio

SECRET = "hunter2secret"


def name_of(url: str) -> str:
    return url.rpartition("@/")[2].partition("?")[0]


def event(by: str = "x") -> NewEvent:
    return NewEvent(OperatorActed(action="test", by=by))


def writer_of(store: PostgresJournal, stream: str) -> SessionWriter:
    return new_stream(store, stream, holder="a", lease_s=30, clock=ManualClock())


@pytest.mark.requirement("journal:refusals")
@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        (f"mysql://u:{SECRET}@localhost/x", ConfigurationError, "postgresql://"),
        (f"postgresql://u:{SECRET}@localhost:port:1/x y z", ConfigurationError, "cannot be read"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/x", StoreUnavailable, "does not answer"),
        (f"postgresql://u:{SECRET}@/x?host=/nowhere", StoreUnavailable, "does not answer"),
    ],
)
async def test_a_database_that_is_not_there_is_named_without_the_secret(
    tmp_path: Path, url: str, kind: type[CattlegridError], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        await PostgresJournal.open(url, ledger=tmp_path / "erasures.jsonl")
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value.__cause__)


@pytest.mark.requirement("journal:refusals")
@pytest.mark.parametrize(
    ("database", "user"), [("no_such_database", "postgres"), ("postgres", "no_such_user")]
)
async def test_an_unknown_database_or_user_is_said(
    postgres: Cluster, tmp_path: Path, database: str, user: str
) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        await PostgresJournal.open(postgres.url(database, user=user), ledger=tmp_path / "erasures.jsonl")


@pytest.mark.requirement("journal:refusals")
async def test_a_wrong_or_missing_password_is_said(postgres: Cluster, tmp_path: Path) -> None:
    postgres.run("DROP ROLE IF EXISTS locked")
    postgres.run(f"CREATE ROLE locked LOGIN PASSWORD '{SECRET}'")
    for user, says in (("locked:wrong", "the user or the password"), ("locked", "wants a password")):
        with pytest.raises(ConfigurationError, match=says):
            await PostgresJournal.open(postgres.url(user=user), ledger=tmp_path / "erasures.jsonl")
    name = postgres.journal()
    postgres.run(f'ALTER DATABASE "{name}" OWNER TO locked')
    for things in (
        "SCHEMA cattlegrid",
        "ALL TABLES IN SCHEMA cattlegrid",
        "ALL SEQUENCES IN SCHEMA cattlegrid",
    ):
        postgres.run(f"GRANT ALL ON {things} TO locked", database=name)
    url = postgres.url(name, user=f"locked:{SECRET}")
    await (await PostgresJournal.open(url, ledger=tmp_path / "erasures.jsonl")).close()
    postgres.drop(name)
    postgres.run("DROP ROLE locked")


@pytest.mark.requirement("journal:refusals")
async def test_a_server_that_may_lose_what_it_acknowledged_is_refused_where_that_matters(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    postgres.run("ALTER SYSTEM SET full_page_writes = off")
    postgres.run("SELECT pg_reload_conf()")
    try:
        while postgres.run("SHOW full_page_writes") != [("off",)]:
            pass
        with pytest.raises(ConfigurationError, match="full_page_writes is off"):
            await PostgresJournal.open(database, ledger=tmp_path / "erasures.jsonl", durable=True)
    finally:
        postgres.run("ALTER SYSTEM RESET full_page_writes")
        postgres.run("SELECT pg_reload_conf()")


async def test_commits_are_waited_for_although_the_database_says_otherwise(
    postgres: Cluster, database: str, another: Open
) -> None:
    postgres.run(f"ALTER DATABASE {name_of(database)} SET synchronous_commit = off")
    store = await another()
    postgres.run(
        "CREATE TABLE seen (said text);"
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
        "CREATE TRIGGER see AFTER INSERT ON cattlegrid.events EXECUTE FUNCTION see()",
        database=name_of(database),
    )
    await writer_of(store, "ses_1").append([event()])
    assert store.facts.synchronous_commit == "off"
    assert postgres.run("SELECT DISTINCT said FROM seen", database=name_of(database)) == [("on",)]


async def test_a_process_with_thousands_of_open_files_is_served_too(another: Open) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    files = [os.dup(0) for _ in range(1_100)]
    try:
        store = await another()
        await store.ping()
        await writer_of(store, "ses_1").append([event()])
        assert len(await store.rows("ses_1")) == 1
        await store.close()
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_leases_end_by_the_servers_clock(store: PostgresJournal, another: Open) -> None:
    other = await another()
    head = await store.acquire("ses_1", holder="a", lease_s=0.2)
    with pytest.raises(CattlegridError, match="Another writer") as raised:
        await other.acquire("ses_1", holder="b", lease_s=30)
    assert raised.value.retry_after_s is not None
    assert 0 <= raised.value.retry_after_s <= 0.2
    async with asyncio.timeout(10):
        while True:
            try:
                taken = await other.acquire("ses_1", holder="b", lease_s=30)
            except CattlegridError:
                continue
            break
    assert (taken.epoch, taken.holder) == (head.epoch + 1, "b")


@pytest.fixture
async def proxy(postgres: Cluster) -> AsyncGenerator[CuttingProxy]:
    """A proxy in front of the server."""
    folder = Path(tempfile.mkdtemp(prefix="cattlegrid-cut-"))
    async with CuttingProxy(folder, postgres.folder) as proxy:
        yield proxy
    shutil.rmtree(folder)


@pytest.fixture
async def far(
    postgres: Cluster, database: str, proxy: CuttingProxy, tmp_path: Path
) -> AsyncGenerator[PostgresJournal]:
    """A store behind that proxy."""
    url = postgres.url(name_of(database), folder=proxy.folder)
    store = await PostgresJournal.open(url, ledger=tmp_path / "erasures.jsonl", patience_s=4.0)
    yield store
    proxy.mute = proxy.deaf = False
    await store.close()


@pytest.mark.requirement("journal:settled")
@pytest.mark.parametrize("cut_after", [1, 2])
async def test_a_write_whose_answer_was_cut_off_counts_once(
    far: PostgresJournal, proxy: CuttingProxy, cut_after: int
) -> None:
    writer = writer_of(far, "ses_1")
    await writer.append([event()])
    proxy.cut_after = cut_after
    await writer.append([event(), event()])
    assert not writer.poisoned
    await writer.append([event()])
    assert [row.seq for row in await far.rows("ses_1")] == [1, 2, 3, 4]
    assert (await verify(far)).ok


@pytest.mark.requirement("journal:settled")
async def test_of_writes_under_random_cuts_none_is_lost_and_none_doubled(
    far: PostgresJournal, proxy: CuttingProxy, another: Open
) -> None:
    rng = random.Random(7)
    writers = [writer_of(far, f"ses_{number}") for number in range(8)]
    acknowledged = dict.fromkeys((writer.stream for writer in writers), 0)

    async def write(writer: SessionWriter) -> None:
        for turn in range(25):
            try:
                await writer.append([event(str(turn))])
            except StoreUnavailable:
                return
            acknowledged[writer.stream] = turn + 1

    async def disturb() -> None:
        while True:
            proxy.cut_after = proxy.cut_after or rng.randint(1, 12)
            await asyncio.sleep(0)

    disturbing = asyncio.create_task(disturb())
    await asyncio.gather(*(write(writer) for writer in writers))
    disturbing.cancel()
    near = await another()
    for writer in writers:
        rows = await near.rows(writer.stream)
        assert len(rows) == acknowledged[writer.stream] == 25
    assert (await verify(near)).ok


async def test_a_read_is_asked_again_when_its_connection_is_cut(
    far: PostgresJournal, proxy: CuttingProxy
) -> None:
    await far.put_setting("name", "value")
    proxy.cut()
    assert await far.setting("name") == "value"
    proxy.cut_after = 1
    assert await far.setting("name") == "value"


@pytest.mark.requirement("fault:database")
async def test_a_silent_server_is_given_up_in_time_and_used_again_when_it_speaks(
    far: PostgresJournal, proxy: CuttingProxy, another: Open
) -> None:
    near = await another()
    writer = writer_of(far, "ses_1")
    await writer.append([event()])
    proxy.mute = True
    with pytest.raises(StoreUnavailable):
        await far.put_setting("name", "value")
    proxy.mute = False
    proxy.cut()
    proxy.deaf = True
    with pytest.raises(StoreUnavailable):
        await far.ping()
    proxy.deaf = False
    async with asyncio.timeout(20):
        while True:
            try:
                await far.ping()
            except StoreUnavailable:
                continue
            break
    await writer.append([event()])
    assert len(await near.rows("ses_1")) == 2
