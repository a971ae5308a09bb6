"""Requirements and tests, held to each other in both directions by reading the tests' markers, without running them."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from tests.architecture.source import Module, modules
from tests.requirements import PENDING, REQUIREMENTS

KNOWN = {requirement.id for requirement in REQUIREMENTS}


def _marks(module: Module) -> Iterator[tuple[str, str]]:
    """Each `requirement(...)` marker of a module: the id and where it stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.requirement"):
            for argument in node.args:
                text = argument.value if isinstance(argument, ast.Constant) else None
                yield text if isinstance(text, str) else ast.unparse(argument), module.where(node)


@cache
def _shown() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module in modules():
        if module.path.parts[0] == "tests":
            for requirement, place in _marks(module):
                found.setdefault(requirement, []).append(place)
    return found


def test_every_requirement_is_shown_by_a_test() -> None:
    assert sorted(KNOWN - set(_shown()) - PENDING) == []


def test_every_marker_names_a_known_requirement() -> None:
    assert {name: places for name, places in _shown().items() if name not in KNOWN} == {}


def test_what_a_test_shows_is_no_longer_pending() -> None:
    assert sorted(PENDING & set(_shown())) == [], "remove these from PENDING in tests/requirements.py"


def test_requirements_are_named_once_and_said_in_a_sentence() -> None:
    counts = Counter(requirement.id for requirement in REQUIREMENTS)
    assert [name for name, count in counts.items() if count > 1] == []
    assert [r.id for r in REQUIREMENTS if not r.text.endswith(".") or r.id.count(":") != 1] == []
    assert sorted(PENDING - KNOWN) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('@pytest.mark.requirement("a:b")\ndef test_x(): ...', ["a:b"]),
        ('pytestmark = [pytest.mark.anyio, pytest.mark.requirement("a:b", "c:d")]', ["a:b", "c:d"]),
        ('TestX = pytest.mark.requirement("a:b")(Machine.TestCase)', ["a:b"]),
        ("@pytest.mark.requirement(name)\ndef test_x(): ...", ["name"]),
        ('@pytest.mark.other("a:b")\ndef test_x(): ...', []),
    ],
)
def test_markers_are_found_wherever_they_are_written(text: str, found: list[str]) -> None:
    path = modules()[0].path
    assert [name for name, _ in _marks(Module(path, text, ast.parse(text)))] == found
