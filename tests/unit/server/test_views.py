"""What goes out: exact money, and text that is always text."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.server.runs import wants_events
from cattlegrid.server.views import arguments, encode, usd

SURROGATES = st.text(st.characters(exclude_categories=[]), max_size=8)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (3_100_000, "0.0031"),
        (10**9, "1"),
        (100 * 10**9, "100"),
        (12_500_000_000, "12.5"),
    ],
)
def test_money_is_shown_exactly_and_without_an_exponent(nano: int, shown: str) -> None:
    assert usd(nano) == shown


@given(
    st.recursive(SURROGATES, lambda inner: st.lists(inner) | st.dictionaries(SURROGATES, inner), max_leaves=6)
)
def test_whatever_a_model_or_tool_wrote_becomes_json_in_utf_8(value: object) -> None:
    content = encode({"value": value}).decode()
    msgspec.json.decode(content)


def test_half_of_a_surrogate_pair_is_replaced_and_everything_else_stays() -> None:
    assert msgspec.json.decode(encode(["a\ud800b", "\U0001f642"])) == ["a\ufffdb", "\U0001f642"]


def test_arguments_are_json_and_what_is_none_is_shown_as_it_stands() -> None:
    assert arguments('{"amount":40}') == {"amount": 40}
    assert arguments("(erased)") == "(erased)"


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream;charset=utf-8", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("application/json;q=0.1, text/event-stream", True),
        ("text/event-stream, application/json", False),
        ("text/event-stream;q=0", False),
        ("*/*", False),
        ("", False),
        ("text/event-stream;q=nonsense", True),
    ],
)
def test_a_stream_is_sent_to_those_who_would_rather_have_one(accept: str, streamed: bool) -> None:  # noqa: FBT001
    assert wants_events(accept) == streamed
