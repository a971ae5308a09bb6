"""When the disk or the file fails, every caller is told, nothing is half-written, and it goes on when the cause is gone."""

import asyncio
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cattlegrid.core.errors import AppendConflict, StoreUnavailable
from cattlegrid.journal.codec import check_chain
from tests.unit.adapters.sqlite.support import opened, raw, said, vault_of, writer_of

pytestmark = pytest.mark.anyio


@contextmanager
def largest_file(size_bytes: int) -> Generator[None]:
    """No file may grow beyond a size: writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.requirement("fault:disk-full")
async def test_a_full_disk_fails_the_writes_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as store:
        box = await vault_of(store).create_owner("usr_ann")
        writers = [await writer_of(store, f"ses_{number}") for number in range(8)]
        await asyncio.gather(*(writer.append([said()]) for writer in writers))
        wal_bytes = (tmp_path / "journal.db-wal").stat().st_size
        big = [box.seal(bytes([number]) * 50_000 + bytes(range(256)) * 400) for number in range(8)]
        with largest_file(wal_bytes + 8_192):
            tickets = [
                writer.append([said(body.digest)], bodies=[body])
                for writer, body in zip(writers, big, strict=True)
            ]
            tickets += [writer.append([said("after it")]) for writer in writers]
            results = await asyncio.gather(*tickets, return_exceptions=True)
            assert all(isinstance(result, StoreUnavailable) for result in results)
            with pytest.raises(StoreUnavailable):
                await store.put_bodies(big)
        for writer in writers:
            assert writer.poisoned
            assert check_chain(await store.rows(writer.stream))[0] == 1
        assert await store.bodies("usr_ann", [body.digest for body in big]) == []
        await store.put_bodies(big)
        await store.ping()
        for writer in writers:
            await writer.release()
            heir = await writer_of(store, writer.stream)
            await heir.append([said()])
    async with opened(path) as store:
        for number in range(8):
            assert check_chain(await store.rows(f"ses_{number}"))[0] == 2


@pytest.mark.requirement("fault:database")
async def test_a_database_that_another_program_locks_fails_the_writes_until_it_is_free(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    async with opened(path, busy_s=0.05) as store:
        writer = await writer_of(store)
        await writer.append([said()])
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
                await store.put_setting("name", "value")
            ticket = writer.append([said()])
            with pytest.raises(StoreUnavailable):
                await ticket
            assert len(await store.rows("ses_1")) == 1
            other.execute("ROLLBACK")
        await store.put_setting("name", "value")
        await writer.release()
        await (await writer_of(store)).append([said()])


async def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path, busy_s=20) as store:
        writer = await writer_of(store)
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            ticket = writer.append([said()])
            assert await store.rows("ses_1") == []
            other.execute("ROLLBACK")
        await ticket


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.requirement("fault:database")
async def test_a_file_that_is_deleted_stops_every_write_and_the_ping(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as store:
        writer = await writer_of(store)
        await writer.append([said()])
        await store.ping()
        path.with_name(path.name + suffix).unlink()
        with pytest.raises(StoreUnavailable, match="gone"):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await writer.append([said()])
        with pytest.raises(StoreUnavailable):
            await store.acquire("ses_2", holder="me", lease_s=1)
        assert path.exists() == bool(suffix)


async def test_a_file_that_was_moved_away_and_comes_back_is_written_again(tmp_path: Path) -> None:
    path, away = tmp_path / "journal.db", tmp_path / "elsewhere.db"
    async with opened(path) as store:
        await (await writer_of(store)).append([said()])
        path.rename(away)
        with pytest.raises(StoreUnavailable):
            await store.put_setting("name", "value")
        away.rename(path)
        await store.ping()
        await (await writer_of(store, "ses_2")).append([said()])
    async with opened(path) as store:
        assert len(await store.feed(0)) == 2


async def test_a_file_that_was_replaced_by_another_one_is_not_written(tmp_path: Path) -> None:
    path, other = tmp_path / "journal.db", tmp_path / "other.db"
    async with opened(other) as store:
        await store.put_setting("name", "other")
    async with opened(path) as store:
        await store.put_setting("name", "mine")
        other.rename(path)
        with pytest.raises(StoreUnavailable):
            await store.put_setting("name", "changed")
        with pytest.raises(StoreUnavailable):
            await store.ping()


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        async with opened(tmp_path / "file" / "journal.db"):
            pass


async def test_a_closed_journal_says_so_and_closes_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as store:
        writer = await writer_of(store)
        ticket = writer.append([said()])
        await store.close()
        await ticket
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.rows("ses_1")
        with pytest.raises(StoreUnavailable):
            await writer.append([said()])


async def test_an_append_that_cannot_be_bound_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as store:
        writers = [await writer_of(store, f"ses_{number}") for number in range(3)]
        strange = "\ud800"  # no UTF-8 has this
        tickets = [
            writers[0].append([said()]),
            writers[1].append([], consumed=[strange]),
            writers[2].append([said()]),
        ]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), AppendConflict, type(None)]


@pytest.mark.requirement("journal:group-commit")
async def test_many_writers_share_transactions(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db", busy_s=5) as store:
        writers = [await writer_of(store, f"ses_{number}") for number in range(50)]
        with raw(tmp_path / "journal.db") as other:
            other.execute("BEGIN IMMEDIATE")
            before = store.commits
            first = writers[0].append([said()])
            tickets = [writer.append([said()]) for writer in writers for _ in range(4)]
            other.execute("ROLLBACK")
        await first
        await asyncio.gather(*tickets)
        assert store.commits - before <= 4
        for number, writer in enumerate(writers):
            found = await store.rows(writer.stream)
            assert check_chain(found) == (5 if number == 0 else 4, writer.hash)
