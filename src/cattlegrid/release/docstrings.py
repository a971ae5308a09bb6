"""Turns a docstring in Google's style into what a model is told: the first paragraph, and a text for each argument.

https://google.github.io/styleguide/pyguide.html#383-functions-and-methods
"""

import inspect
import re
from typing import Final

import msgspec

_SECTION: Final = re.compile(
    r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Notes?|Examples?|See Also):\s*$"
)
_ARGUMENT_SECTIONS: Final = frozenset({"Args", "Arguments", "Parameters"})
_ENTRY: Final = re.compile(r"^\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")


class Docstring(msgspec.Struct, frozen=True, kw_only=True):
    """What a docstring says."""

    description: str
    """The first paragraph, on one line; empty when there is none."""
    arguments: dict[str, str]


def read_docstring(text: str | None) -> Docstring:
    """Read a docstring as it stands in the code; None is an empty one."""
    lines = inspect.cleandoc(text or "").splitlines()
    paragraph: list[str] = []
    for line in lines:
        if not line.strip() or _SECTION.match(line):
            break
        paragraph.append(line.strip())
    return Docstring(description=" ".join(paragraph), arguments=_arguments(lines))


def _arguments(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    inside, indent, name = False, 0, ""
    for line in lines:
        if section := _SECTION.match(line):
            inside, indent, name = section[1] in _ARGUMENT_SECTIONS, 0, ""
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            inside = False
            continue
        indent = indent or depth
        entry = _ENTRY.match(line.strip()) if depth <= indent else None
        if entry:
            name = entry["name"]
            found[name] = [entry["text"].strip()]
        elif name:
            found[name].append(line.strip())
    return {argument: " ".join(parts).strip() for argument, parts in found.items()}
