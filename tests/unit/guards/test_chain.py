"""The guard chain: the strictest verdict decides, a broken guard denies, and only what passes is cleared."""

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.messages import Message, Role
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import Finding, Guard, GuardChain, GuardContext
from cattlegrid.testing.world import ANA, bundle_of

CONTEXT = GuardContext(bundle=bundle_of("support"), principal=ANA, session_id="ses_1")
HELLO = Message(Role.USER, "Hello")
ORDER = tuple(Decision)


class Says:
    """A guard that says what it is told to, and notes what it saw."""

    version = 3

    def __init__(
        self, finding: object, *, name: str = "says", crossings: Sequence[Crossing] = tuple(Crossing)
    ) -> None:
        self.name = name
        self.crossings = frozenset(crossings)
        self.seen: list[object] = []
        self._finding = finding

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        self.seen.append(content)
        if isinstance(self._finding, Exception):
            raise self._finding
        return cast("Finding", self._finding)


def said(decision: Decision, *, text: str = "", reason: str = "") -> Finding:
    content = Message(Role.USER, text) if decision is Decision.MODIFY else None
    return Finding(decision=decision, reason=reason, content=content)


def chain(*guards: Guard) -> GuardChain:
    return GuardChain(guards)


def test_without_guards_everything_passes() -> None:
    judged = chain().judge(Crossing.INPUT, HELLO, CONTEXT)
    assert (judged.decision, judged.verdicts, judged.content) == (Decision.ALLOW, (), HELLO)
    assert judged.cleared is not None
    assert judged.cleared.request is HELLO


@given(st.lists(st.sampled_from(ORDER), max_size=6))
def test_the_strictest_verdict_decides_and_a_denial_ends_the_chain(decisions: list[Decision]) -> None:
    guards = [
        Says(said(decision, text="Changed", reason=str(place))) for place, decision in enumerate(decisions)
    ]
    judged = chain(*guards).judge(Crossing.INPUT, HELLO, CONTEXT)
    heard = decisions[: decisions.index(Decision.DENY) + 1] if Decision.DENY in decisions else decisions
    assert judged.decision is max(heard, key=ORDER.index, default=Decision.ALLOW)
    assert [verdict.decision for verdict in judged.verdicts] == heard
    assert [bool(guard.seen) for guard in guards] == [place < len(heard) for place in range(len(guards))]
    assert (judged.cleared is not None) is (judged.decision in {Decision.ALLOW, Decision.MODIFY})


@given(st.lists(st.sampled_from(ORDER), max_size=6))
def test_what_a_person_has_agreed_to_passes_a_hold_and_never_a_denial(decisions: list[Decision]) -> None:
    guards = [Says(said(decision, text="Changed")) for decision in decisions]
    judged = chain(*guards).judge(Crossing.TOOL_CALL, HELLO, CONTEXT, approved=True)
    assert (judged.cleared is None) is (Decision.DENY in decisions)


def test_each_guard_sees_what_the_ones_before_it_have_made_of_the_content() -> None:
    first, second = Says(said(Decision.MODIFY, text="Once")), Says(said(Decision.MODIFY, text="Twice"))
    last = Says(said(Decision.ALLOW))
    judged = chain(first, second, last).judge(Crossing.INPUT, HELLO, CONTEXT)
    assert [cast("Message", guard.seen[0]).text for guard in (first, second, last)] == [
        "Hello",
        "Once",
        "Twice",
    ]
    assert judged.content.text == "Twice"
    assert judged.cleared is not None
    assert judged.cleared.request.text == "Twice"


@pytest.mark.parametrize(
    "finding",
    [
        RuntimeError("a bug"),
        RecursionError("too deep"),
        None,
        "allow",
        Finding(decision=Decision.MODIFY, content=None),
        Finding(decision=Decision.MODIFY, content="a text where a message is wanted"),
    ],
    ids=["raises", "recurses", "nothing", "a text", "no content", "another content"],
)
@pytest.mark.parametrize("crossing", Crossing)
def test_a_broken_guard_denies(crossing: Crossing, finding: object) -> None:
    after = Says(said(Decision.ALLOW))
    judged = chain(Says(finding, name="broken"), after).judge(crossing, HELLO, CONTEXT, approved=True)
    assert (judged.decision, judged.reason, judged.cleared) == (Decision.DENY, "guard_failed", None)
    assert [(verdict.guard, verdict.version) for verdict in judged.verdicts] == [("broken", 3)]
    assert after.seen == []


def test_a_guard_stands_at_its_own_crossings_only() -> None:
    guard = Says(said(Decision.DENY), crossings=[Crossing.OUTPUT])
    assert chain(guard).judge(Crossing.INPUT, HELLO, CONTEXT).decision is Decision.ALLOW
    assert chain(guard).judge(Crossing.OUTPUT, HELLO, CONTEXT).decision is Decision.DENY


def test_the_reason_is_that_of_the_verdict_that_decided() -> None:
    guards = [
        Says(said(Decision.MODIFY, text="x", reason="changed")),
        Says(said(Decision.HOLD, reason="amount > 50")),
    ]
    assert chain(*guards).judge(Crossing.TOOL_CALL, HELLO, CONTEXT).reason == "amount > 50"


def test_being_stopped_is_no_verdict() -> None:
    """Whoever interrupts the process is not answered by a denial."""

    class Interrupted(Says):
        def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chain(Interrupted(None)).judge(Crossing.INPUT, HELLO, CONTEXT)
