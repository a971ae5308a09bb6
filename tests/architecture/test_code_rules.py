"""Rules of the code that no linter knows: length, docstrings, hidden state, pass-through keywords, imports, one door.

Each rule is a function from a parsed module to its breaches, so that the last test can show each of them at work.
"""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.architecture.source import Module, modules, package_modules, room_of

MAX_LINES = 400
MUTABLE_CALLS = {
    "dict",
    "list",
    "set",
    "defaultdict",
    "deque",
    "Counter",
    "OrderedDict",
    "WeakValueDictionary",
}
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)

Rule = Callable[[Module], Iterator[ast.AST]]


def too_long(module: Module) -> Iterator[ast.AST]:
    if len(module.text.splitlines()) > MAX_LINES:
        yield module.tree


def without_docstring(module: Module) -> Iterator[ast.AST]:
    if module.tree.body and not ast.get_docstring(module.tree):
        yield module.tree


def global_statements(module: Module) -> Iterator[ast.AST]:
    yield from (node for node in ast.walk(module.tree) if isinstance(node, ast.Global))


def keywords_passed_through(module: Module) -> Iterator[ast.AST]:
    """A function that takes `**name` and hands the same `**name` on hides what it accepts."""
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.args.kwarg:
            name = function.args.kwarg.arg
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                for keyword in call.keywords:
                    if (
                        keyword.arg is None
                        and isinstance(keyword.value, ast.Name)
                        and keyword.value.id == name
                    ):
                        yield call


def imports_inside_functions(module: Module) -> Iterator[ast.AST]:
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))


def mutable_module_state(module: Module) -> Iterator[ast.AST]:
    """A lower-case name bound to a mutable value at module level; tables are upper-case and never written to."""
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if any(not name.isupper() and not name.startswith("__") for name in names):
                value = statement.value
                called = ast.unparse(value.func).rsplit(".", 1)[-1] if isinstance(value, ast.Call) else ""
                if isinstance(value, MUTABLE) or called in MUTABLE_CALLS:
                    yield statement


def cleared_constructed(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
            if ast.unparse(function).rsplit(".", 1)[-1] == "Cleared":
                yield node


def genai_attributes(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("gen_ai.")
        ):
            yield node


def breaches(rule: Rule, among: tuple[Module, ...]) -> list[str]:
    return [module.where(node) for module in among for node in rule(module)]


def _outside(room: str) -> tuple[Module, ...]:
    return tuple(module for module in package_modules() if room_of(module) != room)


@pytest.mark.requirement("skeleton:code-rules")
@pytest.mark.parametrize("rule", [too_long, without_docstring, global_statements, keywords_passed_through])
def test_no_file_breaks_a_rule_that_holds_everywhere(rule: Rule) -> None:
    assert breaches(rule, modules()) == []


@pytest.mark.requirement("skeleton:code-rules")
def test_imports_stand_at_the_top_except_for_optional_extras_of_adapters() -> None:
    assert breaches(imports_inside_functions, _outside("adapters")) == []


@pytest.mark.requirement("skeleton:code-rules")
def test_no_module_of_the_package_keeps_state() -> None:
    assert breaches(mutable_module_state, package_modules()) == []


@pytest.mark.requirement("skeleton:one-door")
def test_only_the_guard_chain_makes_cleared_requests() -> None:
    places = [m for m in package_modules() if list(cleared_constructed(m))]
    assert [str(m.path) for m in places] == ["src/cattlegrid/guards/chain.py"]


@pytest.mark.requirement("skeleton:code-rules")
def test_attribute_names_of_the_genai_conventions_occur_in_telemetry_only() -> None:
    assert breaches(genai_attributes, _outside("telemetry")) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (too_long, "x = 1\n" * (MAX_LINES + 1)),
        (without_docstring, "x = 1"),
        (global_statements, "def f():\n    global x\n    x = 1"),
        (keywords_passed_through, "def f(**options):\n    return g(1, **options)"),
        (imports_inside_functions, "async def f():\n    if True:\n        from os import path"),
        (mutable_module_state, "cache: dict[str, int] = {}"),
        (mutable_module_state, "_seen = collections.defaultdict(list)"),
        (cleared_constructed, "core.Cleared[Request](request)"),
        (genai_attributes, "NAME = 'gen_ai.agent.name'"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule: Rule, text: str) -> None:
    assert list(rule(Module(modules()[0].path, text, ast.parse(text))))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (keywords_passed_through, "def f(**fields):\n    return dict(fields)"),
        (mutable_module_state, "TABLE: Final = {'a': 1}\n__all__ = ['a']\nname = 'a'"),
        (cleared_constructed, "def f(request: Cleared[Request]) -> None: ..."),
        (genai_attributes, "'Maps to gen_ai.agent.name.'"),
    ],
)
def test_no_rule_alarms_at_what_is_allowed(rule: Rule, text: str) -> None:
    assert list(rule(Module(modules()[0].path, text, ast.parse(text)))) == []
