"""Requests are kept as differences, and every one of them can be told again."""

from itertools import takewhile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.codec import encode_data
from cattlegrid.journal.delta import apply_delta, requests
from cattlegrid.journal.events import ContextCompacted, Data, Event, StepIntended
from cattlegrid.journal.parts import ModelIntent, RequestDelta, StepKind
from tests.unit.journal.examples import event, ref

REFS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


def asked(step: str, delta: RequestDelta, kind: StepKind = StepKind.CHAT) -> StepIntended:
    model = ModelIntent(tier="default", model="m", request=delta, tools_ref="t")
    return StepIntended(step_id=step, kind=kind, model=model)


def events(*data: Data) -> list[Event]:
    return [event(one, seq=seq) for seq, one in enumerate(data, 1)]


def difference(previous: list[str], current: list[str], *, base: str = "") -> RequestDelta:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(previous, current, strict=False))
    kept = len(list(same))
    return RequestDelta(base=base, kept=kept, appended=tuple(current[kept:]))


@given(REFS, REFS)
def test_a_difference_leads_from_any_request_to_any_other(previous: list[str], current: list[str]) -> None:
    assert apply_delta(previous, difference(previous, current)) == tuple(current)


@given(st.lists(st.tuples(REFS, st.booleans()), min_size=1, max_size=8))
@pytest.mark.requirement("journal:deltas")
def test_every_request_of_a_session_can_be_told_again(turns: list[tuple[list[str], bool]]) -> None:
    previous, base = list[str](), ""
    recorded, expected = list[Data](), list[tuple[str, ...]]()
    for number, (request, compacts) in enumerate(turns):
        recorded.append(asked(f"stp_{number}", difference(previous, request, base=base)))
        expected.append(tuple(request))
        previous, base = request, f"stp_{number}"
        if compacts:
            stop = min(2, len(previous))
            recorded.append(ContextCompacted(strategy="window", start=0, stop=stop, summary_ref="s"))
            previous = ["s", *previous[stop:]]
    assert [request for _, request in requests(events(*recorded))] == expected


def test_a_summary_is_a_request_of_its_own_and_no_base() -> None:
    told = requests(
        events(
            asked("stp_1", RequestDelta(appended=("a", "b"))),
            asked("stp_2", RequestDelta(appended=("x",)), StepKind.SUMMARY),
            asked("stp_3", RequestDelta(base="stp_1", kept=2, appended=("c",))),
        )
    )
    assert [request for _, request in told] == [("a", "b"), ("x",), ("a", "b", "c")]


def test_a_call_that_is_made_again_keeps_its_own_request() -> None:
    recorded = events(
        asked("stp_1", RequestDelta(appended=("a",))),
        asked("stp_1", RequestDelta(base="stp_1", kept=1)),
        asked("stp_2", RequestDelta(base="stp_1", kept=1, appended=("b",))),
    )
    assert [request for _, request in requests(recorded)] == [("a",), ("a",), ("a", "b")]


@pytest.mark.parametrize("delta", [RequestDelta(base="stp_0", kept=1), RequestDelta(base="stp_1", kept=2)])
def test_a_difference_to_something_that_is_not_there_is_found(delta: RequestDelta) -> None:
    with pytest.raises(IntegrityError):
        list(requests(events(asked("stp_1", RequestDelta(appended=("a",))), asked("stp_2", delta))))


@pytest.mark.requirement("journal:deltas")
def test_a_request_takes_as_many_bytes_at_turn_500_as_at_turn_10() -> None:
    sizes: list[int] = []
    refs: list[str] = []
    for turn in range(501):
        longer = [*refs, ref(2 * turn), ref(2 * turn + 1)]
        delta = RequestDelta(base=f"stp_{turn:06d}", kept=len(refs), appended=tuple(longer[len(refs) :]))
        sizes.append(len(encode_data(asked(f"stp_{turn:06d}", delta))))
        refs = longer
    assert sizes[500] <= sizes[10] + 4
    assert len(msgspec.msgpack.encode(refs)) > 30 * sizes[500]
