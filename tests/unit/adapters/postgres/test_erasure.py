"""An erasure survives a restored backup, and counts only once it is on the list."""

from pathlib import Path

import pytest

from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.core.errors import StoreUnavailable
from cattlegrid.journal.events import NewEvent
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.verify import verify
from cattlegrid.journal.writer import new_stream
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.contracts.support import KEK, OWNER, opened, said
from tests.postgres import Cluster
from tests.unit.adapters.postgres.conftest import Open

pytestmark = pytest.mark.anyio


def name_of(url: str) -> str:
    return url.rpartition("@/")[2].partition("?")[0]


@pytest.mark.requirement("journal:erase-again")
async def test_a_restored_backup_is_erased_again_when_it_is_opened(
    postgres: Cluster, database: str, another: Open, tmp_path: Path, clock: ManualClock
) -> None:
    store = await another()
    box = await Vault(store, KEK, clock).create_owner(OWNER)
    body = box.seal("a secret word")
    writer = new_stream(store, "ses_1", holder="a", lease_s=30, clock=clock)
    await writer.append([NewEvent(opened()), NewEvent(said(body.digest))], bodies=[body])
    await store.close()
    backup = postgres.copy_of(name_of(database))
    store = await another()
    later_us = round(clock.now().timestamp() * 1_000_000) + 1
    assert await store.erase_owner(OWNER, at_us=later_us) == ["ses_1"]
    await store.close()
    restored = await PostgresJournal.open(postgres.url(backup), ledger=tmp_path / "erasures.jsonl")
    assert restored.erased_again == (OWNER,)
    assert await restored.owner_key(OWNER) is None
    assert await restored.bodies(OWNER, [body.digest]) == []
    assert (await verify(restored)).ok
    await restored.close()
    again = await PostgresJournal.open(postgres.url(backup), ledger=tmp_path / "erasures.jsonl")
    assert again.erased_again == ()
    await again.close()
    postgres.drop(backup)


async def test_nothing_is_erased_that_cannot_be_put_on_the_list(
    database: str, tmp_path: Path, clock: ManualClock
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    store = await PostgresJournal.open(database, ledger=folder / "erasures.jsonl")
    await Vault(store, KEK, clock).create_owner(OWNER)
    folder.rmdir()
    with pytest.raises(StoreUnavailable, match="list of erasures"):
        await store.erase_owner(OWNER, at_us=1)
    assert await store.owner_key(OWNER) is not None
    await store.close()
