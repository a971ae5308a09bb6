"""Keeps what a provider adds to an assistant message beyond the common fields, so that it can be sent back unchanged.

Reasoning models put their thoughts into fields such as `reasoning_content`, `reasoning` or `reasoning_details`, and
some refuse a conversation whose thoughts are missing or altered. Each field becomes one JSON text, an object with
that one key: `{"reasoning_content":"..."}`. Items of other formats have other shapes and are left out on the way back.
"""

from collections.abc import Iterable
from typing import Final, cast

import msgspec

KNOWN_FIELDS: Final = frozenset(
    {
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "annotations",
        "audio",
        "name",
        "tool_call_id",
    }
)
_GROWING: Final = frozenset({"text", "summary"})


class OpaqueFields:
    """Puts the fields of one message together from its pieces.

    Texts are joined; items of lists are joined when they carry the same `index` and `type`, else appended; of anything
    else the last one counts.
    """

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[object]] = {}
        self._others: dict[str, object] = {}

    def add(self, field: str, value: object) -> None:
        if isinstance(value, str):
            self._texts.setdefault(field, []).append(value)
        elif isinstance(value, list):
            items = self._lists.setdefault(field, [])
            for item in cast("list[object]", value):
                _add_item(items, item)
        else:
            self._others[field] = value

    def items(self) -> tuple[str, ...]:
        """One JSON text for each field that holds something."""
        whole: dict[str, object] = {field: "".join(pieces) for field, pieces in self._texts.items()}
        whole.update(self._lists)
        whole.update(self._others)
        return tuple(_text({field: value}) for field, value in whole.items() if value not in ("", [], {}))


def fields_to_send(items: Iterable[str]) -> dict[str, msgspec.Raw]:
    """The fields that kept items stand for; items of other formats are left out."""
    fields: dict[str, msgspec.Raw] = {}
    for item in items:
        try:
            parsed = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if len(parsed) == 1:
            fields.update((field, raw) for field, raw in parsed.items() if field not in KNOWN_FIELDS)
    return fields


def _add_item(items: list[object], item: object) -> None:
    piece = _object(item)
    if piece is not None:
        for earlier in map(_object, reversed(items)):
            if earlier is not None and _is_continued(earlier, piece):
                _continue(earlier, piece)
                return
    items.append(item)


def _object(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _is_continued(earlier: dict[str, object], piece: dict[str, object]) -> bool:
    index = piece.get("index")
    same_place = isinstance(index, int) and earlier.get("index") == index
    return same_place and earlier.get("type") == piece.get("type")


def _continue(earlier: dict[str, object], piece: dict[str, object]) -> None:
    for key, value in piece.items():
        before = earlier.get(key)
        if key in _GROWING and isinstance(before, str) and isinstance(value, str):
            earlier[key] = before + value
        elif value is not None:
            earlier[key] = value


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
