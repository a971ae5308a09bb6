"""Compares two bundles part by part: fields of their manifests, and the lines of their text files."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Final, Literal, cast

import msgspec

from cattlegrid.core.bundle import Bundle

_NOT_COMPARED: Final = frozenset({"digest", "files", "system_prompt"})
"""The prompt is compared as a file."""
_JSON_TEXTS: Final = frozenset({"parameters", "returns"})


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the manifest. `before` and `after` are JSON texts; empty where the field is not there."""

    field: str
    """For example `tools.refund.timeout_s`."""
    before: str
    after: str


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """A file. `diff` is a unified diff; empty for a file that is no text."""

    path: str
    change: Literal["added", "removed", "changed"]
    diff: str


class BundleDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in which two bundles differ; both empty for the same bundle."""

    fields: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]


def compare(
    before: Bundle, after: Bundle, *, files_before: Mapping[str, bytes], files_after: Mapping[str, bytes]
) -> BundleDiff:
    """Compare two bundles, whose files are given by path."""
    old, new = _fields(before), _fields(after)
    fields = tuple(
        FieldChange(field=name, before=old.get(name, ""), after=new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name, "") != new.get(name, "")
    )
    paths = sorted({*files_before, *files_after})
    files = tuple(
        _file_change(path, files_before.get(path), files_after.get(path))
        for path in paths
        if files_before.get(path) != files_after.get(path)
    )
    return BundleDiff(fields=fields, files=files)


def _fields(bundle: Bundle) -> dict[str, str]:
    raw = cast("dict[str, object]", msgspec.to_builtins(bundle))
    return {name: text for name, text in _flat(raw, "") if name.partition(".")[0] not in _NOT_COMPARED}


def _flat(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings as (dotted path, JSON text); a tool's schemas are looked into."""
    if isinstance(value, str) and path.rpartition(".")[2] in _JSON_TEXTS and value:
        value = msgspec.json.decode(value)
    if isinstance(value, dict) and value:
        for key, item in cast("dict[str, object]", value).items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, msgspec.json.encode(value).decode()


def _file_change(path: str, before: bytes | None, after: bytes | None) -> FileChange:
    change: Literal["added", "removed", "changed"] = (
        "added" if before is None else "removed" if after is None else "changed"
    )
    old, new = _lines(before), _lines(after)
    diff = ""
    if old is not None and new is not None:
        names = (
            f"a/{path}" if before is not None else "/dev/null",
            f"b/{path}" if after is not None else "/dev/null",
        )
        diff = "".join(_ended(line) for line in difflib.unified_diff(old, new, *names))
    return FileChange(path=path, change=change, diff=diff)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(content: bytes | None) -> list[str] | None:
    """The lines of a text; None for what is no text."""
    if content is None:
        return []
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.splitlines(keepends=True)
