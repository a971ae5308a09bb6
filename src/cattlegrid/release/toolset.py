"""Turns the imported code of an agent into the manifests of its tools, and checks how they refer to each other."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.bundle import Tool
from cattlegrid.core.messages import ToolSpec
from cattlegrid.core.tools import Effect, Retry, ToolDeclaration, declaration_of
from cattlegrid.release.docstrings import Docstring, read_docstring
from cattlegrid.release.findings import Findings
from cattlegrid.release.loader import TOOLS_FILE, Code
from cattlegrid.release.signature import RESULT, NoSignature, Signature, line_of, read_signature
from cattlegrid.release.toolschema import NoSchema, parameters_schema, returns_schema, secret_parameters
from cattlegrid.release.validation import choose

_MAX_DESCRIPTION_CHARS: Final = 1_024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What providers of models accept as the name of a function."""


class DeclaredTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool with what was read on the way to its manifest."""

    tool: Tool
    signature: Signature
    file: str
    line: int | None


def read_tools(code: Code, findings: Findings) -> dict[str, DeclaredTool]:
    """The tools of an agent, by name. A tool with problems is left out, and the problems are noted."""
    found: dict[str, DeclaredTool] = {}
    for name, function in sorted(code.tools.items()):
        declaration = declaration_of(function)
        declared = _read(name, function, declaration, code, findings) if declaration else None
        if declared is not None:
            found[name] = declared
    helpers = helper_names(declared.tool for declared in found.values())
    for declared in found.values():
        _check_helpers(declared, found, set(code.tools), findings)
        _check_alone(declared, helpers, findings)
    return found


def helper_names(tools: Iterable[Tool]) -> frozenset[str]:
    """Tools that undo or reconcile another one."""
    return frozenset(name for tool in tools for name in (tool.undo, tool.reconcile) if name)


def _read(
    name: str, function: Callable[..., object], declaration: ToolDeclaration, code: Code, findings: Findings
) -> DeclaredTool | None:
    file, line = place_of(function, code.folder)
    docstring = read_docstring(function.__doc__)
    before = len(findings.problems)
    if not _NAME.fullmatch(name):
        message = "The name cannot be offered to models"
        findings.wrong(file, line, message, "Use at most 64 letters a-z, digits and `_`", key=name)
    if not docstring.description:
        fix = 'Write what it does and when to use it: """Find an order by its number."""'
        findings.wrong(
            file, line, "The tool has no docstring, so no model can know what it does", fix, key=name
        )
    signature = parameters = returns = None
    try:
        signature = read_signature(function)
    except NoSignature as error:
        for what, fix in error.complaints:
            findings.wrong(file, line, what, fix, key=name)
    if signature is not None:
        parameters = _schema(lambda: parameters_schema(signature, docstring), (file, line, name), findings)
        returns = _schema(lambda: returns_schema(signature), (file, line, name), findings)
    if signature is None or parameters is None or returns is None or len(findings.problems) > before:
        return None
    _check_docstring(docstring, signature, (file, line, name), findings)
    tool = Tool(
        spec=ToolSpec(name=name, description=docstring.description, parameters=parameters),
        returns=returns,
        effect=declaration.effect,
        retry=declaration.retry,
        timeout_s=declaration.timeout_s,
        undo=declaration.undo,
        reconcile=declaration.reconcile,
    )
    return DeclaredTool(tool=tool, signature=signature, file=file, line=line)


def _schema(make: Callable[[], str], place: tuple[str, int | None, str], findings: Findings) -> str | None:
    try:
        return make()
    except NoSchema as error:
        findings.wrong(place[0], place[1], error.message, error.fix, key=place[2])
        return None


def place_of(function: Callable[..., object], folder: Path) -> tuple[str, int | None]:
    """File, from the agent's folder, and line of a function; functions from elsewhere stand in `tools.py`."""
    place = line_of(function)
    if place is None or not place[0].is_relative_to(folder):
        return TOOLS_FILE, None
    return place[0].relative_to(folder).as_posix(), place[1]


def _check_docstring(
    docstring: Docstring, signature: Signature, place: tuple[str, int | None, str], findings: Findings
) -> None:
    file, line, name = place
    for described in docstring.arguments:
        if described not in signature.parameters:
            fix = choose(described, signature.parameters, otherwise="Remove it")
            findings.doubtful(
                file, line, f"`Args:` describes `{described}`, which is no argument", fix, key=name
            )
    if len(docstring.description) > _MAX_DESCRIPTION_CHARS:
        message = f"The description has {len(docstring.description)} characters; some providers refuse more than 1,024"
        findings.doubtful(file, line, message, "Shorten the first paragraph of the docstring", key=name)


def _check_alone(declared: DeclaredTool, helpers: frozenset[str], findings: Findings) -> None:
    """What can be said of one tool by itself."""
    tool, file, line = declared.tool, declared.file, declared.line
    for parameter in secret_parameters(declared.signature):
        message = f"`{parameter}` asks a model to write a secret"
        findings.wrong(file, line, message, "Read it from the environment inside the tool", key=tool.name)
    if RESULT in declared.signature.parameters and tool.name not in helpers:
        message = "The parameter name `result` is kept for tools that undo another one"
        findings.wrong(file, line, message, "Rename the parameter", key=tool.name)
    if not tool.returns:
        message = "The tool declares no result, so a changed result is not noticed"
        findings.doubtful(
            file, line, message, "Annotate what it returns, `-> None` for nothing", key=tool.name
        )
    if tool.effect is Effect.READ:
        return
    if tool.retry is Retry.FREE and tool.name not in helpers:
        message = f"A {tool.effect} with retry `free` may happen twice after a crash"
        findings.doubtful(
            file, line, message, "Keep `free` only if a second call changes nothing", key=tool.name
        )
    if tool.retry is Retry.ONCE and not tool.reconcile:
        message = "After a crash in the middle of a call only a person can tell whether it happened"
        fix = 'Add `reconcile=...`, or honour `ctx.idempotency_key` and declare `retry="keyed"`'
        findings.doubtful(file, line, message, fix, key=tool.name)


def _check_helpers(
    declared: DeclaredTool, found: dict[str, DeclaredTool], known: set[str], findings: Findings
) -> None:
    tool = declared.tool
    for role, name in (("undo", tool.undo), ("reconcile", tool.reconcile)):
        if name is None:
            continue
        place = (declared.file, declared.line)
        if name not in known or name == tool.name:
            message = (
                f"`{role}` names `{name}`, which is {'the tool itself' if name == tool.name else 'no tool'}"
            )
            fix = choose(name, known - {tool.name}, otherwise=f"Declare `{name}` with `@tool`")
            findings.wrong(*place, message, fix, key=tool.name)
        elif name in found:
            _check_call(role, declared, found[name], findings)
    if tool.undo and tool.undo == tool.reconcile:
        findings.wrong(
            declared.file,
            declared.line,
            "One tool cannot both undo and reconcile",
            "Use two tools",
            key=tool.name,
        )
    if tool.reconcile and tool.retry is not Retry.ONCE:
        message = f"`reconcile` is never asked, because retry is `{tool.retry}`"
        findings.doubtful(declared.file, declared.line, message, 'Declare `retry="once"`', key=tool.name)


def _check_call(role: str, declared: DeclaredTool, helper: DeclaredTool, findings: Findings) -> None:
    """Whether a helper can be called with what is known of the call that it is about."""
    given = {name: parameter.type for name, parameter in declared.signature.parameters.items()}
    if role == "undo":
        given[RESULT] = declared.signature.returns
    key, place = helper.tool.name, (helper.file, helper.line)
    for name, parameter in helper.signature.parameters.items():
        if name not in given and parameter.required:
            known = ", ".join(f"`{one}`" for one in given)
            message = f"`{name}` is asked for, but to {role} `{declared.tool.name}` only {known or 'nothing'} is known"
            findings.wrong(*place, message, "Take it from there, or give it a default", key=key)
        elif name in given and given[name] != parameter.type:
            message = f"`{name}` has another type here than in `{declared.tool.name}`"
            findings.doubtful(*place, message, "Use the same type", key=key)
    if role == "reconcile" and helper.tool.effect is not Effect.READ:
        message = f"`{helper.tool.name}` reconciles `{declared.tool.name}`, so it must only read"
        findings.wrong(*place, message, "Declare it with `@tool()`", key=key)
