"""Turns the text that came back from a tool call into what a speaker needs: a value, or why there is none."""

import re
from typing import Any, cast

import msgspec

_WAITS = re.compile(
    r"\bwait(?:s|ing) for\b|\bneeds? (?:a person|approval)\b|\bpending\b|\bon hold\b", re.IGNORECASE
)
_OPEN = re.compile(
    r"\bunknown whether\b|\bin doubt\b|\btimed? ?out\b|\btool_(?:failed|timeout)\b|\bmay have happened\b|\bnot known\b",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(r"\bthis call took effect\b", re.IGNORECASE)
_FOR_THE_MODEL = re.compile(
    r"\bThis call was not made: |(?:^|\s)(?:Tell the user|Say so|Do not|Ask for it)\b[^.]*\.|: do not claim\b[^.]*(?=\.)"
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A value, or a reason; `waits` for a person, or `open` when nobody knows whether it happened."""

    value: Any = None
    reason: str = ""
    waits: bool = False
    open: bool = False

    @property
    def ok(self) -> bool:
        return not self.reason

    def number(self, name: str) -> float:
        """A numeric field of the value; 0.0 when it has none."""
        found = self.field(name)
        return float(found) if isinstance(found, int | float) else 0.0

    def text(self, name: str) -> str:
        """A field of the value as words; empty when it has none."""
        found = self.field(name)
        return "" if found is None else str(found)

    def items(self, name: str = "") -> list["Outcome"]:
        """The objects of a list field, or of the value itself."""
        found = self.field(name) if name else self.value
        return [Outcome(value=item) for item in cast("list[Any]", found)] if isinstance(found, list) else []

    def field(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """A field of the value, or None."""
        return cast("dict[str, Any]", self.value).get(name) if isinstance(self.value, dict) else None


MISSING = Outcome(reason="I have no tool for that.")


def outcome_of(result: str) -> Outcome:
    """Read a tool result. Text that is no JSON, and objects that have an `error`, are reasons why not.

    Text may also come from the runtime, which tells the model what became of a call and what to do about it.
    """
    try:
        value = msgspec.json.decode(result)
    except msgspec.DecodeError:
        value = result
    if isinstance(value, str):
        return _refused(value or "the tool gave no result")
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if error := fields.get("error"):
            return _refused(_message_of(error) or _message_of(fields), code=result)
        if _WAITS.search(str(fields.get("status", ""))):
            return _refused(str(fields.get("message") or fields["status"]))
    return Outcome(value=value)


def _message_of(error: object) -> str:
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        return str(fields.get("message") or fields.get("code") or fields)
    return str(error)


def _refused(reason: str, *, code: str = "") -> Outcome:
    if _CONFIRMED.search(reason):
        return Outcome(value={})
    waits, open_ = bool(_WAITS.search(reason)), bool(_OPEN.search(f"{reason} {code}"))
    spoken = _FOR_THE_MODEL.sub("", reason).strip()
    return Outcome(reason=spoken[:1].upper() + spoken[1:] or reason, waits=waits, open=open_ and not waits)
