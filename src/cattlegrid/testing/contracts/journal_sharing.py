"""The contract of sharing: what holds when several stores write to the same data at once, as several processes do."""

import asyncio
from collections.abc import Sequence

import msgspec

from cattlegrid.core.errors import AppendConflict, CattlegridError, LeaseHeld, SessionEnded
from cattlegrid.journal.codec import check_chain
from cattlegrid.journal.events import CONTROL_STREAM, SessionRetired
from cattlegrid.journal.store import BodyRow, InboxItem, JournalStore
from cattlegrid.journal.verify import verify
from cattlegrid.testing.contracts.support import (
    LEASE_S,
    OWNER,
    JournalUnderTest,
    Scribe,
    owner_box,
    said,
    scribe,
    session,
    started,
)


async def scribes(journal: JournalUnderTest, store: JournalStore, names: Sequence[str]) -> list[Scribe]:
    """A scribe of each stream, through one of the stores."""
    return [await scribe(journal, name, store=store) for name in names]


def numbered(prefix: str, count: int) -> list[str]:
    """Names of streams."""
    return [f"ses_{prefix}{number:02}" for number in range(count)]


class SharingContract:
    """What each of several writers may count on."""

    async def test_a_zombies_writes_fail_alone_among_those_of_its_living_neighbours(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        names = numbered("a", 12)
        first = await scribes(journal, journal.store, names)
        journal.clock.advance(LEASE_S + 1)
        taken = set(names[::3])
        second = {name: await scribe(journal, name, store=other) for name in sorted(taken)}
        tickets = [writer.write(said(by="first")) for writer in first]
        tickets += [writer.write(said(by="second")) for writer in second.values()]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        lost = {names[place] for place, result in enumerate(results[:12]) if result is not None}
        assert lost == taken
        assert all(isinstance(result, AppendConflict | None) for result in results)
        assert results[12:] == [None] * len(taken)
        for name in names:
            assert len(await journal.store.rows(name)) == 1

    async def test_many_writers_that_fight_for_the_same_streams_leave_whole_chains_and_lose_nothing(
        self, journal: JournalUnderTest
    ) -> None:
        stores = (journal.store, await journal.another(), await journal.another())
        names = numbered("f", 4)
        acknowledged: list[tuple[str, str]] = []

        async def fight(place: int) -> None:
            for turn in range(12):
                name = names[(place + turn) % len(names)]
                try:
                    writer = await scribe(journal, name, store=stores[place % 3])
                except LeaseHeld:
                    continue
                by = f"{place}-{turn}"
                rivals = [writer.write(said(by=f"{by}-{number}")) for number in range(3)]
                if turn % 2:
                    journal.clock.advance(LEASE_S + 1)  # everybody's lease is over, this one's too
                results = await asyncio.gather(*rivals, return_exceptions=True)
                acknowledged.extend(
                    (name, f"{by}-{number}") for number, result in enumerate(results) if result is None
                )
                await stores[place % 3].release(name, epoch=writer.epoch)

        await asyncio.gather(*(fight(place) for place in range(6)))
        found = await journal.store.feed(0, limit=10_000)
        assert len(found) == len(acknowledged) > 0
        for name in names:
            check_chain(await journal.store.rows(name))
        assert (await verify(journal.store)).ok

    async def test_of_two_stores_that_make_the_same_entry_one_wins_and_no_neighbour_fails(
        self, journal: JournalUnderTest
    ) -> None:
        stores = (journal.store, await journal.another())
        await owner_box(journal)
        writers = [await session(journal, name) for name in numbered("i", 8)]
        tickets = [
            stores[place % 2].append(
                writer.batch(started(idempotency="key" if place in {2, 5} else ""), run_id=f"run_{place}")
            )
            for place, writer in enumerate(writers)
        ]
        results = await asyncio.gather(*tickets, return_exceptions=True)
        refused = [place for place, result in enumerate(results) if result is not None]
        assert len(refused) == 1
        assert refused[0] in {2, 5}
        kept = await journal.store.entry("idempotency", "key")
        assert kept is not None
        assert kept.ref == f"run_{({2, 5} - set(refused)).pop()}"

    async def test_bodies_that_several_store_at_once_in_any_order_are_there_once(
        self, journal: JournalUnderTest
    ) -> None:
        stores = (journal.store, await journal.another())
        box = await owner_box(journal)
        bodies = [box.seal(f"text {number}") for number in range(30)]
        for turn in range(4):
            some = bodies[turn * 6 : turn * 6 + 12]
            writers = [await session(journal, name) for name in numbered(f"b{turn}", 6)]
            await asyncio.gather(
                *(
                    stores[place % 2].append(
                        writer.batch(said(), bodies=some if place % 4 < 2 else list(reversed(some)))
                    )
                    for place, writer in enumerate(writers)
                ),
                *(store.put_bodies(list(reversed(some))) for store in stores),
            )
        found = await stores[1].bodies(OWNER, [body.digest for body in bodies])
        assert sorted(body.digest for body in found) == sorted(body.digest for body in bodies)

    async def test_an_item_that_two_fold_in_is_folded_in_once(self, journal: JournalUnderTest) -> None:
        other = await journal.another()
        for number in range(6):
            name = f"ses_{number}"
            item = InboxItem(id=f"inb_{number}", stream=name, key="k", data=b"x", at_us=1)
            assert await other.post(item)
            writer = await scribe(journal, name)
            batch = writer.batch(said(), consumed=[item.id])
            results = await asyncio.gather(
                journal.store.append(batch), other.append(batch), return_exceptions=True
            )
            assert sorted(result is None for result in results) == [False, True]
            assert await other.inbox(name) == []

    async def test_an_erasure_among_writers_leaves_nothing_of_the_user(
        self, journal: JournalUnderTest
    ) -> None:
        stores = (journal.store, await journal.another())
        box, neighbours = await owner_box(journal), await owner_box(journal, "usr_other")
        writers = [await session(journal, name) for name in numbered("e", 4)]
        others = [await session(journal, name, owner="usr_other") for name in numbered("o", 4)]
        stored: list[BodyRow] = []

        async def write(place: int, writer: Scribe) -> None:
            store = stores[place % 2]
            for turn in range(15):
                body = box.seal(f"{place} {turn}")
                stored.append(body)
                try:
                    if turn % 3:
                        await store.append(writer.batch(said(body.digest), bodies=[body]))
                    else:
                        await store.put_bodies([body])
                except (AppendConflict, SessionEnded):
                    return

        async def carry_on(writer: Scribe) -> None:
            for turn in range(15):
                body = neighbours.seal(f"{writer.stream} {turn}")
                await journal.store.append(writer.batch(said(body.digest), bodies=[body]))

        async def erase() -> None:
            await journal.clock.sleep(0)
            await stores[1].erase_owner(OWNER, at_us=1)

        await asyncio.gather(
            *(write(place, writer) for place, writer in enumerate(writers)),
            *(carry_on(writer) for writer in others),
            erase(),
        )
        assert await journal.store.bodies(OWNER, [body.digest for body in stored]) == []
        assert await journal.store.owner_key(OWNER) is None
        for writer in others:
            assert len(await journal.store.rows(writer.stream)) == 16
        assert (await verify(journal.store)).ok

    async def test_a_body_that_is_needed_anew_while_its_stream_is_retired_is_kept(
        self, journal: JournalUnderTest
    ) -> None:
        other = await journal.another()
        box = await owner_box(journal)
        control = await scribe(journal, CONTROL_STREAM)
        for turn in range(6):
            body = box.seal(f"shared {turn}")
            old, new = await session(journal, f"ses_old{turn}"), await session(journal, f"ses_new{turn}")
            await old.write(said(body.digest), bodies=[body])
            gone = control.batch(SessionRetired(session=old.stream, last_seq=2, last_hash=""))
            await asyncio.gather(
                journal.store.delete_stream(old.stream, audit=gone),
                other.append(new.batch(said(body.digest), bodies=[body])),
            )
            assert await journal.store.rows(old.stream) == []
            assert list(await journal.store.bodies(OWNER, [body.digest])) == [body]

    async def test_a_journal_verifies_while_it_is_written_to(self, journal: JournalUnderTest) -> None:
        stores = (journal.store, await journal.another())
        writers = [
            (stores[place % 2], await scribe(journal, name, store=stores[place % 2]))
            for place, name in enumerate(numbered("v", 6))
        ]
        done = asyncio.Event()

        async def write(store: JournalStore, writer: Scribe) -> None:
            for _ in range(25):
                await store.append(writer.batch(said(), said()))

        async def check() -> int:
            count = position = 0
            while not done.is_set():
                report = await verify(stores[count % 2])
                assert report.problems == ()
                later, _ = await stores[count % 2].heads_changed_since(position)
                assert later >= position
                position = later
                count += 1
                await journal.clock.sleep(0)  # a store in memory never waits
            return count

        checking = asyncio.create_task(check())
        await asyncio.gather(*(write(store, writer) for store, writer in writers))
        done.set()
        assert await checking > 0
        assert (await verify(journal.store)).events == 300

    async def test_what_one_store_refuses_is_an_error_of_the_tree(self, journal: JournalUnderTest) -> None:
        writer = await scribe(journal)
        bad = msgspec.structs.replace(writer.batch(said()), stream="ses_" + "x" * 300)
        results = await asyncio.gather(
            (await journal.another()).append(bad), journal.store.append(bad), return_exceptions=True
        )
        assert all(isinstance(result, CattlegridError) for result in results)
