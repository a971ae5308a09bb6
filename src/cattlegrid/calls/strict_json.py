"""Turns JSON text from outside into values, refusing what JSON parsers usually let pass.

Refused: the same key twice in one object (parsers disagree on which one counts), NaN and infinities (RFC 8259, section
6), numbers beyond a double, half a surrogate pair, nesting without end. A float with an integer value below 2^53
becomes that integer, as in RFC 8785: to JSON they are the same number.
"""

import json
import math
from typing import Final

from cattlegrid.core.canonical import canonical_json

_EXACT: Final = 2**53


class JsonRefused(Exception):
    """Text that is no acceptable JSON; `reason` says what and where, in words for whoever wrote it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse(text: str) -> object:
    """The value of a JSON text. Raises JsonRefused."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonRefused(_where(text, error)) from error
    except RecursionError as error:
        raise JsonRefused("it is nested too deeply") from error
    except ValueError as error:
        raise JsonRefused("a number in it has too many digits") from error


def canonical(value: object) -> str:
    """The canonical JSON text of a parsed value. Raises JsonRefused for text that no UTF-8 can carry."""
    try:
        return canonical_json(value).decode()
    except UnicodeEncodeError as error:
        raise JsonRefused("a text in it holds half of a surrogate pair, such as \\ud83d alone") from error


def _where(text: str, error: json.JSONDecodeError) -> str:
    what = error.msg[:1].lower() + error.msg[1:]
    if error.pos >= len(text.rstrip()):
        return f"it ends too early, at character {error.pos} ({what})"
    near = text[max(0, error.pos - 15) : error.pos + 15]
    return f"at character {error.pos}, near {json.dumps(near, ensure_ascii=False)}: {what}"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonRefused(f"the key {json.dumps(key[:60], ensure_ascii=False)} is given twice")
            seen.add(key)
    return found


def _float(text: str) -> float | int:
    value = float(text)
    if not math.isfinite(value):
        raise JsonRefused(f"the number {text[:40]} is too large")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _constant(word: str) -> object:
    raise JsonRefused(f"{word} is no JSON number")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
