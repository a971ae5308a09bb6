"""A second request while a run is open: it waits, is refused, interrupts, or joins; nothing accepted is lost."""

import asyncio

import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import Limits
from cattlegrid.core.errors import Limited, NotFound, SessionBusy, SessionEnded, StoreUnavailable, TooLarge
from cattlegrid.core.messages import Message, Role
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import Accepted, OnBusy, RunRequest
from cattlegrid.runtime.texts import encoded
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, BO, STAFF, World
from tests.unit.runtime.support import (
    PAY_ONCE,
    Build,
    Till,
    approve,
    bundle,
    calls,
    data_of,
    disk,
    entries,
    idle,
    kinds,
    show,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:serial")]


async def ask(world: World, session_id: str, text: str, on_busy: OnBusy = OnBusy.QUEUE) -> Accepted:
    return await world.engine.submit(session_id, ANA, RunRequest(text=text, on_busy=on_busy))


@pytest.mark.requirement("input:concurrent")
async def test_requests_of_one_session_are_answered_one_after_the_other_in_their_order(build: Build) -> None:
    world = build(bundle(), [Stall(), *(answer(f"Answer {n}.") for n in range(4))])
    first = await start(world, "0")
    accepted = [await ask(world, first.session_id, str(n)) for n in range(1, 5)]
    await world.engine.cancel(first.run_id, ANA)
    runs = [await world.finished(one) for one in accepted]
    assert [run.output for run in runs] == [f"Answer {n}." for n in range(4)]
    started = [
        d for d in await data_of(world, first.session_id) if isinstance(d, ev.RunStarted | ev.RunFinished)
    ]
    assert [type(data) for data in started] == [ev.RunStarted, ev.RunFinished] * 5


@pytest.mark.requirement("input:concurrent")
async def test_many_requests_at_the_same_moment_lose_nothing_and_mix_nothing(build: Build) -> None:
    world = build(bundle(), lambda request: answer(f"You said {request.messages[-1].text}."))
    session_id = await world.engine.open_session("support", ANA)
    accepted = await asyncio.gather(*(ask(world, session_id, str(n)) for n in range(12)))
    runs = [await world.finished(one) for one in accepted]
    assert [run.output for run in runs] == [f"You said {n}." for n in range(12)]
    assert len({run.id for run in runs}) == 12


async def test_a_request_is_refused_when_the_client_wants_no_waiting(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Now.")])
    first = await start(world, "First")
    with pytest.raises(SessionBusy):
        await ask(world, first.session_id, "Second", OnBusy.REJECT)
    await world.engine.cancel(first.run_id, ANA)
    await world.finished(first)
    now = await ask(world, first.session_id, "Second", OnBusy.REJECT)
    assert (await world.finished(now)).output == "Now."


async def test_a_refused_request_leaves_no_word_behind(build: Build) -> None:
    world = build(bundle(), [Stall()])
    first = await start(world, "First")
    with pytest.raises(SessionBusy):
        await ask(world, first.session_id, "A secret word", OnBusy.REJECT)
    with pytest.raises(TooLarge):
        await ask(world, first.session_id, "x" * 40_000)
    await world.engine.cancel(first.run_id, ANA)
    await world.finished(first)
    [session] = await entries(world, "session")
    box = await world.vault.open_owner(session.owner)
    digests = [
        box.digest(encoded(Message(Role.USER, text))[1]) for text in ("A secret word", "x" * 40_000, "First")
    ]
    assert [body.digest for body in await world.store.bodies(session.owner, digests)] == digests[2:]


async def test_an_interrupting_request_ends_the_open_run_and_is_answered(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Second.")])
    first = await start(world, "First")
    await idle()
    second = await ask(world, first.session_id, "Second", OnBusy.INTERRUPT)
    assert (await world.finished(second)).output == "Second."
    assert (await show(world, first.run_id)).status == "cancelled"
    [cancelled] = [d for d in await data_of(world, first.session_id) if isinstance(d, ev.CancelRequested)]
    assert cancelled.reason == "interrupted"


async def test_an_interrupting_request_ends_a_run_that_waits_for_a_person(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("Second.")],
        functions={"pay_once": till.pay},
    )
    first = await world.finished(await start(world))
    assert first.status == "held"
    second = await ask(world, first.session_id, "Never mind", OnBusy.INTERRUPT)
    assert (await world.finished(second)).output == "Second."
    assert ((await show(world, first.id)).status, till.payments) == ("cancelled", [])


async def test_a_request_waits_behind_a_held_run_until_a_person_has_decided(build: Build) -> None:
    till = Till()
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("Paid."), answer("Second.")],
        functions={"pay_once": till.pay},
    )
    first = await world.finished(await start(world))
    second = await ask(world, first.session_id, "Is it done?")
    assert (await world.engine.reader.run(second.run_id, ANA)).status == "queued"
    await approve(world, first)
    assert (await world.finished(second)).output == "Second."


@pytest.mark.requirement("runtime:join")
async def test_the_same_text_again_joins_the_open_run_or_the_waiting_one(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Second.")])
    first = await start(world, "First")
    again = await ask(world, first.session_id, "First")
    assert (again.run_id, again.joined) == (first.run_id, True)
    second = await ask(world, first.session_id, "Second")
    assert not second.joined
    twice = await asyncio.gather(*(ask(world, first.session_id, "Second") for _ in range(3)))
    assert {(one.run_id, one.joined) for one in twice} == {(second.run_id, True)}
    await world.engine.cancel(first.run_id, ANA)
    assert (await world.finished(second)).output == "Second."
    assert len(world.model.requests) == 2


@pytest.mark.requirement("runtime:join")
async def test_the_same_text_after_the_run_has_ended_or_is_being_cancelled_is_a_run_of_its_own(
    build: Build,
) -> None:
    world = build(bundle(), [answer("One."), Stall(), answer("Three.")])
    first = await world.ask("Hi")
    second = await ask(world, first.session_id, "Hi")
    assert second.run_id != first.id
    await idle()
    third = await ask(world, first.session_id, "Hi", OnBusy.INTERRUPT)
    assert third.run_id == second.run_id
    await world.engine.cancel(second.run_id, ANA)
    fourth = await ask(world, first.session_id, "Hi")
    assert fourth.run_id != second.run_id
    assert (await world.finished(fourth)).output == "Three."


async def test_the_queue_of_a_session_is_bounded_whatever_comes_at_once(build: Build) -> None:
    world = build(bundle(limits=Limits(queue=3)), [Stall(), *(answer("Yes.") for _ in range(3))])
    first = await start(world, "First")
    tried = await asyncio.gather(
        *(ask(world, first.session_id, f"More {n}") for n in range(20)), return_exceptions=True
    )
    accepted = [one for one in tried if isinstance(one, Accepted)]
    refused = [one for one in tried if isinstance(one, Limited)]
    assert (len(accepted), len(refused)) == (3, 17)
    assert all(error.retry_after_s for error in refused)
    await world.engine.cancel(first.run_id, ANA)
    assert [(await world.finished(one)).status for one in accepted] == ["completed"] * 3


async def test_waiting_requests_survive_a_crash_in_their_order(build: Build) -> None:
    script = [Stall(), answer("First again."), answer("Second."), answer("Third.")]
    world = build(bundle(), script)
    first = await start(world, "First")
    second = await ask(world, first.session_id, "Second")
    third = await ask(world, first.session_id, "Third")
    await idle()
    await world.crash()
    await world.recover()
    assert (await world.finished(first)).output == "First again."
    assert [(await world.finished(one)).output for one in (second, third)] == ["Second.", "Third."]


async def test_a_request_that_comes_while_the_dead_process_still_has_the_lease_is_answered_later(
    build: Build,
) -> None:
    world = build(bundle(), [answer("First."), answer("Second.")])
    first = await world.ask("First")
    await world.crash()
    world.restart()
    second = await ask(world, first.session_id, "Second")
    assert (await world.engine.reader.run(second.run_id, ANA)).status == "queued"
    world.clock.advance(6.1)
    await world.upkeep.attend_inboxes()
    assert (await world.finished(second)).output == "Second."


async def test_a_client_that_wants_no_waiting_is_told_that_another_process_is_at_work(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Recovered.")])
    first = await start(world)
    await idle()
    await world.crash()
    world.restart()
    with pytest.raises(SessionBusy):
        await ask(world, first.session_id, "Second", OnBusy.REJECT)
    await world.recover()
    assert (await world.finished(first)).output == "Recovered."


@pytest.mark.requirement("input:foreign")
async def test_nobody_speaks_in_the_session_of_another_not_even_staff(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    for principal in (BO, STAFF, replace(ANA, tenant="elsewhere")):
        with pytest.raises(NotFound) as foreign:
            await world.engine.submit(run.session_id, principal, RunRequest(text="Hi"))
        with pytest.raises(NotFound) as unknown:
            await world.engine.submit("ses_unknown", principal, RunRequest(text="Hi"))
        assert str(foreign.value) == str(unknown.value)


async def test_a_session_that_has_ended_takes_no_request(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    await world.engine.close_session(run.session_id, ANA)
    await world.settled()
    with pytest.raises(SessionEnded):
        await ask(world, run.session_id, "Still there?")
    await world.engine.let_go(run.session_id)
    with pytest.raises(SessionEnded):
        await ask(world, run.session_id, "Still there?")


async def test_closing_waits_for_what_was_accepted_before(build: Build) -> None:
    world = build(bundle(), [Stall(), answer("Second.")])
    first = await start(world, "First")
    second = await ask(world, first.session_id, "Second")
    await world.engine.close_session(first.session_id, ANA)
    await idle()
    await world.engine.cancel(first.run_id, ANA)
    assert (await world.finished(second)).output == "Second."
    await world.settled()
    assert (await kinds(world, first.session_id))[-2:] == ["RunFinished", "SessionClosed"]


async def test_a_request_that_was_accepted_for_a_session_that_then_closed_ends_all_the_same(
    build: Build,
) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    await world.crash()
    world.restart()
    await world.engine.close_session(run.session_id, ANA)
    late = await ask(world, run.session_id, "One more")
    world.clock.advance(6.1)
    await world.upkeep.attend_inboxes()
    ended = await world.finished(late)
    assert ended.status in {"completed", "cancelled", "failed"}
    assert (await entries(world, "session"))[0].status == "completed"


async def test_a_process_that_drains_takes_nothing_new(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    world.engine.begin_draining()
    with pytest.raises(StoreUnavailable):
        await start(world)
    with pytest.raises(StoreUnavailable):
        await ask(world, run.session_id, "More")
    with pytest.raises(StoreUnavailable):
        await world.engine.open_session("support", ANA)


async def test_a_request_whose_client_leaves_before_it_is_durable_is_answered_all_the_same(
    build: Build,
) -> None:
    world = build(bundle(), [answer("Hello.") for _ in range(3)])
    run = await world.ask("Hi")
    disk(world).slow()
    leaving = [
        asyncio.ensure_future(ask(world, run.session_id, "Second")),
        asyncio.ensure_future(start(world, "Third")),
    ]
    await idle()
    for client in leaving:
        assert not client.done()
        client.cancel()
    await idle()
    disk(world).hurry()
    await idle()
    await world.settled()
    assert [entry.status for entry in await entries(world, "run")] == ["completed"] * 3
