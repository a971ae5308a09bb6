"""Judges tool calls by the `approve` and `deny` lines of `agent.yaml`.

A line that cannot be judged with the given arguments (one is absent, or of another kind) counts as met: the strict side.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import ALLOWED, Finding, GuardContext
from cattlegrid.guards.conditions import Undecided, parse

_TOOL_CALL: Final = frozenset({Crossing.TOOL_CALL})


class DenyLines:
    """`deny: {tool: condition}`: such a call never runs."""

    name = "deny_lines"
    version = 1
    crossings = _TOOL_CALL

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        return _by_lines(content, context.bundle.deny, Decision.DENY)


class ApproveLines:
    """`approve: {tool: condition}`: such a call waits for a person."""

    name = "approve_lines"
    version = 1
    crossings = _TOOL_CALL

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        return _by_lines(content, context.bundle.approve, Decision.HOLD)


def _by_lines(content: object, lines: Mapping[str, str], decision: Decision) -> Finding:
    if not isinstance(content, ToolRequest):
        raise TypeError(type(content).__name__)
    line = lines.get(content.tool.name)
    if line is None:
        return ALLOWED
    condition = parse(line)
    try:
        met = condition.met(msgspec.json.decode(content.arguments, type=dict[str, object]))
    except Undecided:
        met = True
    return Finding(decision=decision, reason=condition.text) if met else ALLOWED
