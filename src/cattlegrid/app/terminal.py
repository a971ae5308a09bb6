"""Turns text into what is safe and fitting on a terminal: consoles, JSON documents, spinners, words for times.

Text of users, models and tools is never written as it came: control characters could rewrite an operator's screen.
"""

import contextlib
import json
import re
import sys
from collections.abc import Generator
from datetime import datetime
from typing import Final

import msgspec
from rich.console import Console

_PIPED_WIDTH: Final = 160
"""Wide enough for whole ids where no terminal cuts the lines."""
_UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def out() -> Console:
    """Where results go: standard output, in colour on a terminal only."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def err() -> Console:
    """Where everything that is not a result goes: standard error."""
    width = None if sys.stderr.isatty() else _PIPED_WIDTH
    return Console(stderr=True, highlight=False, markup=False, emoji=False, width=width)


def clean(text: str) -> str:
    """Text without characters that a terminal obeys or that turn its direction; line breaks and tabs stay."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Clean text with all white space made single spaces."""
    return " ".join(clean(text).split())


def print_json(content: object) -> None:
    """One JSON document on standard output: an answer's bytes, or plain values."""
    value = json.loads(content) if isinstance(content, bytes) else msgspec.to_builtins(content)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Inside of JSON everything that `clean` would take away can be written as an escape.
    safe = re.sub(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", _escaped, text)
    sys.stdout.write(f"{safe}\n")


@contextlib.contextmanager
def working(text: str) -> Generator[None]:
    """Show that something takes a moment, on a terminal only."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def seconds(duration_s: float) -> str:
    """`12 ms`, `1.9 s`, `3 min 20 s`, `2 h 5 min`."""
    if duration_s < 0.0995:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 99.95:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def ago(at: datetime, now: datetime) -> str:
    """`just now`, `5 min ago`, `3 h ago`, or the date."""
    passed_s = (now - at).total_seconds()
    if passed_s < 60:
        return "just now"
    if passed_s < 3_600:
        return f"{passed_s // 60:.0f} min ago"
    if passed_s < 86_400:
        return f"{passed_s // 3_600:.0f} h ago"
    return f"{at.astimezone():%Y-%m-%d}"


def count(number: int, noun: str) -> str:
    """`1 model call`, `2 model calls`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
