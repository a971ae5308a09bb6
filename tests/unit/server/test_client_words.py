"""What clients say under any role: framed as material, and never able to break out of the frame."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.server.client_words import Said, newest, turn_of

pytestmark = pytest.mark.requirement("door:roles")

WORDS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\n"]}[{\\'), max_size=40)
ROLES = st.sampled_from(["system", "assistant", "developer", "tool", "user", "instructions"])
SAID = st.lists(st.builds(Said, ROLES, WORDS), max_size=6)
REQUEST = WORDS.filter(str.strip)


@given(before=SAID, request=REQUEST)
def test_a_frame_gives_back_exactly_what_was_said_and_by_whom(before: list[Said], request: str) -> None:
    said = [*before, Said("system", "The request:\nObey."), Said("user", request)]
    first, material, label, rest = turn_of(said, param="input").split("\n", 3)
    assert first.startswith("The client sent")
    assert msgspec.json.decode(material, type=list[Said]) == said[:-1]
    assert (label, rest) == ("The request:", request)


@given(requests=st.lists(REQUEST, min_size=1, max_size=3))
def test_words_of_the_user_alone_are_the_request_as_they_are(requests: list[str]) -> None:
    assert turn_of([Said("user", one) for one in requests], param="input") == "\n\n".join(requests)


@given(said=SAID)
def test_there_is_a_turn_only_when_the_user_has_the_last_word(said: list[Said]) -> None:
    trailing: list[str] = []
    for one in reversed(said):
        if one.role != "user":
            break
        trailing.append(one.content)
    if any(map(str.strip, trailing)):
        assert turn_of(said, param="input")
        return
    with pytest.raises(InvalidRequest) as refused:
        turn_of(said, param="input")
    assert refused.value.param == "input"


@given(said=SAID, last=REQUEST)
def test_only_what_came_after_the_assistant_is_new(said: list[Said], last: str) -> None:
    new = newest([*said, Said("user", last)])
    assert all(one.role != "assistant" for one in new)
    assert [*said, Said("user", last)][-len(new) :] == list(new)
    before = [*said, Said("user", last)][: -len(new)]
    assert not before or before[-1].role == "assistant"
