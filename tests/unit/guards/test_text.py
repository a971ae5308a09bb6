"""Texts at the crossings where they enter and leave: sizes, and characters that nobody types."""

import sys
import unicodedata
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cattlegrid.core.bundle import Limits
from cattlegrid.core.messages import Message, Role
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import GuardChain, GuardContext
from cattlegrid.guards.text import Characters, Size
from cattlegrid.testing.world import ANA, bundle_of

LIMIT: Final = 40
OF: Final = GuardContext(
    bundle=replace(
        bundle_of("support"), limits=Limits(input_bytes=LIMIT, output_bytes=LIMIT, tool_result_bytes=LIMIT)
    ),
    principal=ANA,
    session_id="ses_1",
)
KEPT: Final = {"\t", "\n", "\r"}


def judged(text: str, crossing: Crossing) -> tuple[Decision, str]:
    found = GuardChain([Characters(), Size()]).judge(crossing, Message(Role.USER, text), OF)
    return found.decision, found.content.text


@given(st.text(st.characters(), max_size=LIMIT // 4))
def test_what_people_type_passes_unchanged(text: str) -> None:
    speakable = not any(unicodedata.category(char) in {"Cc", "Cs"} and char not in KEPT for char in text)
    decision, passed = judged(text, Crossing.INPUT)
    assert (decision is Decision.ALLOW) is speakable
    assert passed == "".join(
        char for char in text if unicodedata.category(char) not in {"Cc", "Cs"} or char in KEPT
    )


@pytest.mark.requirement("input:text")
def test_every_control_character_and_surrogate_is_dropped_and_nothing_else() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    found = GuardChain([Characters()]).judge(Crossing.TOOL_RESULT, Message(Role.TOOL, everything), OF)
    assert found.content.text == "".join(
        char for char in everything if unicodedata.category(char) not in {"Cc", "Cs"} or char in KEPT
    )


@pytest.mark.parametrize("text", ["👩‍🚀🏳️‍🌈", "e\u0301", "שלום", "नमस्ते", "ok\u200b", "\u2028"])
def test_emoji_and_every_script_stay_whole(text: str) -> None:
    assert judged(text, Crossing.INPUT) == (Decision.ALLOW, text)


@given(st.integers(1, 4), st.integers(0, 30))
def test_a_text_within_the_limit_passes_and_one_above_it_does_not(width: int, count: int) -> None:
    char = {1: "a", 2: "é", 3: "€", 4: "😀"}[width]
    text = char * count
    for crossing in (Crossing.INPUT, Crossing.TOOL_RESULT):
        expected = Decision.ALLOW if width * count <= LIMIT else Decision.DENY
        assert judged(text, crossing)[0] is expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_an_answer_too_long_is_cut_between_characters_as_late_as_possible(text: str) -> None:
    found = GuardChain([Size()]).judge(Crossing.OUTPUT, Message(Role.ASSISTANT, text), OF)
    cut = found.content.text
    assert text.startswith(cut)
    assert len(cut.encode()) <= LIMIT
    rest = text[len(cut) :]
    assert not rest or len((cut + rest[0]).encode()) > LIMIT
    assert (found.decision is Decision.MODIFY) is bool(rest)


def test_only_the_text_of_a_message_is_changed() -> None:
    message = Message(Role.TOOL, "a\x07b", tool_call_id="call_1")
    found = GuardChain([Characters()]).judge(Crossing.TOOL_RESULT, message, OF)
    assert found.content == Message(Role.TOOL, "ab", tool_call_id="call_1")


def test_answers_are_not_cleaned_and_model_requests_not_looked_at() -> None:
    assert judged("a\x07b", Crossing.OUTPUT) == (Decision.ALLOW, "a\x07b")
    found = GuardChain([Characters(), Size()]).judge(Crossing.MODEL_REQUEST, "x" * 1_000, OF)
    assert found.decision is Decision.ALLOW
