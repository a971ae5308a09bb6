"""The key-encryption key: made once, for an empty store only, and never replaced by another one."""

import base64
from pathlib import Path

import pytest

from cattlegrid.adapters.keys import unlock
from cattlegrid.core.errors import ConfigurationError, KeyMissing
from cattlegrid.journal.codec import GENESIS, encode
from cattlegrid.journal.events import CONTROL_STREAM, OperatorActed
from cattlegrid.journal.store import Append
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from tests.unit.journal.examples import event

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryJournal:
    return MemoryJournal(ManualClock())


async def test_an_empty_store_gets_a_key_that_only_its_owner_may_read(
    store: MemoryJournal, tmp_path: Path
) -> None:
    path = tmp_path / "new folder" / "key"
    made = await unlock(store, path=path, may_create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]
    assert (await unlock(store, path=path)).id == made.id


async def test_no_key_is_made_without_leave(store: MemoryJournal, tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="Make one"):
        await unlock(store, path=tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("journal:keys", "fault:key-file")
async def test_a_store_with_a_key_never_gets_another_one(store: MemoryJournal, tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = await unlock(store, path=path, may_create=True)
    path.unlink()
    with pytest.raises(KeyMissing, match=made.id):
        await unlock(store, path=path, may_create=True)
    assert not path.exists()


@pytest.mark.requirement("journal:keys", "fault:key-file")
async def test_another_key_is_refused(store: MemoryJournal, tmp_path: Path) -> None:
    await unlock(store, path=tmp_path / "key", may_create=True)
    await unlock(MemoryJournal(ManualClock()), path=tmp_path / "other", may_create=True)
    with pytest.raises(KeyMissing, match="not the key"):
        await unlock(store, path=tmp_path / "other")
    with pytest.raises(KeyMissing, match="not the key"):
        await unlock(store, path=tmp_path / "key", encoded=base64.b64encode(bytes(32)).decode())


async def test_the_environment_may_hold_the_key_instead_of_a_file(
    store: MemoryJournal, tmp_path: Path
) -> None:
    encoded = base64.b64encode(bytes(32)).decode()
    kek = await unlock(store, path=tmp_path / "key", encoded=encoded)
    assert (await unlock(store, path=tmp_path / "key", encoded=f" {encoded}\n")).id == kek.id
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoded", ["not base64!", base64.b64encode(b"short").decode()])
async def test_an_unusable_key_is_a_mistake_in_the_configuration(
    store: MemoryJournal, tmp_path: Path, encoded: str
) -> None:
    with pytest.raises(ConfigurationError):
        await unlock(store, path=tmp_path / "key", encoded=encoded)
    (tmp_path / "key").write_text(encoded)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigurationError):
        await unlock(store, path=tmp_path / "key")


async def test_a_key_file_that_others_may_read_is_refused(store: MemoryJournal, tmp_path: Path) -> None:
    await unlock(store, path=tmp_path / "key", may_create=True)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        await unlock(store, path=tmp_path / "key")


async def test_a_store_with_events_but_no_recorded_key_is_not_adopted(
    store: MemoryJournal, tmp_path: Path
) -> None:
    await unlock(MemoryJournal(ManualClock()), path=tmp_path / "key", may_create=True)
    head = await store.acquire(CONTROL_STREAM, holder="me", lease_s=5)
    row = encode(event(OperatorActed(action="x", by="me"), stream=CONTROL_STREAM))
    await store.append(
        Append(stream=CONTROL_STREAM, epoch=head.epoch, expected_seq=0, expected_hash=GENESIS, rows=(row,))
    )
    with pytest.raises(KeyMissing):
        await unlock(store, path=tmp_path / "key", may_create=True)
