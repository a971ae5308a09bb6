"""The contract of what belongs to owners: keys, bodies, erasure, and the deletion of streams by retention."""

import asyncio

import msgspec

from cattlegrid.core.errors import AppendConflict, SessionEnded
from cattlegrid.journal.codec import check_chain
from cattlegrid.journal.events import CONTROL_STREAM, SessionRetired
from cattlegrid.journal.store import BodyRow, InboxItem, JournalStore, OwnerKey
from cattlegrid.testing.contracts.support import (
    LEASE_S,
    OWNER,
    JournalUnderTest,
    Scribe,
    now_and_after_a_restart,
    owner_box,
    raises,
    said,
    scribe,
    session,
    started,
)


async def stored(store: JournalStore, *bodies: BodyRow) -> list[bool]:
    """Which of some bodies of one owner are there."""
    found = {body.digest for body in await store.bodies(bodies[0].owner, [body.digest for body in bodies])}
    return [body.digest in found for body in bodies]


async def retire(journal: JournalUnderTest, stream: str, control: Scribe) -> None:
    """Delete a stream as retention does."""
    audit = control.batch(SessionRetired(session=stream, last_seq=1, last_hash=""))
    await journal.store.delete_stream(stream, audit=audit)


class OwnersContract:
    """What belongs to an owner goes with the owner."""

    async def test_an_owner_has_one_key_and_the_first_counts(self, journal: JournalUnderTest) -> None:
        other = await journal.another()
        assert await journal.store.owner_key(OWNER) is None
        keys = [OwnerKey(owner=OWNER, wrapped=b"%d" % number, created_us=number) for number in range(6)]
        made = await asyncio.gather(
            *((journal.store, other)[key.created_us % 2].create_owner_key(key) for key in keys)
        )
        assert len(set(made)) == 1
        assert await (await journal.reopen()).owner_key(OWNER) == made[0]

    async def test_a_body_is_stored_once_for_each_owner(self, journal: JournalUnderTest) -> None:
        box, other_box = await owner_box(journal), await owner_box(journal, "usr_other")
        writer = await session(journal)
        first, second = box.seal("hello"), box.seal("hello")
        theirs = msgspec.structs.replace(other_box.seal("hello"), digest=first.digest)
        await writer.write(said(first.digest), bodies=[first, first])
        await writer.write(said(second.digest), bodies=[second, theirs])
        assert list(await journal.store.bodies(OWNER, [first.digest, first.digest, "missing"])) == [first]
        assert list(await journal.store.bodies("usr_other", [first.digest])) == [theirs]
        assert await journal.store.bodies(OWNER, []) == []

    async def test_bodies_can_be_put_before_an_event_refers_to_them(self, journal: JournalUnderTest) -> None:
        box, bundle = await owner_box(journal), await owner_box(journal, "bundle:3f")
        bodies = [box.seal("one"), bundle.seal("two"), box.seal("one")]
        await journal.store.put_bodies(bodies)
        await journal.store.put_bodies(bodies)
        again = await journal.reopen()
        assert list(await again.bodies(OWNER, [bodies[0].digest])) == [bodies[0]]
        assert list(await again.bodies("bundle:3f", [bodies[1].digest])) == [bodies[1]]
        await journal.store.put_bodies([])

    async def test_many_bodies_can_be_read_at_once(self, journal: JournalUnderTest) -> None:
        box = await owner_box(journal)
        bodies = [box.seal(f"text {number}") for number in range(1_500)]
        await journal.store.put_bodies(bodies)
        found = await journal.store.bodies(OWNER, [body.digest for body in bodies])
        assert {body.digest: body for body in found} == {body.digest: body for body in bodies}

    async def test_nothing_of_a_user_without_a_key_is_stored(self, journal: JournalUnderTest) -> None:
        body = (await owner_box(journal)).seal("hello")
        stray = msgspec.structs.replace(body, owner="usr_unknown")
        writer = await session(journal)
        with raises(SessionEnded):
            await journal.store.put_bodies([body, stray])
        with raises(AppendConflict) as raised:
            await writer.write(said(), bodies=[body, stray])
        assert raised.error.detail == "owner"
        assert await stored(journal.store, body) == [False]
        assert await stored(journal.store, stray) == [False]
        assert len(await journal.store.rows("ses_1")) == 1

    async def test_erasing_an_owner_deletes_key_and_bodies_and_tells_the_sessions(
        self, journal: JournalUnderTest
    ) -> None:
        box, other_box = await owner_box(journal), await owner_box(journal, "usr_other")
        mine, theirs = box.seal("mine"), other_box.seal("theirs")
        first = await session(journal, "ses_1")
        await first.write(said(mine.digest), bodies=[mine])
        await session(journal, "ses_2")
        third = await session(journal, "ses_3", owner="usr_other")
        await third.write(said(theirs.digest), bodies=[theirs])
        assert sorted(await journal.store.erase_owner(OWNER, at_us=1)) == ["ses_1", "ses_2"]
        async for store in now_and_after_a_restart(journal):
            assert await store.owner_key(OWNER) is None
            assert await stored(store, mine) == [False]
            assert await stored(store, theirs) == [True]
            check_chain(await store.rows("ses_1"))
            assert len(await store.rows("ses_1")) == 2

    async def test_erasing_an_owner_fences_the_writers_of_their_sessions(
        self, journal: JournalUnderTest
    ) -> None:
        box = await owner_box(journal)
        writer, neighbour = await session(journal), await session(journal, "ses_9", owner="usr_other")
        await journal.store.erase_owner(OWNER, at_us=1)
        body = box.seal("too late")
        with raises(AppendConflict):
            await writer.write(said(body.digest), bodies=[body])
        assert await stored(journal.store, body) == [False]
        await neighbour.write(said())
        heir = await journal.store.acquire("ses_1", holder="eraser", lease_s=LEASE_S)
        assert heir.epoch > writer.epoch
        assert heir.seq == 1

    async def test_a_session_that_opens_while_its_owner_is_erased_brings_nothing_back(
        self, journal: JournalUnderTest
    ) -> None:
        box = await owner_box(journal)
        writer = await scribe(journal)
        body = box.seal("hello")
        await journal.store.erase_owner(OWNER, at_us=1)
        with raises(AppendConflict):
            await writer.write(said(body.digest), bodies=[body])
        with raises(SessionEnded):
            await journal.store.put_bodies([body])
        assert await stored(journal.store, body) == [False]

    async def test_erasing_again_tells_the_same_and_fences_nobody(self, journal: JournalUnderTest) -> None:
        await owner_box(journal)
        await session(journal)
        assert await journal.store.erase_owner(OWNER, at_us=1) == ["ses_1"]
        heir = await scribe(journal)
        assert await journal.store.erase_owner(OWNER, at_us=2) == ["ses_1"]
        await heir.write(said())
        assert await journal.store.erase_owner("usr_unknown", at_us=3) == []

    async def test_an_erased_user_who_comes_back_has_a_new_key(self, journal: JournalUnderTest) -> None:
        before = await owner_box(journal)
        await journal.store.erase_owner(OWNER, at_us=1)
        journal.clock.advance(1)
        after = await owner_box(journal)
        assert after.digest("x") != before.digest("x")
        body = after.seal("hello again")
        await journal.store.put_bodies([body])
        again = await journal.reopen()
        assert await stored(again, body) == [True]
        assert await again.owner_key(OWNER) is not None

    async def test_a_deleted_stream_leaves_nothing_but_its_audit(self, journal: JournalUnderTest) -> None:
        box = await owner_box(journal)
        writer, neighbour = await session(journal), await session(journal, "ses_2")
        control = await scribe(journal, CONTROL_STREAM)
        body, kept = box.seal("mine"), box.seal("neighbour's")
        await writer.write(started(body.digest, idempotency="key"), bodies=[body], run_id="run_1")
        await neighbour.write(said(kept.digest), bodies=[kept])
        await journal.store.post(InboxItem(id="inb_1", stream="ses_1", key="k", data=b"", at_us=1))
        await retire(journal, "ses_1", control)
        with raises(AppendConflict):
            await writer.write(said())
        async for store in now_and_after_a_restart(journal):
            assert await store.rows("ses_1") == []
            assert await store.head("ses_1") is None
            assert await store.inbox("ses_1") == []
            assert await store.entry("session", "ses_1") is None
            assert await store.entry("run", "run_1") is None
            assert await store.entry("idempotency", "key") is None
            assert await stored(store, body, kept) == [False, True]
            assert [row.stream for row in await store.rows(CONTROL_STREAM)] == [CONTROL_STREAM]
            streams = {found.row.stream for found in await store.feed(0)}
            assert streams == {"ses_2", CONTROL_STREAM}

    async def test_a_body_stays_while_another_session_of_its_owner_needs_it(
        self, journal: JournalUnderTest
    ) -> None:
        box = await owner_box(journal)
        control = await scribe(journal, CONTROL_STREAM)
        shared, put_first, waiting, own = (box.seal(text) for text in ("hello", "put", "waiting", "own"))
        await journal.store.put_bodies([put_first, waiting])
        for stream in ("ses_1", "ses_2", "ses_3"):
            writer = await session(journal, stream)
            mine = [shared, put_first] if stream != "ses_3" else [own, shared, waiting]
            for body in mine:
                await writer.write(said(body.digest), bodies=[body])
        data = b'{"text_ref":"%b"}' % waiting.digest.encode()
        await journal.store.put_bodies([waiting])
        await journal.store.post(InboxItem(id="inb_1", stream="ses_2", key="message:1", data=data, at_us=1))
        bodies = (shared, put_first, waiting, own)
        await retire(journal, "ses_3", control)
        assert await stored(journal.store, *bodies) == [True, True, True, False]
        await retire(journal, "ses_1", control)
        assert await stored(journal.store, *bodies) == [True, True, True, False]
        await retire(journal, "ses_2", control)
        assert (await stored(journal.store, *bodies))[:2] == [False, False]

    async def test_a_stream_is_deleted_together_with_its_audit_or_not_at_all(
        self, journal: JournalUnderTest
    ) -> None:
        await owner_box(journal)
        writer = await session(journal)
        control = await scribe(journal, CONTROL_STREAM)
        audit = control.batch(SessionRetired(session="ses_1", last_seq=1, last_hash=""))
        with raises(AppendConflict):
            await journal.store.delete_stream(
                "ses_1", audit=msgspec.structs.replace(audit, epoch=audit.epoch + 1)
            )
        assert await journal.store.rows(CONTROL_STREAM) == []
        await writer.write(said())
        assert len(await journal.store.rows("ses_1")) == 2

    async def test_deletions_and_appends_of_the_audited_stream_keep_their_order(
        self, journal: JournalUnderTest
    ) -> None:
        await owner_box(journal)
        for number in range(3):
            await session(journal, f"ses_{number}")
        control = await scribe(journal, CONTROL_STREAM)
        tickets = [control.write(said())]
        for number in range(3):
            audit = control.batch(SessionRetired(session=f"ses_{number}", last_seq=1, last_hash=""))
            tickets += [journal.store.delete_stream(f"ses_{number}", audit=audit), control.write(said())]
        await asyncio.gather(*tickets)
        assert len(await journal.store.rows(CONTROL_STREAM)) == 7

    async def test_positions_in_the_feed_are_not_used_again_after_a_deletion(
        self, journal: JournalUnderTest
    ) -> None:
        await owner_box(journal)
        control = await scribe(journal, CONTROL_STREAM)
        await session(journal)
        last = (await journal.store.feed(0))[-1].position
        await retire(journal, "ses_1", control)
        later = await journal.store.feed(last)
        assert [found.row.stream for found in later] == [CONTROL_STREAM]
        assert later[0].position > last
