"""Conversations under a name that the client has chosen, and requests that follow a certain answer."""

import asyncio
from copy import copy

import pytest
from msgspec.structs import replace

from cattlegrid.core.errors import Conflict, IdempotencyMismatch
from cattlegrid.core.principal import Principal
from cattlegrid.runtime.requests import Accepted, RunRequest
from cattlegrid.testing.models import Stall, answer
from cattlegrid.testing.world import ANA, BO, World
from tests.unit.runtime.support import Build, bundle, check, entries

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("door:threads")]

HI = RunRequest(text="Hi", thread="web-4711", route="door")


async def ask(world: World, request: RunRequest = HI, principal: Principal = ANA) -> Accepted:
    accepted = await world.engine.start("support", principal, request)
    await world.finished(accepted, principal=principal)
    return accepted


async def test_a_name_stands_for_the_session_that_was_opened_under_it(build: Build) -> None:
    world = build(bundle(), lambda _: answer("Hello."))
    first = await ask(world)
    second = await ask(world, replace(HI, text="And?"))
    assert (second.session_id, second.run_id != first.run_id) == (first.session_id, True)
    assert [message.text for message in world.model.requests[-1].messages][-3:] == ["Hi", "Hello.", "And?"]
    await check(world)


async def test_names_are_apart_for_users_tenants_and_other_names(build: Build) -> None:
    world = build(bundle(), lambda _: answer("Hello."))
    other = replace(ANA, tenant="other")
    accepted = [
        await ask(world),
        await ask(world, principal=BO),
        await ask(world, principal=other),
        await ask(world, replace(HI, thread="web-4712")),
        await ask(world, replace(HI, thread="")),
    ]
    assert len({one.session_id for one in accepted}) == 5


async def test_a_name_passes_to_a_new_session_when_its_session_has_ended(build: Build) -> None:
    world = build(bundle(), lambda _: answer("Hello."))
    sessions: list[str] = []
    for _ in range(3):
        accepted = await ask(world)
        sessions.append(accepted.session_id)
        assert (await ask(world, replace(HI, text="And?"))).session_id == accepted.session_id
        await world.engine.close_session(accepted.session_id, ANA)
        await world.settled()
    assert len(set(sessions)) == 3
    assert len(await entries(world, "thread")) == 1


async def test_first_requests_under_a_name_at_the_same_moment_share_one_session(build: Build) -> None:
    """Half of them come to another process."""
    world = build(bundle(), lambda _: answer("Hello."))
    other = copy(world)
    other.restart()
    places = [world, other] * 5
    texts = [f"Number {number}" for number in range(10)]
    accepted = await asyncio.gather(
        *(
            place.engine.start("support", ANA, replace(HI, text=text))
            for place, text in zip(places, texts, strict=True)
        )
    )
    assert len({one.session_id for one in accepted}) == 1
    assert len({one.run_id for one in accepted}) == 10
    assert len(await entries(world, "session")) == 1


@pytest.mark.requirement("door:idempotency")
async def test_a_key_of_a_door_is_unique_whatever_conversation_the_request_names(build: Build) -> None:
    world = build(bundle(), lambda _: answer("Hello."))
    keyed = replace(HI, idempotency_key="k")
    first = await ask(world, keyed)
    assert (await ask(world, keyed)).run_id == first.run_id
    for other in (replace(keyed, thread="web-2"), replace(keyed, text="Ho"), replace(keyed, thread="")):
        with pytest.raises(IdempotencyMismatch):
            await world.engine.start("support", ANA, other)
    with pytest.raises(IdempotencyMismatch):
        await world.engine.submit(first.session_id, ANA, replace(keyed, thread=""))
    assert len(world.model.requests) == 1


@pytest.mark.requirement("door:threads")
async def test_a_request_that_follows_an_answer_is_refused_once_another_has_followed(build: Build) -> None:
    script = [answer("One."), answer("Two."), Stall(), answer("Four.")]
    world = build(bundle(), script)
    first = await ask(world, RunRequest(text="Hi"))
    follow = RunRequest(text="And?", after_run=first.run_id, idempotency_key="k", route="door")
    second = await world.engine.submit(first.session_id, ANA, follow)
    assert (await world.engine.submit(first.session_id, ANA, follow)).run_id == second.run_id
    await world.finished(second)
    assert (await world.engine.submit(first.session_id, ANA, follow)).run_id == second.run_id
    late = RunRequest(text="Or?", after_run=first.run_id)
    with pytest.raises(Conflict):
        await world.engine.submit(first.session_id, ANA, late)
    # A run that is still open may be followed once; the next one would have to follow the one that waits.
    third = await world.engine.submit(first.session_id, ANA, replace(late, after_run=second.run_id))
    waiting = replace(late, text="Then?", after_run=third.run_id)
    fourth = await world.engine.submit(first.session_id, ANA, waiting)
    with pytest.raises(Conflict):
        await world.engine.submit(first.session_id, ANA, replace(waiting, text="Else?"))
    again = await world.engine.submit(first.session_id, ANA, waiting)
    assert (again.run_id, again.joined) == (fourth.run_id, True)
    await world.engine.cancel(third.run_id, ANA)
    assert (await world.finished(fourth)).output == "Four."
