"""The pure loop: from what is recorded to the one thing to do next, for everything that there is to do."""

from typing import Final, get_args

import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import ContextPolicy, Limits
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal import events as ev
from cattlegrid.journal.parts import RequestDelta
from cattlegrid.runtime import loop
from cattlegrid.runtime.state import MAX_KEYED_ATTEMPTS, Session
from tests.unit.runtime.recorded import (
    BUNDLE,
    CHECKED,
    STARTED,
    about,
    chat,
    decided,
    done,
    failed,
    folded,
    following,
    held,
    resumed,
    said,
    tool,
)
from tests.unit.runtime.support import bundle

WITH_STEP: Final = (
    loop.RunApproved,
    loop.RefuseHeld,
    loop.Repeat,
    loop.Reconcile,
    loop.HoldDoubt,
    loop.Settle,
    loop.Undo,
)


LOOKS: Final = (chat(), said(calls=["look", "look"]))
PAYS: Final = (chat(), said(calls=["pay_once"]))
BOOKS: Final = (
    chat(),
    said(calls=["book", "book"]),
    tool("s2", "book"),
    done("s2"),
    tool("s3", "book", 1),
    done("s3"),
)

EXAMPLES: Final[tuple[tuple[str, loop.Action, loop.Action], ...]] = (
    ("no run", loop.next_action(Session(id="ses_1"), BUNDLE), loop.Rest()),
    ("a run has begun", loop.next_action(folded(STARTED), BUNDLE), loop.CheckInput()),
    ("the input passed", following(), loop.Chat(tools_allowed=True)),
    (
        "the input was denied",
        loop.next_action(folded(STARTED, replace(CHECKED, decision=Decision.DENY)), BUNDLE),
        loop.Finish(ev.RunStatus.DENIED, "input"),
    ),
    (
        "nobody can hold an input",
        loop.next_action(folded(STARTED, replace(CHECKED, decision=Decision.HOLD)), BUNDLE),
        loop.Finish(ev.RunStatus.DENIED, "input"),
    ),
    ("the model is asked", following(chat()), loop.Wait()),
    ("the model has answered", following(chat(), said()), loop.Finish(ev.RunStatus.COMPLETED)),
    (
        "a guard refused the answer",
        following(chat(), replace(said(), decision=Decision.DENY)),
        loop.Finish(ev.RunStatus.DENIED, "guard"),
    ),
    (
        "the model has failed",
        following(chat(), failed("s1", "model_unavailable")),
        loop.Finish(ev.RunStatus.FAILED, "model_unavailable"),
    ),
    ("reads are asked for", following(*LOOKS), loop.StartCalls((0, 1))),
    (
        "reads and effects are asked for",
        following(chat(), said(calls=["look", "pay_once", "look"])),
        loop.StartCalls((0,)),
    ),
    (
        "it is the turn of the effect",
        following(chat(), said(calls=["look", "pay_once", "look"]), tool("s2", "look"), done("s2")),
        loop.StartCalls((1,)),
    ),
    ("a tool is called", following(*PAYS, tool("s2", "pay_once")), loop.Wait()),
    (
        "all calls are answered",
        following(*PAYS, tool("s2", "pay_once"), done("s2")),
        loop.Chat(tools_allowed=True),
    ),
    (
        "it has cost writer after writer its life",
        following(*PAYS, tool("s2", "pay_once"), *(resumed(number) for number in range(1, 7))),
        loop.Park(),
    ),
    ("a call is held", following(*PAYS, held("s2", "pay_once")), loop.Wait()),
    (
        "the run is cancelled while a call is held",
        following(*PAYS, held("s2", "pay_once"), ev.CancelRequested(by="user")),
        loop.RefuseRest("cancelled"),
    ),
    (
        "cancelled, all closed",
        following(
            *PAYS,
            ev.CancelRequested(by="user"),
            ev.StepRefused(step_id="s2", code="cancelled", tool="", content_ref="no", asked_by="s1"),
        ),
        loop.Finish(ev.RunStatus.CANCELLED, "cancelled"),
    ),
    (
        "the last turn goes without tools",
        following(
            *PAYS, tool("s2", "pay_once"), done("s2"), of=replace(BUNDLE, limits=Limits(model_turns=2))
        ),
        loop.Chat(tools_allowed=False),
    ),
    (
        "a model asks on in its last turn",
        following(*PAYS, of=replace(BUNDLE, limits=Limits(model_turns=1))),
        loop.RefuseRest("turns"),
    ),
    (
        "the time is over",
        following(*LOOKS, of=replace(BUNDLE, limits=Limits(run_s=10.0)), every_s=4.0),
        loop.RefuseRest("time"),
    ),
    (
        "the time is over and the answer there",
        following(chat(), said(), of=replace(BUNDLE, limits=Limits(run_s=10.0)), every_s=4.0),
        loop.Finish(ev.RunStatus.COMPLETED),
    ),
    (
        "the session was closed in the meantime",
        loop.next_action(folded(ev.SessionClosed(outcome="completed"), STARTED), BUNDLE),
        loop.Finish(ev.RunStatus.CANCELLED, "session_ended"),
    ),
)


@pytest.mark.requirement("runtime:loop")
@pytest.mark.parametrize(("action", "expected"), [pytest.param(a, e, id=name) for name, a, e in EXAMPLES])
def test_what_is_recorded_leads_to_the_next_thing_to_do(action: loop.Action, expected: loop.Action) -> None:
    assert action == expected


APPROVED: Final = following(*PAYS, held("s2", "pay_once"), decided("s2", "approve"))
STEPS: Final[tuple[tuple[str, loop.Action, type, str], ...]] = (
    ("approved", APPROVED, loop.RunApproved, "s2"),
    ("changed", following(*PAYS, held("s2", "pay_once"), decided("s2", "modify")), loop.RunApproved, "s2"),
    ("rejected", following(*PAYS, held("s2", "pay_once"), decided("s2", "reject")), loop.RefuseHeld, "s2"),
    ("expired", following(*PAYS, held("s2", "pay_once"), decided("s2", "expired")), loop.RefuseHeld, "s2"),
    ("an orphaned chat", following(chat(), resumed()), loop.Repeat, "s1"),
    ("an orphaned read", following(*LOOKS, tool("s2", "look"), resumed()), loop.Repeat, "s2"),
    (
        "an orphaned read of a cancelled run",
        following(*LOOKS, tool("s2", "look"), ev.CancelRequested(by="user"), resumed()),
        loop.Settle,
        "s2",
    ),
    (
        "an orphaned chat of a cancelled run",
        following(chat(), ev.CancelRequested(by="user"), resumed()),
        loop.Settle,
        "s1",
    ),
    (
        "an orphaned keyed effect",
        following(chat(), said(calls=["pay_keyed"]), tool("s2", "pay_keyed"), resumed()),
        loop.Repeat,
        "s2",
    ),
    (
        "a keyed effect of a cancelled run is brought to a known end",
        following(
            chat(),
            said(calls=["pay_keyed"]),
            tool("s2", "pay_keyed"),
            ev.CancelRequested(by="user"),
            resumed(),
        ),
        loop.Repeat,
        "s2",
    ),
    (
        "a keyed effect tried too often",
        following(
            chat(), said(calls=["pay_keyed"]), tool("s2", "pay_keyed", attempt=MAX_KEYED_ATTEMPTS), resumed()
        ),
        loop.HoldDoubt,
        "s2",
    ),
    (
        "a free effect tried too often",
        following(
            chat(), said(calls=["pay_free"]), tool("s2", "pay_free", attempt=MAX_KEYED_ATTEMPTS), resumed()
        ),
        loop.Settle,
        "s2",
    ),
    ("a doubtful once effect", following(*PAYS, tool("s2", "pay_once"), resumed()), loop.HoldDoubt, "s2"),
    (
        "a once effect that failed without a word",
        following(*PAYS, tool("s2", "pay_once"), failed("s2", unknown=True)),
        loop.HoldDoubt,
        "s2",
    ),
    (
        "a once effect that can be reconciled",
        following(chat(), said(calls=["book"]), tool("s2", "book"), resumed()),
        loop.Reconcile,
        "s2",
    ),
    (
        "a reconcile call that told nothing",
        following(
            chat(),
            said(calls=["book"]),
            tool("s2", "book"),
            resumed(),
            about("s3", ev.StepKind.RECONCILE, "booked", "s2"),
            failed("s3"),
        ),
        loop.HoldDoubt,
        "s2",
    ),
    (
        "an orphaned reconcile call",
        following(
            chat(),
            said(calls=["book"]),
            tool("s2", "book"),
            resumed(),
            about("s3", ev.StepKind.RECONCILE, "booked", "s2"),
            resumed(2),
        ),
        loop.Repeat,
        "s3",
    ),
    (
        "a doubt that a person wants repeated",
        following(
            *PAYS,
            tool("s2", "pay_once"),
            resumed(),
            held("s2", "pay_once", hold=ev.HoldReason.IN_DOUBT),
            decided("s2", "approve"),
        ),
        loop.Repeat,
        "s2",
    ),
    (
        "a doubt that a person has settled",
        following(
            *PAYS,
            tool("s2", "pay_once"),
            resumed(),
            held("s2", "pay_once", hold=ev.HoldReason.IN_DOUBT),
            decided("s2", "done"),
        ),
        loop.Settle,
        "s2",
    ),
    (
        "a failing run takes back its last effect first",
        following(*BOOKS, chat("s4"), failed("s4", "model_unavailable")),
        loop.Undo,
        "s3",
    ),
    (
        "then the one before it",
        following(
            *BOOKS,
            chat("s4"),
            failed("s4", "model_unavailable"),
            about("s5", ev.StepKind.UNDO, "unbook", "s3"),
            done("s5"),
        ),
        loop.Undo,
        "s2",
    ),
)


@pytest.mark.requirement("runtime:loop")
@pytest.mark.parametrize(
    ("action", "kind", "step"), [pytest.param(a, kind, step, id=name) for name, a, kind, step in STEPS]
)
def test_what_became_of_a_step_leads_to_the_next_thing_to_do(
    action: loop.Action, kind: type, step: str
) -> None:
    assert isinstance(action, WITH_STEP)
    assert (type(action), action.step.id) == (kind, step)


def test_while_the_reconcile_call_is_under_way_nobody_is_asked() -> None:
    subject = (chat(), said(calls=["book"]), tool("s2", "book"), resumed())
    assert following(*subject, about("s3", ev.StepKind.RECONCILE, "booked", "s2")) == loop.Wait()


def test_after_all_undos_the_run_ends_as_failed_even_if_one_of_them_failed() -> None:
    ended = following(
        *BOOKS,
        chat("s4"),
        failed("s4", "model_unavailable"),
        about("s5", ev.StepKind.UNDO, "unbook", "s3"),
        failed("s5", "denied", settled_by="guard"),
        about("s6", ev.StepKind.UNDO, "unbook", "s2"),
        done("s6"),
    )
    assert ended == loop.Finish(ev.RunStatus.FAILED, "model_unavailable")


def test_a_run_that_costs_writer_after_writer_its_life_is_parked_until_somebody_says_what_to_do() -> None:
    once_more = [resumed(number) for number in range(1, loop.MAX_RUN_ATTEMPTS + 1)]
    assert following(*once_more) == loop.Chat(tools_allowed=True)
    too_often = [*once_more, resumed(loop.MAX_RUN_ATTEMPTS + 1)]
    assert following(*too_often) == loop.Park()
    parked = [*too_often, ev.RunParked(attempts=loop.MAX_RUN_ATTEMPTS + 1)]
    assert following(*parked) == loop.Wait()
    assert following(*parked, ev.RunRetried(by="usr_2")) == loop.Chat(tools_allowed=True)
    assert following(*parked, ev.CancelRequested(by="usr_2")) == loop.Finish(
        ev.RunStatus.CANCELLED, "cancelled"
    )


def test_a_retried_run_has_its_time_and_its_attempts_anew() -> None:
    of = replace(BUNDLE, limits=Limits(run_s=100.0))
    lived = [resumed(number) for number in range(1, loop.MAX_RUN_ATTEMPTS + 2)]
    parked = [*lived, ev.RunParked(attempts=loop.MAX_RUN_ATTEMPTS + 1)]
    again = [*parked, ev.RunRetried(by="usr_2")]
    assert following(*again, of=of, every_s=60.0) == loop.Chat(tools_allowed=True)
    assert following(*again, *lived[:2], of=of, every_s=60.0) == loop.Finish(ev.RunStatus.PARTIAL, "time")
    assert following(*again, *lived, of=of, every_s=1.0) == loop.Park()


def test_a_run_that_ends_waits_for_a_doubt_to_be_settled_first() -> None:
    doubt = held("s2", "pay_once", hold=ev.HoldReason.IN_DOUBT)
    assert (
        following(*PAYS, tool("s2", "pay_once"), resumed(), doubt, ev.CancelRequested(by="user"))
        == loop.Wait()
    )


LONG: Final = ContextPolicy(max_tokens=300)
CONTEXT: Final = (
    *(STARTED, CHECKED, chat("s1"), said("s1"), ev.RunFinished(status=ev.RunStatus.COMPLETED)),
    *(STARTED, replace(CHECKED, input_bytes=900)),
)


@pytest.mark.requirement("runtime:context-window")
def test_a_history_that_no_longer_fits_is_compacted_before_the_model_is_asked() -> None:
    of = replace(bundle(context=LONG), system_prompt="")
    assert loop.next_action(folded(*CONTEXT), of) == loop.Compact(loop.Span(1, 2), "window")


@pytest.mark.requirement("runtime:context-summary")
def test_a_history_is_summarised_first_if_the_agent_wants_that_and_only_once() -> None:
    of = replace(bundle(context=replace(LONG, strategy="summarise")), system_prompt="")
    assert loop.next_action(folded(*CONTEXT), of) == loop.Summarise(loop.Span(1, 2))
    delta = RequestDelta(appended=("b:system", "in", "b:request"))
    model = ev.ModelIntent(tier="summary", model="small", request=delta, tools_ref="b:tools")
    asks = ev.StepIntended(step_id="s2", kind=ev.StepKind.SUMMARY, model=model)
    summarised = folded(*CONTEXT, asks, said("s2"))
    assert loop.next_action(summarised, of) == loop.Compact(loop.Span(1, 2), "summarise")
    failing = folded(*CONTEXT, asks, failed("s2", "model_unavailable"))
    assert loop.next_action(failing, of) == loop.Compact(loop.Span(1, 2), "window")


def test_what_alone_is_too_long_is_dropped_unsent_and_ends_the_run() -> None:
    of = replace(bundle(context=LONG), system_prompt="")
    alone = (STARTED, replace(CHECKED, input_bytes=1200))
    assert loop.next_action(folded(*alone), of) == loop.DropUnsent()
    dropped = ev.ContextCompacted(strategy="dropped", start=0, stop=1, summary_ref="word", summary_bytes=40)
    assert loop.next_action(folded(*alone, dropped), of) == loop.Finish(ev.RunStatus.PARTIAL, "context")


def test_every_action_has_its_example_here() -> None:
    shown = {type(action) for _, action, _ in EXAMPLES} | {type(action) for _, action, _, _ in STEPS}
    shown |= {loop.Compact, loop.Summarise, loop.DropUnsent}  # the tests just above
    assert shown == set(get_args(loop.Action))


def test_every_kind_of_effect_and_retry_is_known_to_the_examples() -> None:
    assert {tool.retry for tool in BUNDLE.tools.values()} == set(Retry)
    assert {tool.effect for tool in BUNDLE.tools.values()} == {Effect.READ, Effect.WRITE}
