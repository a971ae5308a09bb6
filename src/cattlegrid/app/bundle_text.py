"""Turns versions, manifests and differences of bundles into lines for a terminal and documents for programs."""

from collections.abc import Iterator, Sequence

import msgspec

from cattlegrid.core.bundle import Bundle, BundleVersion, Tool
from cattlegrid.release.diff import BundleDiff
from cattlegrid.release.summary import describe

_SHOWN_COMMIT = 12


def version_line(version: BundleVersion, *, note: str = "") -> str:
    """For example `shop#2 (3f9c2ab1)  commit 1f2e3d4c5b6a  newest`."""
    origin = f"commit {version.commit[:_SHOWN_COMMIT]}" if version.commit else "no commit"
    changed = " with changes" if version.dirty else ""
    return "  ".join(part for part in (str(version), origin + changed, note) if part)


def version_document(version: BundleVersion) -> dict[str, object]:
    """A version as plain values."""
    return {**msgspec.structs.asdict(version), "name": f"{version.agent}#{version.number}"}


def manifest_lines(version: BundleVersion, bundle: Bundle) -> Iterator[str]:
    """What a person wants to know of a version."""
    yield version_line(version)
    yield f"  {bundle.description}"
    yield f"  {describe(bundle)}"
    yield f"  digest   {bundle.digest}"
    yield f"  lock     {bundle.lock_digest or 'none'}"
    for tier, model in bundle.models.items():
        set_values = msgspec.to_builtins(model.params)
        params = " ".join(f"{name}={value}" for name, value in set_values.items())
        yield f"  model    {tier}: {model.name} ({model.provider} {model.model}{' ' + params if params else ''})"
    for tool in bundle.tools.values():
        yield f"  tool     {_tool(tool)}"
    for path, digest in bundle.files.items():
        yield f"  file     {digest[:8]}  {path}"


def diff_lines(difference: BundleDiff) -> Iterator[tuple[str, str]]:
    """Lines with their style. Nothing at all for equal bundles."""
    for change in difference.fields:
        yield change.field, "bold"
        if change.before:
            yield f"- {change.before}", "red"
        if change.after:
            yield f"+ {change.after}", "green"
    for change in difference.files:
        yield f"{change.change} {change.path}", "bold"
        for line in change.diff.splitlines():
            yield line, _style(line)


def changed_anything(difference: BundleDiff) -> bool:
    """Whether two bundles differ in anything."""
    return bool(difference.fields or difference.files)


def listed(versions: Sequence[BundleVersion]) -> Iterator[str]:
    """One line for each version, newest first."""
    for version in reversed(versions):
        yield version_line(version, note="newest" if version is versions[-1] else "")


def _tool(tool: Tool) -> str:
    helpers = [
        f"{role} {name}" for role, name in (("undo", tool.undo), ("reconcile", tool.reconcile)) if name
    ]
    parts = [tool.name, str(tool.effect), f"retry {tool.retry}", f"{tool.timeout_s:g} s", *helpers]
    return ", ".join(parts) + ("" if tool.offered else ", not offered")


def _style(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "dim"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
