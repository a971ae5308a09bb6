"""Messages out of pieces: whatever a run tells, in whatever order, what ends as final is the recorded answer."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.messages import Usage
from cattlegrid.runtime.requests import RunView
from cattlegrid.runtime.streams import StreamItem
from cattlegrid.server.speech import Begun, Ended, Part, Piece, Speech

pytestmark = pytest.mark.requirement("door:provisional")


def item(type_: str, step: str, **data: object) -> StreamItem:
    return StreamItem(place=(1, 0), type=type_, data={"run_id": "run_X", "step_id": step, **data})


STEPS = st.sampled_from(["stp_X_001", "stp_X_002", "stp_X_003"])
ITEMS: st.SearchStrategy[StreamItem] = st.one_of(
    st.builds(lambda step, text: item("message.delta", step, text=text), STEPS, st.sampled_from(["a", "b"])),
    st.builds(
        item,
        st.sampled_from(["message.reset", "step.started", "run.held"]),
        STEPS,
    ),
    st.builds(
        lambda step, status: item("step.finished", step, status=status),
        STEPS,
        st.sampled_from(["done", "failed"]),
    ),
    st.just(StreamItem(place=(1, 0), type="run.restarted", data={"run_id": "run_X"})),
)


def view(output: str) -> RunView:
    return RunView(
        id="run_X",
        session_id="ses_X",
        agent="support",
        bundle="support#1",
        status="completed",
        reason="",
        input="Hi",
        output=output,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=None,
        active_s=0.0,
        model_calls=1,
        tool_calls=0,
        usage=Usage(),
        cost_nano_usd=0,
        approvals=(),
        steps=(),
    )


@given(items=st.lists(ITEMS, max_size=20), output=st.sampled_from(["", "a", "ab", "aa"]))
def test_messages_begin_go_on_and_end_one_after_the_other_and_the_final_one_is_the_answer(
    items: list[StreamItem], output: str
) -> None:
    speech = Speech()
    parts: list[Part] = [part for one in items for part in speech.hear(one)]
    parts += speech.finish(view(output))
    begun, open_id, text = set[str](), "", ""
    finals: list[str] = []
    voids = 0
    for part in parts:
        match part:
            case Begun(id=id):
                assert not open_id
                assert id not in begun
                begun.add(id)
                open_id, text = id, ""
            case Piece(id=id, text=piece):
                assert id == open_id
                text += piece
            case Ended(id=id, text=whole, fate=fate):
                assert (id, whole) == (open_id, text)
                open_id = ""
                finals += [whole] if fate == "final" else []
                voids += fate == "void"
    assert not open_id
    assert finals == ([output] if output else [])
    assert speech.took_back == bool(voids)


def test_an_answer_that_was_streamed_as_it_is_is_not_told_twice() -> None:
    speech = Speech()
    parts = [*speech.hear(item("message.delta", "stp_X_001", text="Hel"))]
    parts += speech.hear(item("message.delta", "stp_X_001", text="lo"))
    parts += speech.hear(item("step.finished", "stp_X_001", status="done"))
    assert [type(part) for part in parts] == [Begun, Piece, Piece]
    assert speech.finish(view("Hello")) == [Ended("msg_X_001", "Hello", "final")]
