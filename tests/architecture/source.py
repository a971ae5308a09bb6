"""Turns the repository into what the architecture tests ask about: its files, and the parsed modules among them."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cattlegrid"


class Module(msgspec.Struct, frozen=True):
    """One parsed Python file; `path` is relative to the root of the repository."""

    path: Path
    text: str
    tree: ast.Module

    def where(self, node: ast.AST) -> str:
        """`path:line` of a part of the tree."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is, or would be, committed; relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = {name.decode() for name in listed.stdout.split(b"\0") if name}
    return tuple(sorted(Path(name) for name in names if (ROOT / name).is_file()))


@cache
def text_files() -> tuple[tuple[Path, str], ...]:
    """Every file of the repository that is UTF-8 text, with its text."""
    return tuple(_readable(repository_files()))


def _readable(paths: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of the repository, parsed."""
    return tuple(
        Module(path, text, ast.parse(text, filename=str(path)))
        for path, text in text_files()
        if path.suffix == ".py"
    )


def package_modules() -> tuple[Module, ...]:
    """The Python files that users install."""
    return tuple(module for module in modules() if (ROOT / module.path).is_relative_to(PACKAGE))


def room_of(module: Module) -> str:
    """`journal` for `src/cattlegrid/journal/...`, the module's own name for a file beside the rooms."""
    return (ROOT / module.path).relative_to(PACKAGE).parts[0].removesuffix(".py")
