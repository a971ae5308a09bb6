"""The contract of leases and appends: one writer for a stream, all of a write or nothing, in the order of the calls."""

import asyncio

import msgspec

from cattlegrid.core.errors import AppendConflict, LeaseHeld
from cattlegrid.journal.codec import GENESIS
from cattlegrid.journal.events import NewEvent
from cattlegrid.journal.store import BodyRow, EntryQuery, InboxItem
from cattlegrid.journal.writer import new_stream
from cattlegrid.testing.contracts.support import (
    LEASE_S,
    OWNER,
    JournalUnderTest,
    now_and_after_a_restart,
    owner_box,
    raises,
    said,
    scribe,
    session,
    started,
)


class LeasesContract:
    """Who may write to a stream."""

    async def test_a_new_stream_begins_empty_with_its_first_epoch(self, journal: JournalUnderTest) -> None:
        assert await journal.store.head("ses_1") is None
        head = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        assert (head.stream, head.epoch, head.seq, head.hash, head.holder) == ("ses_1", 1, 0, GENESIS, "me")
        assert head.lease_until is not None
        assert (head.lease_until - journal.clock.now()).total_seconds() == LEASE_S
        assert await journal.store.head("ses_1") == head

    async def test_a_live_lease_is_given_to_nobody_else_not_even_to_its_holder(
        self, journal: JournalUnderTest
    ) -> None:
        head = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        journal.clock.advance(LEASE_S - 10)
        for holder in ("me", "another"):
            with raises(LeaseHeld) as raised:
                await journal.store.acquire("ses_1", holder=holder, lease_s=LEASE_S)
            assert raised.error.retry_after_s is not None
            assert abs(raised.error.retry_after_s - 10) < 0.01
        assert await journal.store.head("ses_1") == head

    async def test_an_expired_lease_is_taken_over_with_a_higher_epoch(
        self, journal: JournalUnderTest
    ) -> None:
        writer = await scribe(journal)
        await writer.write(said())
        journal.clock.advance(LEASE_S + 1)
        head = await journal.store.acquire("ses_1", holder="next", lease_s=LEASE_S)
        assert (head.epoch, head.seq, head.hash, head.holder) == (writer.epoch + 1, 1, writer.hash, "next")

    async def test_a_writer_whose_lease_was_taken_over_writes_nothing(
        self, journal: JournalUnderTest
    ) -> None:
        zombie = await scribe(journal)
        await zombie.write(said())
        journal.clock.advance(LEASE_S + 1)
        await scribe(journal)
        with raises(AppendConflict):
            await zombie.write(said())
        assert len(await journal.store.rows("ses_1")) == 1

    async def test_an_expired_lease_that_nobody_took_still_writes(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        journal.clock.advance(LEASE_S + 1)
        await writer.write(said())
        assert len(await journal.store.rows("ses_1")) == 1

    async def test_a_first_append_makes_its_stream_and_takes_the_lease(
        self, journal: JournalUnderTest
    ) -> None:
        writer = new_stream(journal.store, "ses_1", holder="me", lease_s=LEASE_S, clock=journal.clock)
        await writer.append([NewEvent(said())])
        head = await journal.store.head("ses_1")
        assert head is not None
        assert (head.epoch, head.seq, head.hash, head.holder) == (1, 1, writer.hash, "me")
        assert head.lease_until is not None
        assert (head.lease_until - journal.clock.now()).total_seconds() == LEASE_S
        with raises(LeaseHeld):
            await journal.store.acquire("ses_1", holder="another", lease_s=LEASE_S)
        await writer.append([NewEvent(said())])
        async for store in now_and_after_a_restart(journal):
            assert [row.seq for row in await store.rows("ses_1")] == [1, 2]

    async def test_of_two_first_appends_to_one_stream_one_counts_and_its_neighbours_too(
        self, journal: JournalUnderTest
    ) -> None:
        writers = [
            new_stream(journal.store, stream, holder="me", lease_s=LEASE_S, clock=journal.clock)
            for stream in ("ses_1", "ses_1", "ses_2")
        ]
        tickets = [writer.append([NewEvent(said())]) for writer in writers]
        await tickets[0]
        with raises(AppendConflict):
            await tickets[1]
        await tickets[2]
        await writers[2].append([NewEvent(said())])
        assert [len(await journal.store.rows(stream)) for stream in ("ses_1", "ses_2")] == [1, 2]

    async def test_a_stream_is_not_made_by_an_append_that_fails(self, journal: JournalUnderTest) -> None:
        gone = BodyRow(owner="usr_nobody", digest="d", sealed=b"sealed")
        writer = new_stream(journal.store, "ses_1", holder="me", lease_s=LEASE_S, clock=journal.clock)
        with raises(AppendConflict) as raised:
            await writer.append([NewEvent(said())], bodies=[gone])
        assert raised.error.detail == "owner"
        assert await journal.store.head("ses_1") is None
        again = new_stream(journal.store, "ses_1", holder="me", lease_s=LEASE_S, clock=journal.clock)
        await again.append([NewEvent(said())])

    async def test_a_released_lease_is_free_at_once(self, journal: JournalUnderTest) -> None:
        first = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        await journal.store.release("ses_1", epoch=first.epoch)
        free = await journal.store.head("ses_1")
        assert free is not None
        assert (free.holder, free.lease_until) == ("", None)
        assert (await journal.store.acquire("ses_1", holder="you", lease_s=LEASE_S)).epoch == first.epoch + 1

    async def test_releasing_a_lease_that_is_no_longer_ones_own_does_nothing(
        self, journal: JournalUnderTest
    ) -> None:
        first = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        journal.clock.advance(LEASE_S + 1)
        second = await journal.store.acquire("ses_1", holder="you", lease_s=LEASE_S)
        await journal.store.release("ses_1", epoch=first.epoch)
        assert await journal.store.head("ses_1") == second
        await journal.store.release("ses_nowhere", epoch=1)

    async def test_a_renewed_lease_lasts_longer(self, journal: JournalUnderTest) -> None:
        head = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        journal.clock.advance(LEASE_S - 1)
        renewed = await journal.store.renew("ses_1", epoch=head.epoch, lease_s=LEASE_S)
        assert renewed.lease_until is not None
        assert (renewed.epoch, renewed.holder) == (head.epoch, "me")
        assert (renewed.lease_until - journal.clock.now()).total_seconds() == LEASE_S
        journal.clock.advance(LEASE_S - 1)
        with raises(LeaseHeld):
            await journal.store.acquire("ses_1", holder="you", lease_s=LEASE_S)

    async def test_a_lease_that_was_lost_or_given_up_is_not_renewed(self, journal: JournalUnderTest) -> None:
        first = await journal.store.acquire("ses_1", holder="me", lease_s=LEASE_S)
        journal.clock.advance(LEASE_S + 1)
        second = await journal.store.acquire("ses_1", holder="you", lease_s=LEASE_S)
        with raises(AppendConflict):
            await journal.store.renew("ses_1", epoch=first.epoch, lease_s=LEASE_S)
        await journal.store.release("ses_1", epoch=second.epoch)
        with raises(AppendConflict):
            await journal.store.renew("ses_1", epoch=second.epoch, lease_s=LEASE_S)
        with raises(AppendConflict):
            await journal.store.renew("ses_nowhere", epoch=1, lease_s=LEASE_S)

    async def test_of_many_that_reach_for_a_lease_at_once_one_gets_it(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        tries = [
            (journal.store, other)[turn % 2].acquire("ses_1", holder="x", lease_s=LEASE_S)
            for turn in range(8)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, LeaseHeld) for result in results) == 7

    async def test_a_write_queued_before_the_release_still_counts(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        ticket = writer.write(said())
        await journal.store.release("ses_1", epoch=writer.epoch)
        await ticket
        assert (await journal.store.acquire("ses_1", holder="you", lease_s=LEASE_S)).seq == 1


class AppendsContract:
    """What is written, and in which order."""

    async def test_what_is_acknowledged_can_be_read_by_everybody_and_after_a_restart(
        self, journal: JournalUnderTest
    ) -> None:
        writer = await scribe(journal)
        batch = writer.batch(said(by="ann"), said(by="bob"))
        await journal.store.append(batch)
        assert list(await (await journal.another()).rows("ses_1")) == list(batch.rows)
        async for store in now_and_after_a_restart(journal):
            assert list(await store.rows("ses_1")) == list(batch.rows)
            head = await store.head("ses_1")
            assert head is not None
            assert (head.seq, head.hash, head.epoch) == (2, writer.hash, writer.epoch)

    async def test_an_append_with_any_expectation_that_does_not_hold_conflicts_and_writes_nothing(
        self, journal: JournalUnderTest
    ) -> None:
        box = await owner_box(journal)
        writer = await session(journal)
        await journal.store.post(InboxItem(id="inb_1", stream="ses_1", key="k", data=b"", at_us=1))
        body = box.seal("hello")
        good = writer.batch(
            started(body.digest, idempotency="key"), run_id="run_1", bodies=[body], consumed=["inb_1"]
        )
        for wrong in (
            msgspec.structs.replace(good, epoch=good.epoch + 1),
            msgspec.structs.replace(good, epoch=good.epoch - 1),
            msgspec.structs.replace(good, expected_seq=good.expected_seq + 1),
            msgspec.structs.replace(good, expected_seq=good.expected_seq - 1),
            msgspec.structs.replace(good, expected_hash=bytes(31) + b"\x01"),
            msgspec.structs.replace(good, stream="ses_nowhere"),
        ):
            with raises(AppendConflict):
                await journal.store.append(wrong)
        assert len(await journal.store.rows("ses_1")) == 1
        assert await journal.store.bodies(OWNER, [body.digest]) == []
        assert await journal.store.entry("run", "run_1") is None
        assert len(await journal.store.inbox("ses_1")) == 1
        await journal.store.append(good)
        assert len(await journal.store.rows("ses_1")) == 2
        assert await journal.store.inbox("ses_1") == []

    async def test_one_conflict_never_fails_its_neighbours(self, journal: JournalUnderTest) -> None:
        writers = [await scribe(journal, f"ses_{number}") for number in range(12)]
        bad = {3, 7, 8}
        tickets = [
            journal.store.append(
                msgspec.structs.replace(writer.batch(said()), epoch=9)
                if number in bad
                else writer.batch(said())
            )
            for number, writer in enumerate(writers)
        ]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        assert {place for place, result in enumerate(results) if isinstance(result, AppendConflict)} == bad
        assert all(result is None for place, result in enumerate(results) if place not in bad)
        for number, writer in enumerate(writers):
            assert len(await journal.store.rows(writer.stream)) == (0 if number in bad else 1)

    async def test_writes_queued_at_once_are_applied_in_their_order(self, journal: JournalUnderTest) -> None:
        writers = [await scribe(journal, f"ses_{number}") for number in range(5)]
        tickets = [writer.write(said(by=str(turn))) for turn in range(20) for writer in writers]
        await asyncio.gather(*tickets)
        for writer in writers:
            rows = await journal.store.rows(writer.stream)
            assert [row.seq for row in rows] == list(range(1, 21))
            assert rows[-1].hash == writer.hash

    async def test_what_was_queued_after_a_failed_write_of_the_stream_fails_too(
        self, journal: JournalUnderTest
    ) -> None:
        await (await session(journal, "ses_other")).write(started(idempotency="taken"), run_id="run_other")
        writer = await session(journal)
        tickets = [
            writer.write(said()),
            writer.write(started(idempotency="taken"), run_id="run_1"),
            writer.write(said()),
            writer.write(said()),
        ]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        assert results[0] is None
        assert all(isinstance(result, AppendConflict) for result in results[1:])
        assert len(await journal.store.rows("ses_1")) == 2

    async def test_an_entry_that_must_be_new_conflicts_when_it_exists(
        self, journal: JournalUnderTest
    ) -> None:
        first, second = await session(journal), await session(journal, "ses_2")
        await first.write(started(idempotency="key"), run_id="run_1")
        with raises(AppendConflict) as raised:
            await second.write(started(idempotency="key"), run_id="run_2")
        assert raised.error.detail == "entry idempotency"
        assert await journal.store.entry("run", "run_2") is None
        assert len(await journal.store.rows("ses_2")) == 1
        kept = await journal.store.entry("idempotency", "key")
        assert kept is not None
        assert (kept.ref, kept.digest, kept.stream) == ("run_1", "d", "ses_1")

    async def test_an_entry_cannot_be_made_twice_by_one_write(self, journal: JournalUnderTest) -> None:
        writer = await session(journal)
        with raises(AppendConflict) as raised:
            await writer.write(started(idempotency="key"), started(idempotency="key"), run_id="run_1")
        assert raised.error.detail == "entry idempotency"
        assert len(await journal.store.rows("ses_1")) == 1

    async def test_of_two_that_make_the_same_entry_at_once_one_wins(self, journal: JournalUnderTest) -> None:
        writers = [await session(journal, f"ses_{number}") for number in range(4)]
        tickets = [
            writer.write(started(idempotency="key"), run_id=f"run_{writer.stream}") for writer in writers
        ]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        assert [isinstance(result, AppendConflict) for result in results] == [False, True, True, True]
        runs = await journal.store.entries(EntryQuery(kind="run"))
        assert [run.id for run in runs] == ["run_ses_0"]

    async def test_a_write_without_events_folds_in_and_leaves_the_head(
        self, journal: JournalUnderTest
    ) -> None:
        writer = await scribe(journal)
        await journal.store.post(InboxItem(id="inb_1", stream="ses_1", key="k", data=b"", at_us=1))
        await writer.write(consumed=["inb_1"])
        assert await journal.store.inbox("ses_1") == []
        assert await journal.store.rows("ses_1") == []
        await writer.write(said())

    async def test_a_store_that_works_says_so(self, journal: JournalUnderTest) -> None:
        await journal.store.ping()
        await journal.store.ping()
