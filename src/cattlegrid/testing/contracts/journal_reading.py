"""The contract of reading: rows, the feed, the directory, heads, settings, and the inbox."""

import asyncio

import msgspec

from cattlegrid.core.errors import AppendConflict
from cattlegrid.journal.events import RunFinished, SessionClosed
from cattlegrid.journal.notices import Notice
from cattlegrid.journal.parts import RunStatus
from cattlegrid.journal.store import Entry, EntryChange, EntryQuery, InboxItem, JournalStore
from cattlegrid.testing.contracts.support import (
    LEASE_S,
    OWNER,
    JournalUnderTest,
    opened,
    raises,
    said,
    scribe,
    session,
    started,
)


def item(number: int, *, stream: str = "ses_1", key: str = "") -> InboxItem:
    """Something for the inbox."""
    return InboxItem(
        id=f"inb_{number}", stream=stream, key=key or f"key:{number}", data=b"%d" % number, at_us=number
    )


async def ids(store: JournalStore, query: EntryQuery) -> list[str]:
    """The ids of the entries that a query finds."""
    return [entry.id for entry in await store.entries(query)]


class ReadingContract:
    """What can be read, and how it is ordered."""

    async def test_rows_are_read_from_any_place_and_in_pages(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        for _ in range(5):
            await writer.write(said())
        assert [row.seq for row in await journal.store.rows("ses_1", after_seq=2)] == [3, 4, 5]
        assert [row.seq for row in await journal.store.rows("ses_1", after_seq=1, limit=2)] == [2, 3]
        assert await journal.store.rows("ses_1", after_seq=5) == []
        assert await journal.store.rows("ses_nowhere") == []

    async def test_the_feed_has_every_event_of_every_stream_once_in_an_order_that_only_grows(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        writers = [
            await scribe(journal, f"ses_{number}", store=(journal.store, other)[number % 2])
            for number in range(6)
        ]
        done = asyncio.Event()

        async def write() -> None:
            for _ in range(10):
                await asyncio.gather(*(writer.write(said(), said()) for writer in writers))
            done.set()

        async def follow() -> list[tuple[int, str, int]]:
            seen: list[tuple[int, str, int]] = []
            while True:
                last_look = done.is_set()
                page = await journal.store.feed(seen[-1][0] if seen else 0, limit=7)
                seen.extend((found.position, found.row.stream, found.row.seq) for found in page)
                if last_look and not page:
                    return seen
                await journal.clock.sleep(0)

        _, seen = await asyncio.gather(write(), follow())
        positions = [position for position, _, _ in seen]
        assert positions == sorted(set(positions))
        for writer in writers:
            assert [seq for _, stream, seq in seen if stream == writer.stream] == list(range(1, 21))

    async def test_the_feed_gives_rows_as_they_were_written(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        batch = writer.batch(said(), said())
        await journal.store.append(batch)
        assert [found.row for found in await journal.store.feed(0)] == list(batch.rows)

    async def test_heads_that_moved_are_told_since_a_position(self, journal: JournalUnderTest) -> None:
        assert await journal.store.heads_changed_since(0) == (0, [])
        one, two = await scribe(journal, "ses_1"), await scribe(journal, "ses_2")
        await one.write(said())
        await two.write(said())
        position, heads = await journal.store.heads_changed_since(0)
        assert {head.stream: (head.seq, head.hash) for head in heads} == {
            "ses_1": (1, one.hash),
            "ses_2": (1, two.hash),
        }
        await two.write(said())
        later, heads = await journal.store.heads_changed_since(position)
        assert later > position
        assert [(head.stream, head.seq) for head in heads] == [("ses_2", 2)]
        assert await journal.store.heads_changed_since(later) == (later, [])

    async def test_entries_are_found_by_each_of_their_fields_newest_first(
        self, journal: JournalUnderTest
    ) -> None:
        writer = await session(journal)
        other = await session(journal, "ses_2", owner="usr_other")
        for number in range(1, 5):
            await writer.write(started(), run_id=f"run_{number}")
            journal.clock.advance(1)
            if number < 4:
                await writer.write(RunFinished(status=RunStatus.FAILED), run_id=f"run_{number}")
        await other.write(started(), run_id="run_5")
        found = await journal.store.entry("run", "run_4")
        assert found is not None
        store = journal.store
        assert await ids(store, EntryQuery(kind="run")) == ["run_5", "run_4", "run_3", "run_2", "run_1"]
        assert await ids(store, EntryQuery(kind="run", limit=2)) == ["run_5", "run_4"]
        assert await ids(store, EntryQuery(kind="run", before_id="run_4", limit=2)) == ["run_3", "run_2"]
        assert await ids(store, EntryQuery(kind="run", statuses=("running",))) == ["run_5", "run_4"]
        assert await ids(store, EntryQuery(kind="run", statuses=("failed", "completed"))) == [
            "run_3",
            "run_2",
            "run_1",
        ]
        assert await ids(
            store, EntryQuery(kind="run", statuses=("running", "failed"), owner=OWNER, limit=2)
        ) == ["run_4", "run_3"]
        assert await ids(store, EntryQuery(kind="run", owner="usr_other")) == ["run_5"]
        assert await ids(store, EntryQuery(kind="run", stream="ses_2")) == ["run_5"]
        assert await ids(
            store, EntryQuery(kind="run", tenant="acme", agent="support", stream="ses_1", limit=1)
        ) == ["run_4"]
        assert await ids(store, EntryQuery(kind="run", tenant="other")) == []
        assert await ids(store, EntryQuery(kind="run", agent="other")) == []
        assert await ids(store, EntryQuery(kind="run", updated_before_us=found.updated_us)) == [
            "run_2",
            "run_1",
        ]
        assert await ids(store, EntryQuery(kind="session")) == ["ses_2", "ses_1"]

    async def test_entries_with_a_due_time_are_found_by_it(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        for number, due_us in ((1, 0), (2, 50), (3, 90)):
            entry = Entry(
                kind="approval", id=f"apr_{number}", stream="ses_1", status="pending", due_us=due_us
            )
            batch = msgspec.structs.replace(writer.batch(said()), changes=(EntryChange(entry=entry),))
            await journal.store.append(batch)
        assert await ids(journal.store, EntryQuery(kind="approval", due_before_us=90)) == ["apr_2"]
        assert await ids(
            journal.store, EntryQuery(kind="approval", due_before_us=91, statuses=("pending",))
        ) == [
            "apr_3",
            "apr_2",
        ]

    async def test_a_change_sets_what_it_holds_and_leaves_the_rest(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        first = Entry(
            kind="approval",
            id="apr_1",
            stream="ses_1",
            tenant="acme",
            owner=OWNER,
            agent="support",
            status="pending",
            ref="run_1",
            digest="d",
            due_us=70,
            created_us=5,
            updated_us=5,
        )
        empty = Entry(kind="approval", id="apr_1", stream="ses_1", created_us=6)
        second = Entry(
            kind="approval",
            id="apr_1",
            stream="ses_1",
            status="approve",
            ref="r",
            due_us=80,
            created_us=7,
            updated_us=7,
        )
        for entry in (first, empty, second):
            batch = msgspec.structs.replace(writer.batch(said()), changes=(EntryChange(entry=entry),))
            await journal.store.append(batch)
            if entry is not second:
                assert await journal.store.entry("approval", "apr_1") == first
        expected = msgspec.structs.replace(first, status="approve", ref="r", due_us=80, updated_us=7)
        assert await journal.store.entry("approval", "apr_1") == expected
        assert await journal.store.entry("run", "apr_1") is None

    async def test_a_change_to_an_entry_that_the_same_write_makes_counts(
        self, journal: JournalUnderTest
    ) -> None:
        writer = await scribe(journal)
        await writer.write(opened(), started(), RunFinished(status=RunStatus.COMPLETED), run_id="run_1")
        await writer.write(SessionClosed(outcome="completed"))
        run, closed = await journal.store.entry("run", "run_1"), await journal.store.entry("session", "ses_1")
        assert run is not None
        assert closed is not None
        assert (run.status, closed.status, closed.ref) == ("completed", "completed", "3f" * 32)

    async def test_settings_are_kept_and_replaced(self, journal: JournalUnderTest) -> None:
        assert await journal.store.setting("kek_id") is None
        await journal.store.put_setting("kek_id", "one")
        await journal.store.put_setting("kek_id", "two")
        assert await journal.store.setting("kek_id") == "two"
        assert await (await journal.reopen()).setting("kek_id") == "two"

    async def test_of_settings_that_are_given_first_at_once_one_counts_for_all(
        self, journal: JournalUnderTest
    ) -> None:
        stores = (journal.store, await journal.another())
        told = await asyncio.gather(
            *(stores[number % 2].first_setting("kek_id", str(number)) for number in range(8))
        )
        assert len(set(told)) == 1
        assert await journal.store.setting("kek_id") == told[0]
        assert await (await journal.reopen()).first_setting("kek_id", "later") == told[0]

    async def test_who_listens_hears_of_what_is_written_and_posted_until_told_to_stop(
        self, journal: JournalUnderTest
    ) -> None:
        heard: list[Notice] = []
        writer = await scribe(journal)
        stop = journal.store.listen(heard.append)
        await writer.write(said())
        await journal.store.post(item(1, stream="ses_2"))
        with raises(AppendConflict):
            await journal.store.append(msgspec.structs.replace(writer.batch(said()), epoch=9))
        stop()
        await journal.store.post(item(2, stream="ses_2"))
        assert heard == [Notice(events=("ses_1",)), Notice(inbox=("ses_2",))]

    async def test_an_inbox_keeps_its_items_in_order_until_they_are_folded_in(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        assert await journal.store.post(item(2))
        assert await other.post(item(1))
        assert await journal.store.post(item(3, stream="ses_2"))
        assert list(await journal.store.inbox("ses_1")) == [item(2), item(1)]
        assert await journal.store.streams_with_inbox() == ["ses_1", "ses_2"]
        writer = await scribe(journal)
        await writer.write(said(), consumed=["inb_2"])
        assert list(await (await journal.reopen()).inbox("ses_1")) == [item(1)]

    async def test_a_key_of_a_stream_is_used_once_for_ever(self, journal: JournalUnderTest) -> None:
        assert await journal.store.post(item(1, key="approval:apr_1"))
        assert not await journal.store.post(item(2, key="approval:apr_1"))
        assert await journal.store.post(item(3, key="approval:apr_1", stream="ses_2"))
        writer = await scribe(journal)
        await writer.write(said(), consumed=["inb_1"])
        assert not await journal.store.post(item(4, key="approval:apr_1"))
        assert not await (await journal.reopen()).post(item(5, key="approval:apr_1"))
        assert await journal.store.inbox("ses_1") == []

    async def test_of_many_that_post_one_decision_at_once_one_is_heard(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        posts = [(journal.store, other)[turn % 2].post(item(turn, key="cancel:run_1")) for turn in range(10)]
        assert sorted(await asyncio.gather(*posts)) == [False] * 9 + [True]

    async def test_an_item_is_folded_in_once_and_by_its_own_stream_only(
        self, journal: JournalUnderTest
    ) -> None:
        await journal.store.post(item(1))
        thief, writer = await scribe(journal, "ses_2"), await scribe(journal, "ses_1")
        with raises(AppendConflict) as raised:
            await thief.write(said(), consumed=["inb_1"])
        assert raised.error.detail == "inbox"
        assert await journal.store.rows("ses_2") == []
        await writer.write(said(), consumed=["inb_1"])
        with raises(AppendConflict):
            await writer.write(said(), consumed=["inb_1"])
        assert len(await journal.store.rows("ses_1")) == 1

    async def test_an_item_is_folded_in_only_when_its_events_are_written(
        self, journal: JournalUnderTest
    ) -> None:
        await journal.store.post(item(1))
        zombie = await scribe(journal)
        journal.clock.advance(LEASE_S + 1)
        writer = await scribe(journal)
        with raises(AppendConflict):
            await zombie.write(said(), consumed=["inb_1"])
        assert list(await journal.store.inbox("ses_1")) == [item(1)]
        await writer.write(said(), consumed=["inb_1"])
        assert await journal.store.streams_with_inbox() == []
