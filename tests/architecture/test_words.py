"""The words of the code: names hold none of the words that the project refuses, and the rooms explain themselves.

Only names are read, never prose: a docstring may say what something is not.
"""

import ast
import re
from collections.abc import Iterator

import pytest

import cattlegrid
from tests.architecture.source import PACKAGE, Module, package_modules, room_of

REFUSED = {"checkpoint", "checkpoints", "workflow", "workflows", "pipeline", "pipelines"}
ROOMS = (
    "adapters",
    "app",
    "calls",
    "core",
    "evals",
    "guards",
    "journal",
    "release",
    "runtime",
    "server",
    "telemetry",
    "testing",
)
GATES_LIVE_IN = {"release", "evals", "server", "app"}
CHAINS_LIVE_IN = {"guards", "journal", "adapters", "runtime", "app", "testing"}
"""There a chain is the guard chain or the hash chain; elsewhere it would be neither."""


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _names(module: Module) -> Iterator[tuple[str, ast.AST]]:
    for part in module.path.with_suffix("").parts[2:]:
        yield part, module.tree
    for node in ast.walk(module.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case (
                ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                yield name, node
            case _:
                pass


def _refused_in(module: Module, room: str) -> set[str]:
    words = set(REFUSED)
    if room not in GATES_LIVE_IN:
        words |= {"gate", "gates"}
    if room not in CHAINS_LIVE_IN:
        words |= {"chain", "chains"}
    if not re.search(r"^(import|from) ast\b", module.text, re.MULTILINE):
        words |= {"node", "nodes"}
    return words


def refused_names(module: Module, room: str) -> list[str]:
    """Each name of a module with a refused word in it, and where. A WAL checkpoint is SQLite's word, not ours."""
    refused = _refused_in(module, room)
    return [
        f"{module.where(node)} {name}"
        for name, node in _names(module)
        if _words(name) & refused and "wal" not in _words(name)
    ]


@pytest.mark.requirement("skeleton:words")
def test_no_name_holds_a_refused_word() -> None:
    assert [found for module in package_modules() for found in refused_names(module, room_of(module))] == []


@pytest.mark.parametrize(
    ("room", "text", "count"),
    [
        ("runtime", "class RunPipeline: ...\ndef save_checkpoint(): ...\nworkflow = 1", 3),
        ("runtime", "def f(node): ...\nself.node = 1", 2),
        ("runtime", "import ast\ndef f(node): ...", 0),
        ("calls", "def f(chain): ...\ngateway = 1\nclass GateKeeper: ...", 2),
        ("guards", "class GuardChain: ...", 0),
        ("adapters", "def _checkpoint_wal(): ...", 0),
        ("release", "def gate(): ...", 0),
    ],
)
def test_refused_words_are_told_from_allowed_ones(room: str, text: str, count: int) -> None:
    assert len(refused_names(Module(PACKAGE, text, ast.parse(text)), room)) == count


@pytest.mark.requirement("skeleton:rooms")
def test_the_house_has_its_twelve_rooms_and_each_explains_itself() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    for module in package_modules():
        if module.path.name == "__init__.py" and len(module.path.parts) == 4:
            assert len((ast.get_docstring(module.tree) or "").split()) >= 15, module.path


@pytest.mark.requirement("skeleton:surface")
def test_the_public_names_are_as_listed() -> None:
    assert cattlegrid.__all__ == ["Context", "NotExecuted", "tool"]
    assert cattlegrid.__all__ == sorted(cattlegrid.__all__)
    assert [name for name in cattlegrid.__all__ if not getattr(cattlegrid, name).__doc__] == []
