"""What is erased is gone from every file, and stays gone when a backup brings it back."""

import shutil
from pathlib import Path

import pytest

from cattlegrid.adapters.sqlite.ledger import ErasureLedger
from cattlegrid.core.errors import ConfigurationError, StoreUnavailable
from cattlegrid.testing.clock import ManualClock
from tests.unit.adapters.sqlite.support import opened, raw, said, vault_of, writer_of

pytestmark = pytest.mark.anyio


def bytes_of(folder: Path, *, but: str = "") -> bytes:
    return b"".join(
        file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file() and file.name != but
    )


async def test_no_file_holds_the_key_or_a_body_of_an_erased_user(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as store:
        vault = vault_of(store)
        box = await vault.create_owner("usr_ann")
        key = await store.owner_key("usr_ann")
        body = box.seal("the secret word is marmalade " * 30)
        writer = await writer_of(store)
        await writer.append([said(body.digest)], bodies=[body])
        assert key is not None
        assert key.wrapped in bytes_of(tmp_path)
        assert body.sealed[20:60] in bytes_of(tmp_path)
        await vault.erase_owner("usr_ann")
        left = bytes_of(tmp_path)
        assert key.wrapped not in left
        assert body.sealed[20:60] not in left
        assert body.sealed[-16:] not in left


async def test_an_erasure_is_told_as_done_only_when_the_log_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path, busy_s=0.05) as store:
        vault = vault_of(store)
        await vault.create_owner("usr_ann")
        key = await store.owner_key("usr_ann")
        assert key is not None
        with raw(path) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM events").fetchone()
            with pytest.raises(StoreUnavailable, match="erased, but the log"):
                await vault.erase_owner("usr_ann")
            assert await store.owner_key("usr_ann") is None
            await store.put_setting("name", "goes on")
            other.execute("COMMIT")
        await vault.erase_owner("usr_ann")
        assert key.wrapped not in bytes_of(tmp_path)


@pytest.mark.requirement("journal:erase-again")
async def test_a_restored_backup_is_erased_again_before_it_is_served(tmp_path: Path) -> None:
    path, backup = tmp_path / "journal.db", tmp_path / "backup"
    clock = ManualClock()
    async with opened(path, clock=clock) as store:
        vault = vault_of(store, clock)
        ann, bob = await vault.create_owner("usr_ann"), await vault.create_owner("usr_bob")
        bodies = [ann.seal("hello from ann"), bob.seal("hello from bob")]
        await store.put_bodies(bodies)
    shutil.copy(path, backup)
    clock.advance(10)
    async with opened(path, clock=clock) as store:
        assert store.erased_again == ()
        await vault_of(store, clock).erase_owner("usr_ann")
    shutil.copy(backup, path)
    clock.advance(10)
    async with opened(path, clock=clock) as store:
        assert store.erased_again == ("usr_ann",)
        assert await store.owner_key("usr_ann") is None
        assert await store.bodies("usr_ann", [bodies[0].digest]) == []
        assert len(await store.bodies("usr_bob", [bodies[1].digest])) == 1
        assert bodies[0].sealed[13:30] not in bytes_of(tmp_path, but="backup")


async def test_a_user_who_came_back_after_an_erasure_is_not_erased_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.db", ManualClock()
    async with opened(path, clock=clock) as store:
        vault = vault_of(store, clock)
        await vault.create_owner("usr_ann")
        clock.advance(1)
        await vault.erase_owner("usr_ann")
        clock.advance(1)
        await vault.create_owner("usr_ann")
    async with opened(path, clock=clock) as store:
        assert store.erased_again == ()
        assert await store.owner_key("usr_ann") is not None


async def test_the_list_of_erasures_is_written_before_anything_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as store:
        vault = vault_of(store)
        await vault.create_owner("usr_ann")
        (tmp_path / "journal.db.erasures.jsonl").mkdir()
        with pytest.raises(StoreUnavailable, match="list of erasures"):
            await vault.erase_owner("usr_ann")
        assert await store.owner_key("usr_ann") is not None


def test_the_ledger_keeps_the_latest_time_of_each_owner_and_drops_a_torn_line(tmp_path: Path) -> None:
    ledger = ErasureLedger(tmp_path / "erasures.jsonl")
    assert ledger.read() == {}
    ledger.record("usr_ann", 5)
    ledger.record("usr_bob", 6)
    ledger.record("usr_ann", 4)
    assert ledger.read() == {"usr_ann": 5, "usr_bob": 6}
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    with ledger.path.open("a") as file:
        file.write('{"owner":"usr_torn')
    assert ledger.read() == {"usr_ann": 5, "usr_bob": 6}
    ledger.record("usr_cy", 7)
    assert ledger.read() == {"usr_ann": 5, "usr_bob": 6, "usr_cy": 7}


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"owner":"usr_a","at_us":"x"}', "[]"])
def test_a_damaged_ledger_is_not_passed_over(tmp_path: Path, line: str) -> None:
    ledger = ErasureLedger(tmp_path / "erasures.jsonl")
    ledger.path.write_text(line + "\n")
    with pytest.raises(ConfigurationError, match=r"erasures\.jsonl:1"):
        ledger.read()
