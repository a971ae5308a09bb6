"""Puts the tool calls of one answer together from streamed pieces, for tidy servers and for sloppy ones.

A tidy server gives every piece an `index`, and `id` and `function.name` in the first piece only. Seen elsewhere, and
handled: no index at all; several whole calls in one piece without indexes; two calls under one index with different
ids; a fresh id on every piece of one call (such pieces have no name); the name repeated on every piece; arguments as
an object instead of its JSON text; no id. No call is merged into another and none is dropped.
"""

import re
from typing import Final, cast

import msgspec

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.core.errors import ModelProtocolError
from cattlegrid.core.messages import ToolCall

_MADE: Final = re.compile(r"call_\d{1,6}_*")


class _Open:
    """One call in progress."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class ToolCallAssembler:
    """Collects the `tool_calls` of the deltas of one answer, or of one whole message."""

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._by_index: dict[int, _Open] = {}

    def add(self, pieces: object) -> None:
        """One `tool_calls` value. Raises ModelProtocolError when it is no list of calls."""
        if not isinstance(pieces, list):
            raise _malformed("tool_calls is no list")
        listed = cast("list[object]", pieces)
        for position, piece in enumerate(listed):
            if not isinstance(piece, dict):
                raise _malformed("a tool call is no object")
            self._add_piece(cast("dict[str, object]", piece), position if len(listed) > 1 else None)

    def finish(self) -> tuple[ToolCall, ...]:
        """The calls in the order in which they began. Raises ModelProtocolError when one has no name."""
        calls: list[ToolCall] = []
        taken = {call.id for call in self._calls}
        used: set[str] = set()
        for position, call in enumerate(self._calls):
            if not call.name:
                raise _malformed("a tool call has no name")
            call_id = call.id if call.id and call.id not in used else free_id(position, taken)
            taken.add(call_id)
            used.add(call_id)
            calls.append(ToolCall(id=call_id, name=call.name, arguments="".join(call.arguments)))
        return tuple(calls)

    def _add_piece(self, piece: dict[str, object], position: int | None) -> None:
        function = piece.get("function")
        if function is not None and not isinstance(function, dict):
            raise _malformed("the function of a tool call is no object")
        fields = cast("dict[str, object]", function or {})
        call_id, name = _text(piece.get("id"), "id"), _text(fields.get("name"), "name")
        arguments = _arguments(fields.get("arguments"))
        index = piece.get("index")
        if index is None:
            index = position
        elif isinstance(index, bool) or not isinstance(index, int):
            raise _malformed("the index of a tool call is no integer")
        call = self._call_for(index, call_id, name, arguments)
        call.id = call.id or call_id
        if name and name != call.name:
            call.name += name
        if arguments:
            call.arguments.append(arguments)

    def _call_for(self, index: int | None, call_id: str, name: str, arguments: str) -> _Open:
        if index is not None:
            known = self._by_index.get(index)
        else:
            same_id = next((call for call in self._calls if call_id and call.id == call_id), None)
            known = same_id or (self._calls[-1] if self._calls else None)
        if known is not None and not _begins_another(known, call_id, name, arguments):
            return known
        call = _Open()
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call


def _begins_another(known: _Open, call_id: str, name: str, arguments: str) -> bool:
    if not name:
        return False
    if call_id and known.id:
        return call_id != known.id
    return bool(known.name and arguments) and _is_complete("".join(known.arguments))


def _is_complete(arguments: str) -> bool:
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True


def free_id(position: int, taken: set[str]) -> str:
    """An id for the call at a position whose provider gave it none; unlike all that are taken."""
    candidate = f"call_{position + 1}"
    while candidate in taken:
        candidate += "_"
    return candidate


def is_made(call_id: str) -> bool:
    """Whether an id is one of `free_id`, which the provider has never seen."""
    return _MADE.fullmatch(call_id) is not None


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _malformed(f"the {what} of a tool call is no text")
    return value


def _arguments(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, dict):
        return msgspec.json.encode(cast("dict[str, object]", value)).decode()
    raise _malformed("the arguments of a tool call are no text")


def _malformed(what: str) -> ModelProtocolError:
    return model_error(ModelProtocolError, what)
