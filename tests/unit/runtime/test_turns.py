"""The calls of one turn: which leave together, what the model is told of each, and in which order."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import Limits
from cattlegrid.core.messages import Message, ToolCall
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import Finding, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.testing.models import answer
from cattlegrid.testing.world import STAFF, World, tool_of
from tests.unit.runtime.support import (
    LOOK,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    Door,
    Till,
    bundle,
    calls,
    data_of,
    idle,
    show,
    start,
    told,
)

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("runtime:parallel-tools")
async def test_reads_of_one_turn_run_side_by_side_and_are_answered_in_the_order_of_the_calls(
    build: Build,
) -> None:
    doors = {id: Door() for id in (1, 2, 3)}

    async def look(id: int) -> object:
        await doors[id].enter()
        return {"seen": id}

    script = [calls(("look", 1), ("look", 2), ("look", 3)), answer("Done.")]
    world = build(bundle(LOOK), script, functions={"look": look})
    run = await start(world)
    for door in doors.values():
        await asyncio.wait_for(door.reached.wait(), 5)
    for id in (3, 1, 2):
        doors[id].open()
        await idle()
    assert (await world.finished(run)).status == "completed"
    assert told(world.model.requests[1]) == ['{"seen":1}', '{"seen":2}', '{"seen":3}']
    done = [data for data in await data_of(world, run.session_id) if isinstance(data, ev.StepDone)]
    assert [data.step_id[-3:] for data in done] == ["001", "004", "002", "003", "005"]


@pytest.mark.requirement("runtime:parallel-tools")
async def test_effects_of_one_turn_run_one_at_a_time_in_their_order(build: Build) -> None:
    under_way: list[int] = []
    most: list[int] = []

    async def pay(id: int) -> object:
        under_way.append(id)
        most.append(len(under_way))
        await idle(5)
        under_way.remove(id)
        return {"paid": id}

    script = [calls(("pay_keyed", 1), ("pay_once", 2), ("pay_keyed", 3)), answer("Done.")]
    world = build(bundle(PAY_KEYED, PAY_ONCE), script, functions={"pay_keyed": pay, "pay_once": pay})
    await world.finished(await start(world))
    assert [request.arguments for request in world.tools.requests] == ['{"id":1}', '{"id":2}', '{"id":3}']
    assert most == [1, 1, 1]


async def test_reads_before_and_after_an_effect_keep_their_place(build: Build) -> None:
    order: list[str] = []

    def noted(name: str) -> Callable[[int], object]:
        def note(id: int) -> object:
            order.append(f"{name} {id}")
            return id

        return note

    script = [calls(("look", 1), ("pay_keyed", 2), ("look", 3)), answer("Done.")]
    functions = {"look": noted("look"), "pay_keyed": noted("pay")}
    world = build(bundle(LOOK, PAY_KEYED), script, functions=functions)
    await world.finished(await start(world))
    assert order == ["look 1", "pay 2", "look 3"]


async def test_an_approved_effect_waits_for_the_effect_under_way(build: Build) -> None:
    door, till = Door(), Till()

    async def pay(id: int) -> object:
        if id == 2:
            await door.enter()
        return till.pay(id)

    script = [calls(("pay_keyed", 60), ("pay_keyed", 2)), answer("Done.")]
    world = build(bundle(PAY_KEYED, approve={"pay_keyed": "id > 50"}), script, functions={"pay_keyed": pay})
    accepted = await start(world)
    await asyncio.wait_for(door.reached.wait(), 5)
    run = await show(world, accepted.run_id)
    await world.engine.decide(run.approvals[0].id, STAFF, ev.ApprovalDecision.APPROVE)
    await idle()
    assert till.payments == []
    door.open()
    await world.finished(accepted)
    await world.settled()
    assert till.payments == [2, 60]


@pytest.mark.requirement("tools:arguments")
async def test_a_model_that_names_an_unknown_tool_is_told_and_can_mend_it(build: Build) -> None:
    script = [calls(("lok", 1)), calls(("look", 1)), answer("Seen.")]
    world = build(bundle(LOOK), script, functions={"look": lambda id: {"seen": id}})
    run = await world.finished(await start(world))
    assert run.output == "Seen."
    assert told(world.model.requests[1]) == ["There is no tool `lok`. The tools are: look."]
    assert [request.arguments for request in world.tools.requests] == ['{"id":1}']


async def test_a_tool_for_the_runtime_alone_is_unknown_to_the_model(build: Build) -> None:
    undoable = tool_of("book", effect="write", undo="unbook", arguments={"id": "integer"})
    unbook = tool_of("unbook", effect="write", retry="keyed", arguments={"id": "integer"})
    script = [calls(("unbook", 1)), answer("No.")]
    world = build(bundle(undoable, unbook), script, functions={"unbook": lambda id: id})
    await world.finished(await start(world))
    assert world.tools.requests == []
    assert [tool.name for tool in world.model.requests[0].tools] == ["book"]
    assert "There is no tool `unbook`" in told(world.model.requests[1])[0]


@pytest.mark.requirement("tools:arguments")
@pytest.mark.parametrize(
    "arguments", ['{"id": "17"}', '{"id": 17, "force": true}', "{}", "{id: 17}", "[17]", "nul"]
)
async def test_wrong_arguments_are_refused_in_words_and_can_be_mended(build: Build, arguments: str) -> None:
    wrong = answer(calls=[ToolCall("call_0", "look", arguments)])
    world = build(
        bundle(LOOK), [wrong, calls(("look", 17)), answer("Seen.")], functions={"look": lambda id: id}
    )
    run = await world.finished(await start(world))
    assert run.output == "Seen."
    assert "so it was not called" in told(world.model.requests[1])[0]
    assert len(world.tools.requests) == 1
    assert [step.status for step in (await show(world, run.id)).steps] == [
        "done",
        "refused",
        "done",
        "done",
        "done",
    ]


async def test_calls_beyond_the_limit_of_a_turn_are_refused_and_asked_again_later(build: Build) -> None:
    limits = Limits(tool_calls_per_turn=2)
    script = [calls(("look", 1), ("look", 2), ("look", 3)), calls(("look", 3)), answer("Done.")]
    world = build(bundle(LOOK, limits=limits), script, functions={"look": lambda id: id})
    run = await world.finished(await start(world))
    assert run.status == "completed"
    assert [told(request) for request in world.model.requests[1:]] == [
        [
            "1",
            "2",
            "This call was not made: 2 calls in one turn are the limit. Ask for it again in the next turn.",
        ],
        [
            "1",
            "2",
            "This call was not made: 2 calls in one turn are the limit. Ask for it again in the next turn.",
            "3",
        ],
    ]


@pytest.mark.requirement("tools:results")
async def test_a_result_of_another_shape_is_recorded_with_the_difference_and_not_passed_on(
    build: Build,
) -> None:
    returns = (
        '{"type":"object","properties":{"results":{"type":"array"}},'
        '"required":["results"],"additionalProperties":false}'
    )
    search = replace(LOOK, returns=returns)
    script = [calls(("look", 1)), answer("I could not look.")]
    world = build(bundle(search), script, functions={"look": lambda id: {"data": {"items": ["secret"]}}})
    run = await world.finished(await start(world))
    assert told(world.model.requests[1]) == ["The tool returned something of another shape than it declares."]
    [failed] = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    assert (failed.code, failed.executed) == ("tool_result_invalid", ev.Executed.NO)
    detail = (await world.vault.read(await _owner(world, run.session_id), [failed.detail_ref]))[
        failed.detail_ref
    ]
    assert b"`results` missing" in detail
    assert b"new key `data`" in detail


async def test_an_effect_whose_result_has_another_shape_counts_as_happened_and_is_not_repeated(
    build: Build,
) -> None:
    till = Till()
    paying = replace(PAY_ONCE, returns='{"type":"object","required":["id"]}')
    world = build(
        bundle(paying), [calls(("pay_once", 1)), answer("Paid, I think.")], functions={"pay_once": till.pay}
    )
    run = await world.finished(await start(world))
    assert (run.status, till.payments) == ("completed", [1])
    [failed] = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    assert failed.executed is ev.Executed.YES


async def test_a_result_too_long_is_not_passed_on(build: Build) -> None:
    limits = Limits(tool_result_bytes=100)
    world = build(
        bundle(LOOK, limits=limits),
        [calls(("look", 1)), answer("Too long.")],
        functions={"look": lambda id: "x" * 101},
    )
    run = await world.finished(await start(world))
    assert "xxx" not in told(world.model.requests[1])[0]
    [failed] = [d for d in await data_of(world, run.session_id) if isinstance(d, ev.StepFailed)]
    assert failed.code == "tool_result_invalid"


class Raises:
    """A guard with a bug."""

    name, version = "raises", 1

    def __init__(self, crossing: Crossing) -> None:
        self.crossings = frozenset({crossing})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("crossing", "status", "reason", "requests", "effects"),
    [
        (Crossing.INPUT, "denied", "input", 0, 0),
        (Crossing.MODEL_REQUEST, "denied", "guard", 0, 0),
        (Crossing.MODEL_RESPONSE, "denied", "guard", 1, 0),
        (Crossing.TOOL_CALL, "completed", "", 2, 0),
        (Crossing.TOOL_RESULT, "completed", "", 2, 1),
        (Crossing.OUTPUT, "denied", "output", 2, 1),
    ],
)
async def test_a_guard_that_raises_denies_at_every_crossing(
    build: Build, crossing: Crossing, status: str, reason: str, requests: int, effects: int
) -> None:
    till = Till()
    script = [calls(("pay_once", 1)), answer("Paid.")]
    world = build(bundle(PAY_ONCE), script, functions={"pay_once": till.pay}, guards=[Raises(crossing)])
    run = await world.finished(await start(world))
    assert (run.status, run.reason) == (status, reason)
    assert (len(world.model.requests), len(till.payments)) == (requests, effects)
    if status == "denied":
        assert run.output == "I cannot help with this request."


async def test_what_a_denied_result_says_is_withheld_from_the_model_but_the_effect_is_not_repeated(
    build: Build,
) -> None:
    till = Till()
    script = [calls(("pay_once", 1)), answer("Done.")]
    world = build(
        bundle(PAY_ONCE), script, functions={"pay_once": till.pay}, guards=[Raises(Crossing.TOOL_RESULT)]
    )
    await world.finished(await start(world))
    assert told(world.model.requests[1]) == ["The result of `pay_once` was withheld by a check."]
    assert till.payments == [1]


async def test_a_call_on_a_deny_line_never_leaves_and_the_model_is_told_why(build: Build) -> None:
    till = Till()
    script = [calls(("pay_once", 501)), answer("Not possible.")]
    world = build(
        bundle(PAY_ONCE, deny={"pay_once": "id > 500"}, approve={"pay_once": "always"}),
        script,
        functions={"pay_once": till.pay},
    )
    run = await world.finished(await start(world))
    assert (run.status, run.approvals, till.payments) == ("completed", (), [])
    assert "not permitted with these arguments (id > 500)" in told(world.model.requests[1])[0]


@pytest.mark.requirement("input:text")
async def test_control_characters_are_dropped_from_input_and_results_and_emoji_stay(build: Build) -> None:
    script = [calls(("look", 1)), answer("Done.")]
    world = build(bundle(LOOK), script, functions={"look": lambda id: "a\x07b\u200d👩\u200d🚀"})
    run = await world.finished(await start(world, "Hi\x00\x1b[31m there 🚲\n\tand \ud800so on"))
    assert run.status == "completed"
    assert world.model.requests[0].messages[-1].text == "Hi[31m there 🚲\n\tand so on"
    assert told(world.model.requests[1]) == ["ab\u200d👩\u200d🚀"]


async def test_an_answer_without_words_gets_some(build: Build) -> None:
    world = build(bundle(), [answer("")])
    assert (await world.finished(await start(world))).output == "I have no answer to this."


async def test_a_refusal_of_the_model_is_the_answer(build: Build) -> None:
    world = build(bundle(), [answer(refusal="I would rather not.")])
    run = await world.finished(await start(world))
    assert (run.status, run.output) == ("completed", "I would rather not.")


async def test_an_answer_too_long_is_cut_at_a_character(build: Build) -> None:
    world = build(bundle(limits=Limits(output_bytes=10)), [answer("ab" + "é" * 20)])
    assert (await world.finished(await start(world))).output == "abéééé"


class Reads:
    """A guard that keeps what it saw."""

    name, version = "reads", 1
    crossings = frozenset(Crossing)

    def __init__(self) -> None:
        self.seen: list[tuple[Crossing, object]] = []

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        self.seen.append((crossing, content))
        return Finding(decision=Decision.ALLOW)


async def test_a_run_passes_the_six_crossings_in_order(build: Build) -> None:
    reads = Reads()
    script = [calls(("look", 1)), answer("Seen.")]
    world = build(bundle(LOOK), script, functions={"look": lambda id: id}, guards=[reads])
    await world.finished(await start(world))
    assert [crossing.value for crossing, _ in reads.seen] == [
        "input",
        "model_request",
        "model_response",
        "tool_call",
        "tool_result",
        "model_request",
        "model_response",
        "output",
    ]
    assert isinstance(reads.seen[-1][1], Message)


async def _owner(world: World, session_id: str) -> str:
    entry = await world.store.entry("session", session_id)
    assert entry is not None
    return entry.owner
