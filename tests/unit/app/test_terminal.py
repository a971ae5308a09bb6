"""What reaches a terminal: safe text, whole JSON, times that people read."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cattlegrid.app.terminal import ago, clean, count, one_line, print_json, seconds

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eabc", "\u2066x", "\x00", "\x7f", "\ud800"],
)
def test_text_of_others_cannot_command_a_terminal(text: str) -> None:
    cleaned = clean(text)
    assert not any(character in cleaned for character in "\x1b\x07\r\x9b\u202e\u2066\x00\x7f\ud800")
    cleaned.encode()


@pytest.mark.parametrize("text", ["ordinary", "a\nb\tc", "Zoë ☕ 日本", "👩‍💻"])
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert clean(text) == text


def test_one_line_is_one_line() -> None:
    assert one_line("  a\n\n b\tc ") == "a b c"


def test_json_is_one_document_that_means_the_same_and_commands_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"text": "é \x1b[2J \x9b \u202e ☕", "list": [1, 2.5, None, True]}
    print_json(json.dumps(value).encode())
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert not set(printed) & set("\x1b\x9b\u202e")
    assert "☕" in printed


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [
        (0.0, "0 ms"),
        (0.0124, "12 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (1.94, "1.9 s"),
        (99.94, "99.9 s"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(duration_s: float, said: str) -> None:
    assert seconds(duration_s) == said


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (timedelta(seconds=-3), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=3), "2026-03-03"),
    ],
)
def test_times_are_said_as_far_away_as_they_are(passed: timedelta, said: str) -> None:
    assert ago(NOW - passed, NOW) == said


def test_one_is_not_many() -> None:
    assert [count(number, "step") for number in (0, 1, 2, 1200)] == [
        "0 steps",
        "1 step",
        "2 steps",
        "1,200 steps",
    ]
