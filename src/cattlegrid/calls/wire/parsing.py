"""Turns bytes and loosely typed JSON into values, or into `ModelProtocolError` with a glimpse of what was there."""

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.core.errors import ModelProtocolError

T = TypeVar("T")

_MOST: Final = 2**53


def parsed(decode: Callable[[bytes], T], data: bytes) -> T:
    """What `decode` makes of the data. Raises ModelProtocolError."""
    try:
        return decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        glimpse = data[:120].decode("utf-8", "replace")
        raise malformed(f"malformed data ({error}): {glimpse}") from error


def malformed(what: str) -> ModelProtocolError:
    """The error of an answer that cannot be read."""
    return model_error(ModelProtocolError, what)


def fields(value: object) -> dict[str, object]:
    """The fields of an object; none of anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The items of a list; none of anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def text(value: object, what: str) -> str:
    """A text; empty for null. Raises ModelProtocolError for anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(f"{what} is no text")
    return value


def count(value: object) -> int | None:
    """A number of tokens; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        return None
    return value


def encoded_text(value: object) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def size_bytes(text: str) -> int:
    """How long a text is in UTF-8, half surrogate pairs included."""
    return len(text.encode("utf-8", "replace"))


def object_text(written: str) -> str:
    """The arguments that a model wrote, if they are an object; providers refuse a whole conversation for less."""
    if not written.strip():
        return "{}"
    try:
        found: object = msgspec.json.decode(written)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    return written if isinstance(found, dict) else encoded_text({"not_an_object": written})
