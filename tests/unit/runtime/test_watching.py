"""Those who watch and wait for runs: they miss nothing that is recorded, and leave nothing behind."""

import asyncio
from collections.abc import Sequence

import pytest

from cattlegrid.core.errors import NotFound
from cattlegrid.core.messages import TextDelta
from cattlegrid.runtime.requests import Accepted, RunRequest
from cattlegrid.runtime.streams import START, Place, RunStream, StreamItem
from cattlegrid.testing.models import Stall, answer, call
from cattlegrid.testing.world import ANA, BO, World, bundle_of, tool_of

pytestmark = pytest.mark.anyio

REFUND = tool_of("refund", effect="write", retry="keyed", arguments={"amount": "number"})


def shop(*script: object) -> World:
    bundle = bundle_of("support", tools=[REFUND], approve={"refund": "amount > 50"})
    return World(bundle, model=list(script), functions={"refund": lambda amount: {"id": 1}})  # pyright: ignore[reportArgumentType]


async def seen(world: World, run_id: str, after: Place = START) -> Sequence[StreamItem]:
    async with asyncio.timeout(5):
        return [item async for item in world.engine.follow(run_id, ANA, after)]


async def test_waiting_for_a_run_that_has_ended_returns_at_once() -> None:
    world = shop(answer("Hello."))
    run = await world.ask("Hi")
    await seen(world, run.id)
    again = await world.finished(Accepted(session_id=run.session_id, run_id=run.id))
    assert again.status == "completed"


async def test_waiting_for_a_held_run_whose_session_was_given_back_returns_at_once() -> None:
    world = shop(answer(calls=[call("refund", amount=79.9)]), answer("Done."))
    run = await world.ask("Refund")
    await world.engine.let_go(run.session_id)
    again = await world.finished(Accepted(session_id=run.session_id, run_id=run.id))
    assert again.status == "held"


async def test_a_watcher_after_a_restart_is_told_everything_recorded() -> None:
    world = shop(answer("Hello."))
    run = await world.ask("Hi")
    world.restart()
    assert [item.type for item in await seen(world, run.id)] == [
        "run.started",
        "step.started",
        "step.finished",
        "run.finished",
    ]


async def test_a_watcher_that_comes_back_is_told_only_what_is_new() -> None:
    world = shop(answer("Hello."))
    run = await world.ask("Hi")
    everything = await seen(world, run.id)
    for place, item in enumerate(everything):
        assert await seen(world, run.id, item.place) == everything[place + 1 :]


async def test_pieces_of_an_answer_are_told_until_another_step_speaks() -> None:
    stream = RunStream()
    stream.record(StreamItem(place=(1, 0), type="run.started", data={}))
    stream.provisional(TextDelta("Hel"), "first")
    stream.provisional(TextDelta("lo"), "first")
    stream.record(StreamItem(place=(2, 0), type="step.finished", data={}))
    watcher = stream.follow()
    assert [(await anext(watcher)).place for _ in range(4)] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    stream.provisional(TextDelta("Bye"), "second")
    late = stream.follow()
    assert [(await anext(late)).place for _ in range(3)] == [(1, 0), (2, 0), (2, 1)]


async def test_ended_runs_leave_no_stream_behind_whether_watched_or_not() -> None:
    world = shop(answer("Hello."), answer("Hello again."))
    run = await world.ask("Hi")
    await seen(world, run.id)
    await world.engine.submit(run.session_id, ANA, RunRequest(text="And again"))
    await world.settled()
    assert world.engine.open_streams == 0


async def test_a_queued_run_is_shown_watched_and_cancelled_like_any_other() -> None:
    world = shop(Stall(), answer("Second."))
    first = await world.engine.start("support", ANA, RunRequest(text="First"))
    second = await world.engine.submit(first.session_id, ANA, RunRequest(text="Second"))
    view = await world.engine.reader.run(second.run_id, ANA)
    assert (view.status, view.input, view.session_id) == ("queued", "Second", first.session_id)
    with pytest.raises(NotFound):
        await world.engine.reader.run(second.run_id, BO)
    watching = asyncio.create_task(seen(world, second.run_id))
    await world.engine.cancel(second.run_id, ANA)
    await world.engine.cancel(first.run_id, ANA)
    assert [item.type for item in await watching][-1] == "run.finished"
    assert (await world.engine.reader.run(second.run_id, ANA)).status == "cancelled"
