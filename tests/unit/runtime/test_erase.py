"""Erasing a user in the middle of everything: their runs end, their words are gone, their chains verify."""

import asyncio

import pytest

from cattlegrid.core.errors import SessionEnded
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import check_chain
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, BO, STAFF
from tests.unit.runtime.support import (
    PAY_ONCE,
    Build,
    Door,
    Till,
    bundle,
    calls,
    data_of,
    entries,
    idle,
    kinds,
    passing,
    show,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("journal:erase")]


async def test_a_user_erased_while_the_model_is_asked_gets_no_answer_any_more(build: Build) -> None:
    world = build(bundle(), [answer("Ana likes cats."), Stall(("Ana", "likes"))])
    first = await world.ask("I am Ana and like cats")
    open_run = await world.engine.submit(first.session_id, ANA, RunRequest(text="What do I like?"))
    waiting = await world.engine.submit(first.session_id, ANA, RunRequest(text="And what else?"))
    watching = [asyncio.ensure_future(world.finished(run)) for run in (open_run, waiting)]
    await idle()
    assert world.model.open_calls == 1
    assert await world.upkeep.erase("shop", "ana@example.com", by="staff") == 1
    assert world.model.open_calls == 0
    ended = await asyncio.gather(*watching)
    assert [(run.status, run.input, run.output) for run in ended] == [("erased", "(erased)", "")] * 2
    assert (await show(world, first.id)).output == "(erased)"
    [session] = await entries(world, "session")
    assert session.status == "erased"
    assert (await kinds(world, first.session_id))[-4:] == [
        "RunFinished",
        "RunStarted",
        "RunFinished",
        "SessionClosed",
    ]
    check_chain(await world.store.rows(first.session_id))
    refs = [value for data in await data_of(world, first.session_id) for value in _refs(data)]
    assert refs
    assert await world.store.bodies(session.owner, refs) == []
    [erased] = [d for d in await data_of(world, ev.CONTROL_STREAM) if isinstance(d, ev.UserErased)]
    assert (erased.owner, erased.by) == (session.owner, "staff")


async def test_a_user_erased_while_an_effect_runs_gets_no_further_effect(build: Build) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        till.pay(id)
        await door.enter()

    world = build(bundle(PAY_ONCE), [calls(("pay_once", 1), ("pay_once", 2))], functions={"pay_once": pay})
    accepted = await start(world)
    await door.reached.wait()
    await world.upkeep.erase("shop", "ana@example.com", by="staff")
    door.open()
    await idle()
    await world.recover()
    await world.settled()
    assert ((await show(world, accepted.run_id)).status, till.payments) == ("erased", [1])
    assert world.engine.runners == {}


async def test_a_user_erased_while_a_person_is_asked_has_no_open_approval_left(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1))],
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    await world.engine.let_go(run.session_id)
    await world.upkeep.erase("shop", "ana@example.com", by="staff")
    assert (await show(world, run.id)).status == "erased"
    assert await world.engine.reader.approvals(STAFF, statuses=["pending"]) == []
    world.clock.advance(100_000.0)
    await world.upkeep.expire_approvals()
    assert till.payments == []


async def test_an_erased_user_can_neither_speak_nor_be_replayed_in_their_old_sessions(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    await world.upkeep.erase("shop", "ana@example.com", by="staff")
    with pytest.raises(SessionEnded):
        await world.engine.submit(run.session_id, ANA, RunRequest(text="Still there?"))
    with pytest.raises(SessionEnded):
        await world.engine.feedback(run.id, ANA, text="Words")
    with pytest.raises(SessionEnded):
        await world.replayer.exact(run.session_id)


async def test_an_erasure_leaves_everybody_else_alone(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Bo likes dogs."), answer("Dogs.")])
    await start(world)
    await idle()
    bo = await world.ask("I am Bo and like dogs", principal=BO)
    await world.upkeep.erase("shop", "ana@example.com", by="staff")
    again = await world.ask("What do I like?", principal=BO, session_id=bo.session_id)
    assert (again.output, (await show(world, bo.id)).input) == ("Dogs.", "I am Bo and like dogs")
    assert sorted(entry.status for entry in await entries(world, "session")) == ["erased", "open"]


async def test_erasing_twice_or_nobody_is_harmless(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    assert await world.upkeep.erase("shop", "nobody@example.com", by="staff") == 0
    for _ in range(2):
        assert await world.upkeep.erase("shop", "ana@example.com", by="staff") == 1
    assert (await kinds(world, run.session_id)).count("SessionClosed") == 1


async def test_an_erasure_that_died_half_way_is_finished_by_the_next_rounds(build: Build) -> None:
    """The key is gone, and the process with it: whoever finds the open run ends it."""
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    await idle()
    await world.crash()
    owner = world.vault.owner_of("shop", "ana@example.com")
    await world.store.erase_owner(owner, at_us=0)
    await world.recover()
    await passing(world, world.settled())
    for _ in range(2):
        world.clock.advance(10.0)
        await world.upkeep.recover()
    assert (await show(world, accepted.run_id)).status == "erased"
    head = await world.store.head(accepted.session_id)
    assert head is not None
    assert head.lease_until is None


async def test_what_is_posted_for_an_erased_user_is_dropped(build: Build) -> None:
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    await idle()
    await world.crash()
    world.restart()
    waiting = await world.engine.submit(accepted.session_id, ANA, RunRequest(text="More words"))
    await world.engine.cancel(accepted.run_id, ANA)
    await world.store.erase_owner(world.vault.owner_of("shop", "ana@example.com"), at_us=0)
    world.restart()
    await world.upkeep.attend_inboxes()
    assert await world.store.inbox(accepted.session_id) == []
    assert [(await show(world, id)).status for id in (accepted.run_id, waiting.run_id)] == ["erased"] * 2


def _refs(data: ev.Data) -> list[str]:
    return [
        value
        for name in data.__struct_fields__
        if name.endswith("_ref") and isinstance(value := getattr(data, name), str) and value
    ]
