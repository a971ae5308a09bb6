"""The language of `approve` and `deny` lines: what it says, what it refuses, and that nothing is ever evaluated."""

import builtins
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.guards.conditions import Condition, Undecided, names, parse

ARGUMENTS: Final = {"amount": 79.9, "count": 3, "country": "DE", "urgent": True, "note": None, "tags": ["a"]}
UNDECIDED: Final = "undecided"


def met(text: str, **arguments: object) -> bool | str:
    try:
        return parse(text).met(arguments or ARGUMENTS)
    except Undecided:
        return UNDECIDED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("always", True),
        ("  always  ", True),
        ("amount > 50", True),
        ("amount > 79.9", False),
        ("amount >= 79.9", True),
        ("count == 3", True),
        ("count == 3.0", True),
        ("count != 3", False),
        ("-5 < count", True),
        ("0 < count < 3", False),
        ("0 < count <= 3", True),
        ("country == 'DE'", True),
        ('country != "DE"', False),
        ("country in ['DE', 'AT']", True),
        ("country not in ('FR',)", True),
        ("count in [1, 2, 3.0]", True),
        ("count in [-3, 4]", False),
        ("urgent", True),
        ("not urgent", False),
        ("urgent == true", True),
        ("urgent == False", False),
        ("amount > 50 and country == 'DE'", True),
        ("amount > 500 or country == 'DE'", True),
        ("amount > 500 or not (country == 'DE' and urgent)", False),
        ("urgent in [true]", UNDECIDED),
    ],
)
def test_a_condition_says_what_it_reads_like(text: str, *, expected: bool | str) -> None:
    if expected == UNDECIDED:
        with pytest.raises(ValueError, match="in"):
            parse(text)
    else:
        assert met(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "missing > 5",
        "amount > 500 and missing == 1",
        "urgent or missing == 1",
        "5 < count < missing",
        "1 < 0 < missing",
        "amount > 'many'",
        "country > 5",
        "country == 5",
        "urgent == 1",
        "urgent > 0",
        "count == true",
        "note > 5",
        "note == 'x'",
        "note == 5",
        "tags == 5",
        "tags == 'a'",
        "note in ['DE']",
        "count in ['1', '2']",
        "urgent in [1, 0]",
        "tags in ['a']",
        "country",
        "count",
        "not count",
        "note",
        "urgent and country",
    ],
)
def test_what_is_absent_or_of_another_kind_is_undecided_whatever_the_rest_says(text: str) -> None:
    assert met(text) == UNDECIDED


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "amount >",
        "amount > 50;",
        "amount = 50",
        "amount > 50 if urgent else false",
        "len(country) > 2",
        "country.upper() == 'DE'",
        "country[0] == 'D'",
        "amount + 1 > 50",
        "amount > 5 * 10",
        "lambda: 1",
        "[x for x in tags]",
        "__import__('os').system('true')",
        "(urgent := true)",
        "amount > b'x'",
        "amount > 5j",
        "amount > None",
        "amount is 5",
        "country in 'DEAT'",
        "country in tags",
        "country in [tags]",
        "f'{country}' == 'DE'",
        "*tags",
        "await urgent",
        "yield",
        "amount > 50\namount > 60",
        "-urgent",
        "~count == 3",
        "5",
        "'DE'",
        "always and urgent > ",
        "x" * 501,
        "not " * 120 + "urgent > 1 > ",
        "-" * 490 + "1 > 0",
        "(" * 240 + "1" + ")" * 240,
        "a\x00 > 1",
        "amount > '\ud800",
    ],
)
def test_what_is_outside_the_language_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w{3,}"):
        parse(text)


def test_names_are_the_arguments_that_a_condition_looks_at() -> None:
    assert names(parse("a > 5 and (b in ['x'] or not c) and d == true")) == {"a", "b", "c", "d"}
    assert names(parse("always")) == frozenset()
    assert parse("  amount > 50 ").text == "amount > 50"


class Trap(dict[str, object]):
    """Arguments that know what was asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> object:
        self.asked.append(name)
        raise KeyError(name)


TOKENS: Final = st.sampled_from(
    [
        "amount",
        "country",
        "urgent",
        "exit",
        "quit",
        "breakpoint",
        "__import__",
        "os",
        "1",
        "2.5",
        "'x'",
        "true",
        "and",
        "or",
        "not",
        "in",
        "<",
        ">",
        "==",
        "!=",
        "<=",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        ":",
        ":=",
        "lambda",
        "if",
        "else",
        "for",
        "*",
        "**",
        "+",
        "-",
        "@",
        "%",
        "{",
        "}",
        "is",
        "await",
        "yield",
        "f'{exit()}'",
        "=",
        ";",
        "#",
        "\\",
        "\x00",
        "\n",
    ]
)
TEXTS: Final = st.one_of(st.text(max_size=60), st.lists(TOKENS, max_size=12).map(" ".join))


@given(TEXTS)
def test_parsing_any_text_evaluates_nothing_and_gives_a_condition_or_a_sentence(text: str) -> None:
    """Names that Python knows are only ever looked up among the arguments."""
    try:
        condition = parse(text)
    except ValueError:
        return
    assert isinstance(condition, Condition)
    trap = Trap()
    try:
        decided = condition.met(trap)
    except Undecided:
        assert trap.asked or not names(condition)
    else:
        assert isinstance(decided, bool)
    assert set(trap.asked) <= names(condition)


@given(
    TEXTS,
    st.dictionaries(
        st.sampled_from(["amount", "country", "urgent", "os"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    ),
)
def test_with_any_arguments_a_condition_is_met_or_not_or_undecided(
    text: str, arguments: dict[str, object]
) -> None:
    try:
        condition = parse(text)
    except ValueError:
        return
    try:
        assert isinstance(condition.met(arguments), bool)
    except Undecided:
        return
    assert names(condition) <= set(arguments) | set(), "everything that a condition names was there"


COMPARED: Final = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(10**9), 10**9),
    COMPARED,
    st.integers(-(10**6), 10**6),
)
def test_a_comparison_of_numbers_says_what_python_says(value: float, comparison: str, bound: int) -> None:
    expected = {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
        "==": value == bound,
        "!=": value != bound,
    }
    assert met(f"amount {comparison} {bound}", amount=value) is expected[comparison]


def test_no_name_of_python_is_within_reach() -> None:
    for name in dir(builtins):
        if name.isidentifier() and name not in {"True", "False", "None"}:
            assert met(f"{name} == 1", other=1) == UNDECIDED
