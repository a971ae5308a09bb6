"""Tools are derived from plain functions, and what cannot be one is said with file, line and fix."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cattlegrid.core.bundle import Tool
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.release.docstrings import read_docstring
from tests.unit.release.agents import AGENT, built, examined, said, tools_with

IMPORTS = """
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Callable, Literal
from pydantic import Field
from typing_extensions import NotRequired, TypedDict
"""


def tool_of(root: Path, code: str, name: str = "f") -> Tool:
    return built(root, tools_with(IMPORTS + code)).bundle.tools[name]


def schema(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])


@pytest.mark.requirement("tools:schema")
def test_arguments_come_from_the_signature_and_the_docstring(tmp_path: Path) -> None:
    tool = tool_of(
        tmp_path,
        '''
@tool()
def f(query: str, ctx: Context, limit: Annotated[int, Field(ge=1, le=10)] = 5, kind: Literal["a", "b"] | None = None) -> None:
    """Search the shop's articles
    and products.

    More words for people.

    Args:
        query (str): A few words,
            for example "kettle".
        limit: How many: at most.

    Returns:
        Nothing.
    """
''',
    )
    assert tool.spec.description == "Search the shop's articles and products."
    assert schema(tool.spec.parameters) == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": 'A few words, for example "kettle".'},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 10,
                "description": "How many: at most.",
                "default": 5,
            },
            "kind": {"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["query"],
        "additionalProperties": False,
    }
    assert list(schema(tool.spec.parameters)["properties"]) == ["query", "limit", "kind"]


@pytest.mark.requirement("tools:schema")
def test_results_are_closed_and_complete(tmp_path: Path) -> None:
    tool = tool_of(
        tmp_path,
        '''
class Colour(Enum):
    RED = "red"

@dataclass
class Item:
    name: str
    colour: Colour = Colour.RED

class Page(TypedDict):
    items: list[Item]
    next: NotRequired[str]

@tool()
def f() -> Page:
    """List."""
''',
    )
    returns = schema(tool.returns)
    assert returns["additionalProperties"] is False
    assert returns["required"] == ["items"]
    item = returns["$defs"]["Item"]
    # A field with a default is always written, so its absence is a changed shape.
    assert (item["required"], item["additionalProperties"]) == (["name", "colour"], False)
    assert returns["$defs"]["Colour"]["enum"] == ["red"]


def test_a_function_that_returns_nothing_has_a_schema_of_null(tmp_path: Path) -> None:
    assert schema(tool_of(tmp_path, '@tool()\ndef f() -> None:\n    """Do."""').returns) == {"type": "null"}


def test_effect_retry_time_out_and_helpers_are_in_the_manifest(tmp_path: Path) -> None:
    tools = built(tmp_path).bundle.tools
    refund = tools["refund"]
    assert (refund.effect, refund.retry, refund.undo, refund.offered) == (
        Effect.WRITE,
        Retry.KEYED,
        "take_back",
        True,
    )
    assert [name for name in tools if not tools[name].offered] == ["take_back"]


def test_postponed_annotations_are_resolved(tmp_path: Path) -> None:
    code = 'from __future__ import annotations\nfrom cattlegrid import Context, tool\n@tool()\ndef f(a: int, ctx: Context) -> str:\n    """Do."""\n'
    tool = built(tmp_path, {**tools_with(""), "tools.py": code}).bundle.tools["f"]
    assert list(schema(tool.spec.parameters)["properties"]) == ["a"]


@pytest.mark.requirement("bundle:problems", "input:signature")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('@tool()\ndef f(a) -> None:\n    """Do."""', "f: The parameter `a` has no type"),
        ('@tool()\ndef f(*a: int) -> None:\n    """Do."""', "f: `*a` takes any arguments"),
        ('@tool()\ndef f(**a: int) -> None:\n    """Do."""', "f: `**a` takes any arguments"),
        ('@tool()\ndef f(a: int, /) -> None:\n    """Do."""', "f: `a` can only be given by position"),
        (
            '@tool()\ndef f(a: Context, b: Context) -> None:\n    """Do."""',
            "f: Two parameters are a `Context`",
        ),
        ("@tool()\ndef f(a: int) -> None: ...", "f: The tool has no docstring"),
        (
            '@tool()\ndef f(a: Callable[[], int]) -> None:\n    """Do."""',
            "f: `a`: Its type cannot be described",
        ),
        ('class W: ...\n@tool()\ndef f(a: W) -> None:\n    """Do."""', "f: `a`: `W` cannot be described"),
        ('class W: ...\n@tool()\ndef f() -> W:\n    """Do."""', "f: The result: `W` cannot be described"),
        ('@tool()\ndef f(a: "Nowhere") -> None:\n    """Do."""', "f: An annotation cannot be resolved"),
        (
            '@tool()\ndef f(a: int = None) -> None:\n    """Do."""',
            "f: `a`: its default None is not of its type",
        ),
        ('@tool()\ndef f() -> int:\n    """Do."""\n    yield 1', "f: The function yields"),
        ('@tool()\nclass f:\n    """Do."""', "f: A tool must be a plain function"),
        (
            '@tool()\ndef f(password: str) -> None:\n    """Do."""',
            "f: `password` asks a model to write a secret",
        ),
        ('@tool()\ndef f(shop_api_key: str) -> None:\n    """Do."""', "asks a model to write a secret"),
        ('@tool()\ndef f(result: str) -> None:\n    """Do."""', "f: The parameter name `result` is kept"),
        ('@tool(undo="g")\ndef f() -> None:\n    """Do."""', "f: `undo` names `g`, which is no tool"),
        ('@tool(undo="f")\ndef f() -> None:\n    """Do."""', "f: `undo` names `f`, which is the tool itself"),
        (
            '@tool(undo="g")\ndef f(a: int) -> int:\n    """Do."""\n@tool()\ndef g(b: int) -> None:\n    """Undo."""',
            "g: `b` is asked for, but to undo `f` only `a`, `result` is known",
        ),
        (
            (
                '@tool(effect="write", reconcile="g")\ndef f(a: int) -> int:\n    """Do."""\n'
                '@tool()\ndef g(result: int) -> None:\n    """Ask."""'
            ),
            "g: `result` is asked for, but to reconcile `f` only `a` is known",
        ),
        (
            (
                '@tool(effect="write", reconcile="g")\ndef f() -> int:\n    """Do."""\n'
                '@tool(effect="write")\ndef g() -> None:\n    """Ask."""'
            ),
            "g: `g` reconciles `f`, so it must only read",
        ),
        ('@tool()\ndef größe() -> None:\n    """Do."""', "The name cannot be offered to models"),
        (
            'import typing\nclass T(typing.TypedDict):\n    a: int\n@tool()\ndef f(a: T) -> None:\n    """Do."""',
            "Import TypedDict from `typing_extensions`",
        ),
    ],
)
def test_what_cannot_be_a_tool_is_said_with_its_place(tmp_path: Path, code: str, message: str) -> None:
    if "TypedDict" in message and sys.version_info >= (3, 12):
        assert examined(tmp_path, tools_with(IMPORTS + code)).problems == ()
        return
    found = examined(tmp_path, tools_with(IMPORTS + code))
    assert found.built is None
    (problem,) = found.problems
    assert problem.file == "agents/shop/tools.py"
    assert message in str(problem)
    assert problem.fix
    lines = (tmp_path / problem.file).read_text().splitlines()
    if "class f" not in code:
        assert problem.line is not None
        assert lines[problem.line - 1].startswith("def ")


def test_every_mistake_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    files = tools_with('@tool()\ndef f(a) -> None: ...\n@tool()\ndef g(b) -> None:\n    """Do."""')
    wrong = AGENT.replace("name: shop", "name: 5").replace("default: small", "default: smal")
    files["agent.yaml"] = f"{wrong}\nlimits: {{run_z: 1}}\ndeny: {{g: always, f: b >}}\n"
    files["prompts/system.md"] = None
    assert [
        (p.file.rpartition("/")[2], p.key, p.message[:30]) for p in examined(tmp_path, files).problems
    ] == [
        ("agent.yaml", "name", "`5` is not text"),
        ("agent.yaml", "models.default", "There is no model `smal` in `c"),
        ("agent.yaml", "approve.refund", "There is no tool `refund`"),
        ("agent.yaml", "limits.run_z", "There is no key `run_z` here"),
        ("agent.yaml", "deny.f", "`b >` is not a condition; writ"),
        ("system.md", "", "The system prompt is missing"),
        ("tools.py", "f", "The tool has no docstring, so "),
        ("tools.py", "f", "The parameter `a` has no type"),
        ("tools.py", "g", "The parameter `b` has no type"),
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            '@tool(effect="write", retry="free")\ndef f() -> None:\n    """Do."""',
            "A write with retry `free` may happen twice",
        ),
        (
            '@tool(effect="write")\ndef f() -> None:\n    """Do."""',
            "only a person can tell whether it happened",
        ),
        ('@tool()\ndef f():\n    """Do."""', "The tool declares no result"),
        (
            '@tool()\ndef f(a: int) -> None:\n    """Do.\n\n    Args:\n        b: What.\n    """',
            "describes `b`",
        ),
        (
            (
                '@tool(effect="write", retry="keyed", reconcile="g")\ndef f() -> int:\n    """Do."""\n'
                '@tool()\ndef g() -> int | None:\n    """Ask."""'
            ),
            "`reconcile` is never asked, because retry is `keyed`",
        ),
        (
            '@tool(undo="g")\ndef f(a: int) -> int:\n    """Do."""\n@tool()\ndef g(a: str) -> None:\n    """Undo."""',
            "`a` has another type here than in `f`",
        ),
        (
            '@tool(timeout_s=61)\ndef f() -> None:\n    """Do."""',
            "`f` may take 61 s, but a run ends after 60 s",
        ),
        (f'@tool()\ndef f() -> None:\n    """{"Do " * 500}."""', "some providers refuse more than 1,024"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path, code: str, message: str) -> None:
    found = examined(tmp_path, tools_with(code))
    assert found.built is not None
    assert [message in warning.message for warning in found.warnings] == [True]


def test_a_place_in_a_list_is_no_secret(tmp_path: Path) -> None:
    assert built(tmp_path, tools_with('@tool()\ndef f(page_token: str) -> None:\n    """List."""'))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("tools: [find_ordr]", "tools[0]: There is no tool `find_ordr`. Did you mean `find_order`?"),
        ("tools: [take_back]", "tools[0]: `take_back` undoes another tool and cannot be called by a model"),
        ("deny: {refnd: always}", "deny.refnd: There is no tool `refnd`. Did you mean `refund`?"),
        (
            "deny: {refund: amont > 5}",
            "deny.refund: `refund` has no argument `amont`. Did you mean `amount`?",
        ),
        ("deny: {refund: amount >}", "deny.refund: `amount >` is not a condition"),
        ("outcome: {escalated_by: [hand_over]}", "outcome.escalated_by[0]: There is no tool `hand_over`"),
        ("snapshot: edition", "snapshot: There is no plain function `edition` in `tools.py`"),
        ("snapshot: find_order", "snapshot: There is no plain function `find_order` in `tools.py`"),
        ("snapshot: euros_of", "snapshot: There is no plain function `euros_of` in `tools.py`"),
    ],
)
def test_lines_about_tools_are_checked_against_them(tmp_path: Path, lines: str, message: str) -> None:
    (problem,) = examined(tmp_path, {"agent.yaml": f"{AGENT.strip()}\n{lines}\n"}).problems
    assert problem.line == 7
    assert message in said((problem,))[0]


def test_only_the_chosen_tools_are_offered(tmp_path: Path) -> None:
    bundle = built(tmp_path, {"agent.yaml": f"{AGENT}\ntools: [refund]\n"}).bundle
    assert [spec.name for spec in bundle.offered_tools] == ["refund"]


def test_a_condition_over_an_argument_that_may_be_left_out_is_a_warning(tmp_path: Path) -> None:
    files = tools_with('@tool()\ndef f(a: int = 1) -> None:\n    """Do."""')
    files["agent.yaml"] = f"{files['agent.yaml']}approve: {{f: a > 1}}\n"
    (warning,) = examined(tmp_path, files).warnings
    assert "`a` may be left out" in warning.message


def test_a_snapshot_function_is_called_without_arguments(tmp_path: Path) -> None:
    files = tools_with("def edition(of: str) -> str:\n    return of\n")
    files["agent.yaml"] = f"{files['agent.yaml']}snapshot: edition\n"
    (problem,) = examined(tmp_path, files).problems
    assert "called without arguments" in problem.message


def test_docstrings_without_sections_or_text_are_read() -> None:
    assert read_docstring(None).description == ""
    assert read_docstring("One\ntwo.\n\nThree.").description == "One two."
    found = read_docstring(
        "Do.\n\nArgs:\n    a: One.\n    b (int): Two\n        more.\n\n    c: Three.\n\nMore:\n  d: x"
    )
    assert found.arguments == {"a": "One.", "b": "Two more.", "c": "Three."}
