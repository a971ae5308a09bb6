"""Histories that no longer fit: what goes, what stays, and that the conversation stays whole."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import ContextPolicy, Limits
from cattlegrid.core.errors import ModelUnavailable
from cattlegrid.core.messages import Message, ModelRequest, ModelResponse, Role, Usage
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import Finding, GuardContext
from cattlegrid.journal import delta
from cattlegrid.journal import events as ev
from cattlegrid.runtime import wording
from cattlegrid.runtime.texts import bundle_ref
from cattlegrid.testing.models import Answer, answer, call
from cattlegrid.testing.world import World
from tests.unit.runtime.support import LOOK, PAY_ONCE, Build, Till, bundle, calls, data_of, passing, start

pytestmark = pytest.mark.anyio

SMALL = ContextPolicy(max_tokens=1_000)
SUMMARISE = ContextPolicy(max_tokens=1_000, strategy="summarise")
WORDS = "word " * 100


def whole(request: ModelRequest) -> None:
    """Every answer to a call follows its call, and every call has its answer; the system prompt comes first."""
    open_calls: list[str] = []
    for place, message in enumerate(request.messages):
        assert (message.role is Role.SYSTEM) is (place == 0)
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
            continue
        assert open_calls == []
        open_calls = [asked.id for asked in message.tool_calls]
    assert open_calls == []


def answering(*answers: ModelResponse) -> Callable[[ModelRequest], Answer]:
    """A model that answers the requests for summaries with one, and everything else in order; checks all of them."""
    left = list(answers)

    def model(request: ModelRequest) -> Answer:
        whole(request)
        if request.messages[0].text == wording.SUMMARY_PROMPT:
            return counted(request, answer("Summary: words were said."))
        return counted(request, left.pop(0))

    return model


def counted(request: ModelRequest, given: ModelResponse) -> ModelResponse:
    """An answer with the tokens of its request counted, as a provider does."""
    return replace(given, usage=Usage(input_tokens=len(msgspec.json.encode(request.messages)) // 4))


async def talk(world: World, turns: int) -> str:
    session_id = ""
    for turn in range(turns):
        run = await world.ask(f"{turn} {WORDS}", session_id=session_id)
        assert run.status == "completed"
        session_id = run.session_id
    return session_id


async def requests_match_their_record(world: World, session_id: str) -> None:
    """The recorded differences add up to the very requests that were made."""
    events = await world.events(session_id)
    entry = await world.store.entry("session", session_id)
    assert entry is not None
    made = [refs for _, refs in delta.requests(events) if refs[0] != bundle_ref(wording.SUMMARY_PROMPT)]
    asked = [r for r in world.model.requests if r.messages[0].text != wording.SUMMARY_PROMPT]
    box = await world.vault.open_owner(entry.owner)
    for refs, request in zip(made, asked, strict=True):
        sent = [box.digest(msgspec.json.encode(message)) for message in request.messages[1:]]
        assert list(refs[1:]) == sent


@pytest.mark.requirement("runtime:context-window")
async def test_earlier_runs_go_first_and_the_cut_is_recorded(build: Build) -> None:
    world = build(bundle(context=SMALL), answering(*[answer(f"Answer {n}.") for n in range(12)]))
    session_id = await talk(world, 12)
    last = world.model.requests[-1]
    assert last.messages[-1].text.startswith("11 ")
    assert not any(message.text.startswith("0 ") for message in last.messages)
    cuts = [d for d in await data_of(world, session_id) if isinstance(d, ev.ContextCompacted)]
    assert cuts
    assert {(cut.strategy, cut.summary_ref, cut.start) for cut in cuts} == {("window", "", 1)}
    assert all(len(msgspec.json.encode(request.messages)) <= 4_000 for request in world.model.requests)
    await requests_match_their_record(world, session_id)


@pytest.mark.requirement("runtime:context-summary")
async def test_a_summary_takes_the_place_of_what_goes_and_is_a_step_of_its_own(build: Build) -> None:
    world = build(bundle(context=SUMMARISE), answering(*[answer(f"Answer {n}.") for n in range(12)]))
    session_id = await talk(world, 12)
    asked = [r for r in world.model.requests if r.messages[0].text == wording.SUMMARY_PROMPT]
    assert asked
    assert all(
        (r.tools, r.tools_allowed, r.messages[-1].text) == ((), False, wording.SUMMARY_REQUEST) for r in asked
    )
    last = world.model.requests[-1]
    assert last.messages[1] == Message(Role.ASSISTANT, "Summary: words were said.")
    cuts = [d for d in await data_of(world, session_id) if isinstance(d, ev.ContextCompacted)]
    assert {cut.strategy for cut in cuts} == {"summarise"}
    kinds = [d.kind for d in await data_of(world, session_id) if isinstance(d, ev.StepIntended)]
    assert kinds.count(ev.StepKind.SUMMARY) == len(asked) == len(cuts)
    await requests_match_their_record(world, session_id)


@pytest.mark.requirement("runtime:context-window")
async def test_within_one_long_run_its_own_earlier_turns_go_and_its_request_stays(build: Build) -> None:
    turns = [calls(("look", n)) for n in range(8)]
    world = build(
        bundle(LOOK, context=SMALL),
        answering(*turns, answer("Done.")),
        functions={"look": lambda id: f"{id} " + "x" * 1_500},
    )
    run = await world.finished(await start(world, "The one request."))
    assert run.status == "completed"
    for request in world.model.requests:
        assert request.messages[1].text == "The one request."
        assert len(request.messages) <= 6
    await requests_match_their_record(world, run.session_id)


@pytest.mark.requirement("runtime:context-summary")
async def test_within_one_long_run_its_own_earlier_turns_are_summarised_with_the_summary_before_them(
    build: Build,
) -> None:
    turns = [calls(("look", n)) for n in range(8)]
    world = build(
        bundle(LOOK, context=SUMMARISE),
        answering(*turns, answer("Done.")),
        functions={"look": lambda id: f"{id} " + "x" * 1_500},
    )
    run = await world.finished(await start(world, "The one request."))
    assert (run.status, run.output) == ("completed", "Done.")
    summaries = [r for r in world.model.requests if r.messages[0].text == wording.SUMMARY_PROMPT]
    assert 0 < len(summaries) <= 8
    assert all(any(message.role is Role.TOOL for message in request.messages) for request in summaries)
    await requests_match_their_record(world, run.session_id)


async def test_a_summary_alone_is_never_summarised_again(build: Build) -> None:
    """A model that is wordy in its summaries must not be asked for them without end."""
    asked: list[ModelRequest] = []

    def model(request: ModelRequest) -> Answer:
        whole(request)
        if request.messages[0].text == wording.SUMMARY_PROMPT:
            asked.append(request)
            return answer("Summary. " + "s" * 2_500)
        return counted(request, answer("Yes."))

    world = build(bundle(context=SUMMARISE), model)
    session_id = await talk(world, 6)
    assert len(asked) <= 6
    assert (await world.ask("Still there?", session_id=session_id)).output == "Yes."


class DeniesSummaries:
    """A guard that lets no summary pass."""

    name, version = "denies_summaries", 1
    crossings = frozenset({Crossing.MODEL_RESPONSE})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        assert isinstance(content, Message)
        denied = content.text.startswith("Summary")
        return Finding(decision=Decision.DENY if denied else Decision.ALLOW)


@pytest.mark.requirement("runtime:context-summary")
@pytest.mark.parametrize("fault", ["down", "empty", "denied", "calls a tool"])
async def test_a_summary_that_fails_falls_back_to_the_window(build: Build, fault: str) -> None:
    faults: dict[str, Answer] = {
        "down": ModelUnavailable("The model is not available."),
        "empty": answer(" "),
        "denied": answer("Summary: do as I say."),
        "calls a tool": answer("", calls=[call("look", id=1)]),
    }

    def model(request: ModelRequest) -> Answer:
        whole(request)
        if request.messages[0].text == wording.SUMMARY_PROMPT:
            return faults[fault]
        return counted(request, answer("Yes."))

    world = build(bundle(context=SUMMARISE), model, guards=[DeniesSummaries()])
    session_id = await passing(world, talk(world, 8))
    cuts = [d for d in await data_of(world, session_id) if isinstance(d, ev.ContextCompacted)]
    assert {(cut.strategy, cut.summary_ref) for cut in cuts} == {("window", "")}
    assert (await passing(world, world.ask("Still there?", session_id=session_id))).output == "Yes."


async def test_calls_in_a_summary_are_dropped_and_its_words_stay(build: Build) -> None:
    def model(request: ModelRequest) -> Answer:
        whole(request)
        if request.messages[0].text == wording.SUMMARY_PROMPT:
            return answer("Summary.", calls=[call("look", id=1)])
        return counted(request, answer("Yes."))

    world = build(bundle(LOOK, context=SUMMARISE), model)
    await talk(world, 8)
    assert world.model.requests[-1].messages[1] == Message(Role.ASSISTANT, "Summary.")
    assert world.tools.requests == []


async def test_what_the_provider_has_counted_decides_rather_than_the_bytes(build: Build) -> None:
    many = answer("Yes.", usage=Usage(input_tokens=990, output_tokens=5))
    world = build(bundle(context=SMALL), [many, answer("Yes.")])
    session_id = (await world.ask("Hi")).session_id
    await world.ask("Hi there, once more.", session_id=session_id)
    cuts = [d for d in await data_of(world, session_id) if isinstance(d, ev.ContextCompacted)]
    assert len(cuts) == 1


async def test_a_request_too_long_for_the_model_ends_partial_and_the_next_one_is_answered(
    build: Build,
) -> None:
    world = build(bundle(context=SMALL), answering(answer("Hello."), answer("Yes, a short one.")))
    first = await world.ask("Hi")
    long = await world.ask("x" * 4_000, session_id=first.session_id)
    assert (long.status, long.reason, len(world.model.requests)) == ("partial", "context", 1)
    assert "the conversation has become too long" in long.output
    short = await world.ask("A short one?", session_id=first.session_id)
    assert short.output == "Yes, a short one."
    assert [message.text for message in world.model.requests[-1].messages[1:]] == [
        "Hello.",
        "(A request, or what its calls returned, was too long to be kept here.)",
        "A short one?",
    ]
    await requests_match_their_record(world, first.session_id)


async def test_results_too_long_for_the_model_end_partial_and_the_model_learns_later_what_was_done(
    build: Build,
) -> None:
    till = Till()
    world = build(
        bundle(LOOK, PAY_ONCE, context=SMALL, limits=Limits(tool_result_bytes=10_000)),
        answering(calls(("pay_once", 1), ("look", 2)), answer("It was paid.")),
        functions={"pay_once": till.pay, "look": lambda id: "x" * 5_000},
    )
    run = await world.finished(await start(world))
    assert (run.status, run.reason) == ("partial", "context")
    assert "Done so far: pay_once." in run.output
    again = await world.ask("Was it paid?", session_id=run.session_id)
    assert again.output == "It was paid."
    assert "What it has done: pay_once." in world.model.requests[-1].messages[-2].text
    assert till.payments == [1]
    await requests_match_their_record(world, run.session_id)


async def test_two_equal_messages_are_two_messages(build: Build) -> None:
    """Equal texts share a body, and must not be taken for each other when parts of the history go."""
    world = build(bundle(context=SUMMARISE), answering(*[answer("Yes.") for _ in range(12)]))
    session_id = ""
    for _ in range(12):
        session_id = (await world.ask(WORDS, session_id=session_id)).session_id
    await requests_match_their_record(world, session_id)
