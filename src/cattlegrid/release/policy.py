"""Checks the lines of `agent.yaml` that speak of tools: offered tools, conditions, outcome, and the `snapshot` function."""

import inspect
from collections.abc import Mapping

import msgspec

from cattlegrid.core.bundle import Tool
from cattlegrid.guards.conditions import names, parse
from cattlegrid.release.files import AGENT_FILE, AgentFile
from cattlegrid.release.findings import Findings
from cattlegrid.release.loader import Code
from cattlegrid.release.signature import RESULT
from cattlegrid.release.toolset import DeclaredTool, helper_names, place_of
from cattlegrid.release.validation import choose
from cattlegrid.release.yaml_lines import Document, KeyPath, dotted


class PolicyCheck:
    """One agent's lines against its tools."""

    def __init__(
        self, agent: AgentFile, document: Document, tools: Mapping[str, DeclaredTool], findings: Findings
    ) -> None:
        self._agent = agent
        self._document = document
        self._tools = tools
        self._findings = findings

    def check(self, code: Code) -> None:
        """Note everything that is wrong. Tools of `code` that could not be read are known, but not looked into."""
        known = frozenset(code.tools)
        for place, name in enumerate(self._agent.tools or ()):
            if self._exists(name, known, ("tools", place)) and name in self._tools:
                self._check_offered(name, ("tools", place))
        for place, name in enumerate(self._agent.outcome.escalated_by):
            self._exists(name, known, ("outcome", "escalated_by", place))
        for line in ("approve", "deny"):
            conditions: dict[str, str] = getattr(self._agent, line)
            for name, text in conditions.items():
                self._check_condition(text, (line, name), self._exists(name, known, (line, name)))
        if self._agent.snapshot is not None:
            self._check_snapshot(self._agent.snapshot, code)

    def offered(self) -> dict[str, Tool]:
        """The manifests, each of which says whether the model is told of it."""
        manifests = {name: declared.tool for name, declared in self._tools.items()}
        helpers = helper_names(manifests.values())
        chosen = self._agent.tools
        return {
            name: msgspec.structs.replace(
                tool, offered=name in chosen if chosen is not None else name not in helpers
            )
            for name, tool in manifests.items()
        }

    def _exists(self, name: str, known: frozenset[str], path: KeyPath) -> bool:
        if name not in known:
            fix = choose(name, known, otherwise="Declare it in `tools.py` with `@tool()`")
            self._wrong(path, f"There is no tool `{name}`", fix)
        return name in known

    def _check_offered(self, name: str, path: KeyPath) -> None:
        if RESULT in self._tools[name].signature.parameters:
            self._wrong(
                path, f"`{name}` undoes another tool and cannot be called by a model", "Remove it here"
            )

    def _check_condition(self, text: str, path: KeyPath, tool_exists: bool) -> None:  # noqa: FBT001
        try:
            condition = parse(text)
        except ValueError as error:
            self._wrong(path, str(error).rstrip("."), "Write `always`, or compare arguments: `amount > 50`")
            return
        tool = self._tools.get(str(path[1])) if tool_exists else None
        if tool is None:
            return
        parameters = tool.signature.parameters
        for name in sorted(names(condition) - set(parameters)):
            fix = choose(name, parameters, otherwise="Write `always`: the tool has no arguments")
            self._wrong(path, f"`{path[1]}` has no argument `{name}`", fix)
        for name in sorted(names(condition) & set(parameters)):
            if not parameters[name].required:
                message = f"`{name}` may be left out; then nobody can judge the condition, and the strict side is taken"
                line = self._document.line_of(path)
                fix = "Make the argument required, if that is not meant"
                self._findings.doubtful(AGENT_FILE, line, message, fix, key=dotted(path))

    def _check_snapshot(self, name: str, code: Code) -> None:
        function = code.plain_function(name)
        if function is None:
            fix = f"Write `def {name}() -> str:` there, without `@tool`"
            self._wrong(("snapshot",), f"There is no plain function `{name}` in `tools.py`", fix)
            return
        required = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        ]
        if inspect.iscoroutinefunction(function) or required:
            file, line = place_of(function, code.folder)
            message = f"`{name}` is the snapshot function, which is called without arguments and not awaited"
            self._findings.wrong(file, line, message, f"Write `def {name}() -> str:`", key="snapshot")

    def _wrong(self, path: KeyPath, message: str, fix: str) -> None:
        self._findings.wrong(AGENT_FILE, self._document.line_of(path), message, fix, key=dotted(path))
