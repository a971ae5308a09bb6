"""What watchers of a run are told while it goes on: pieces, resets, holds, recoveries; and nothing that is taken back."""

import asyncio

import pytest

from cattlegrid.core.bundle import ContextPolicy
from cattlegrid.core.errors import InvalidRequest, ModelUnavailable, NotFound
from cattlegrid.core.messages import ModelRequest, Usage
from cattlegrid.runtime import wording
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.runtime.streams import START, Place, StreamItem, parse_place
from cattlegrid.testing.models import Answer, Break, Stall, answer
from cattlegrid.testing.world import ANA, BO, STAFF, World
from tests.unit.runtime.bank import by_turn
from tests.unit.runtime.support import (
    LOOK,
    PAY_ONCE,
    Build,
    Door,
    Till,
    approve,
    bundle,
    calls,
    disk,
    idle,
    passing,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("server:events")]


class Watcher:
    """Somebody who watches a run, from a place on."""

    def __init__(self, world: World, run_id: str, after: Place = START) -> None:
        self.seen: list[StreamItem] = []
        self._task = asyncio.ensure_future(self._watch(world, run_id, after))

    async def _watch(self, world: World, run_id: str, after: Place) -> None:
        async for item in world.engine.follow(run_id, ANA, after):
            self.seen.append(item)

    async def to_the_end(self) -> list[str]:
        async with asyncio.timeout(5):
            await self._task
        return self.types

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def types(self) -> list[str]:
        return [item.type for item in self.seen]

    @property
    def text(self) -> str:
        """What somebody reads who follows the pieces as they are meant."""
        text = ""
        for item in self.seen:
            if item.type == "message.delta":
                text += str(item.data["text"])
            elif item.type in {"message.reset", "run.restarted"}:
                text = ""
        return text


async def test_a_watcher_is_told_each_step_and_each_piece_in_order(build: Build) -> None:
    world = build(
        bundle(LOOK), [calls(("look", 1)), answer("All is well.")], functions={"look": lambda id: id}
    )
    accepted = await start(world)
    watcher = Watcher(world, accepted.run_id)
    assert await watcher.to_the_end() == [
        "run.started",
        "step.started",
        "step.finished",
        "step.started",
        "step.finished",
        "step.started",
        "message.delta",
        "message.delta",
        "message.delta",
        "step.finished",
        "run.finished",
    ]
    assert watcher.text == "All is well."
    places = [item.place for item in watcher.seen]
    assert places == sorted(set(places))
    assert watcher.seen[-1].data == {"run_id": accepted.run_id, "status": "completed", "reason": ""}


async def test_pieces_of_an_attempt_that_failed_are_taken_back_before_the_next_come(build: Build) -> None:
    cut = Break(("All ", "is "), ModelUnavailable("The model went away."))
    world = build(bundle(), [cut, answer("All is well.")])
    accepted = await start(world)
    watcher = Watcher(world, accepted.run_id)
    await passing(world, world.finished(accepted))
    assert (await watcher.to_the_end()).count("message.reset") == 1
    assert watcher.text == "All is well."


async def test_a_watcher_that_comes_back_at_any_place_misses_nothing_and_hears_nothing_twice(
    build: Build,
) -> None:
    world = build(
        bundle(LOOK), [calls(("look", 1)), answer("All is well.")], functions={"look": lambda id: id}
    )
    accepted = await start(world)
    first = Watcher(world, accepted.run_id)
    await first.to_the_end()
    recorded = [item for item in first.seen if item.place[1] == 0]
    for item in first.seen:
        back = Watcher(world, accepted.run_id, parse_place(item.id))
        await back.to_the_end()
        assert back.seen == [other for other in recorded if other.place > item.place]


async def test_a_watcher_that_comes_late_hears_the_pieces_of_the_answer_that_is_being_given(
    build: Build,
) -> None:
    world = build(bundle(), [Stall(("All ", "is "))])
    accepted = await start(world)
    await idle()
    late = Watcher(world, accepted.run_id)
    await idle()
    assert (late.types, late.text) == (
        ["run.started", "step.started", "message.delta", "message.delta"],
        "All is ",
    )
    again = Watcher(world, accepted.run_id, late.seen[-2].place)
    await idle()
    assert again.text == "is "
    await world.engine.cancel(accepted.run_id, ANA)
    assert (await late.to_the_end())[-3:] == ["run.cancelling", "step.finished", "run.finished"]
    await again.to_the_end()


async def test_a_summary_of_the_history_is_for_the_model_and_never_told(build: Build) -> None:
    def model(request: ModelRequest) -> Answer:
        summary = request.messages[0].text == wording.SUMMARY_PROMPT
        return answer("Secret summary.") if summary else answer("Yes.", usage=Usage(input_tokens=990))

    world = build(bundle(context=ContextPolicy(max_tokens=1_000, strategy="summarise")), model)
    first = await world.ask("Hi")
    again = await world.engine.submit(
        first.session_id, ANA, RunRequest(text="And now something longer, please.")
    )
    watcher = Watcher(world, again.run_id)
    await watcher.to_the_end()
    kinds = [item.data["kind"] for item in watcher.seen if item.type == "step.started"]
    assert kinds == ["summary", "chat"]
    assert watcher.text == "Yes."


async def test_watchers_do_not_disturb_each_other_and_leaving_changes_nothing(build: Build) -> None:
    world = build(bundle(), [Stall(("Well",)), answer("Hello.")])
    accepted = await start(world)
    watchers = [Watcher(world, accepted.run_id) for _ in range(5)]
    await idle()
    await watchers[0].leave()
    await world.engine.cancel(accepted.run_id, ANA)
    ended = [await watcher.to_the_end() for watcher in watchers[1:]]
    assert ended == [ended[0]] * 4
    assert ended[0][-1] == "run.finished"
    assert world.engine.open_streams == 0


async def test_a_hold_and_its_decision_are_told(build: Build) -> None:
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("Paid.")],
        functions={"pay_once": Till().pay},
    )
    run = await world.finished(await start(world))
    watcher = Watcher(world, run.id)
    await idle()
    [held] = [item for item in watcher.seen if item.type == "run.held"]
    assert held.data["approval_id"] == run.approvals[0].id
    assert (held.data["tool"], held.data["reason"]) == ("pay_once", "approval")
    await approve(world, run)
    assert (await watcher.to_the_end())[-8:-4] == [
        "run.held",
        "approval.decided",
        "step.started",
        "step.finished",
    ]


@pytest.mark.requirement("server:provisional")
async def test_after_a_recovery_the_stream_says_so_and_gives_the_answer_again(build: Build) -> None:
    world = build(bundle(), [Stall(("All ",)), answer("All is well.")])
    accepted = await start(world)
    before = Watcher(world, accepted.run_id)
    await idle()
    assert before.text == "All "
    await world.crash()
    await before.leave()
    await world.recover()
    after = Watcher(world, accepted.run_id, before.seen[-1].place)
    await after.to_the_end()
    assert after.types[0] == "run.restarted"
    assert (after.text, after.types[-1]) == ("All is well.", "run.finished")


@pytest.mark.requirement("server:provisional")
async def test_a_recovery_within_the_process_reaches_those_who_are_watching(build: Build) -> None:
    world = build(bundle(), [Stall(("All ",)), answer("All is well.")])
    accepted = await start(world)
    watcher = Watcher(world, accepted.run_id)
    await idle()
    await world.engine.drop(accepted.session_id)
    await world.upkeep.recover()
    await watcher.to_the_end()
    assert "run.restarted" in watcher.types
    assert watcher.text == "All is well."


@pytest.mark.requirement("server:provisional")
async def test_nothing_is_told_that_is_not_durable(build: Build) -> None:
    """What a crash would take back must not have been said: it would have another number afterwards."""
    door = Door()

    async def look(id: int) -> object:
        await door.enter()
        return id

    script = by_turn(calls(("look", 1)), answer("All is well."))
    world = build(bundle(LOOK), script, functions={"look": look})
    accepted = await start(world)
    watcher = Watcher(world, accepted.run_id)
    await door.reached.wait()
    await idle()
    disk(world).slow()
    door.open()
    await idle()
    assert len(world.model.requests) == 2
    assert watcher.types == ["run.started", "step.started", "step.finished", "step.started"]
    await world.crash()
    await watcher.leave()
    await world.recover()
    back = Watcher(world, accepted.run_id, watcher.seen[-1].place)
    assert (await back.to_the_end())[0] == "run.restarted"
    assert back.text == "All is well."


async def test_a_held_run_of_a_session_that_was_let_go_can_be_watched_and_leaves_nothing_behind(
    build: Build,
) -> None:
    world = build(
        bundle(PAY_ONCE, approve={"pay_once": "always"}),
        [calls(("pay_once", 1)), answer("Paid.")],
        functions={"pay_once": Till().pay},
    )
    run = await world.finished(await start(world))
    await world.engine.let_go(run.session_id)
    assert world.engine.open_streams == 0
    watcher = Watcher(world, run.id)
    await idle()
    assert watcher.types[-1] == "run.held"
    assert world.engine.open_streams == 1
    gone = Watcher(world, run.id)
    await idle()
    await gone.leave()
    await approve(world, run)
    assert (await watcher.to_the_end())[-1] == "run.finished"
    assert world.engine.open_streams == 0


async def test_streams_do_not_grow_with_the_runs_of_a_process(build: Build) -> None:
    world = build(bundle(), lambda request: answer("Hello."))
    session_id = await world.engine.open_session("support", ANA)
    for number in range(50):
        accepted = await world.engine.submit(session_id, ANA, RunRequest(text=f"{number}"))
        if number % 2:
            await Watcher(world, accepted.run_id).to_the_end()
        else:
            await world.finished(accepted)
    assert world.engine.open_streams == 0


async def test_waiting_ends_with_its_time_and_shows_the_run_as_it_is(build: Build) -> None:
    world = build(bundle(), [Stall()])
    accepted = await start(world)
    view = await world.engine.wait(accepted, ANA, timeout_s=0.01)
    assert view.status == "running"
    await world.engine.cancel(accepted.run_id, ANA)
    await world.finished(accepted)


async def test_a_client_that_waits_hears_of_the_hold_of_a_run_that_waited_before(build: Build) -> None:
    door = Door()

    async def look(id: int) -> object:
        await door.enter()
        return id

    world = build(
        bundle(LOOK, PAY_ONCE, approve={"pay_once": "always"}),
        by_turn(calls(("look", 1)), answer("Seen."), calls(("pay_once", 1)), answer("Paid.")),
        functions={"look": look, "pay_once": Till().pay},
    )
    first = await start(world)
    second = await world.engine.submit(first.session_id, ANA, RunRequest(text="Pay"))
    waiting = asyncio.ensure_future(world.finished(second))
    await door.reached.wait()
    door.open()
    run = await waiting
    assert (run.status, run.approvals[0].tool) == ("held", "pay_once")
    await world.engine.cancel(second.run_id, ANA)


async def test_nobody_watches_the_run_of_another(build: Build) -> None:
    world = build(bundle(), [answer("Hello.")])
    run = await world.ask("Hi")
    for principal in (BO,):
        with pytest.raises(NotFound):
            await anext(world.engine.follow(run.id, principal))
    assert (await anext(world.engine.follow(run.id, STAFF))).type == "run.started"


@pytest.mark.parametrize("text", ["", "x", "1.x", "-1", "1.-1", "1.2.3", "\u0661", "9" * 30, " 1"])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_place(text)


def test_ids_are_read_as_they_are_written() -> None:
    for place in ((1, 0), (12, 3)):
        assert parse_place(StreamItem(place=place, type="x", data={}).id) == place
