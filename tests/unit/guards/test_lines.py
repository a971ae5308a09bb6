"""`approve` and `deny` lines at the crossing of tool calls: the strict side whenever a line cannot be judged."""

import pytest
from msgspec.structs import replace

from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.calls import ApproveLines, DenyLines
from cattlegrid.guards.chain import GuardChain, GuardContext
from cattlegrid.testing.world import ANA, bundle_of, tool_of

REFUND = tool_of("refund", effect="write", arguments={"amount": "number"})
FIND = tool_of("find", arguments={"order": "integer"})


def context(*, approve: str = "", deny: str = "") -> GuardContext:
    bundle = bundle_of("support", tools=[REFUND, FIND], approve={"refund": approve} if approve else None)
    bundle = replace(bundle, deny={"refund": deny} if deny else {})
    return GuardContext(bundle=bundle, principal=ANA, session_id="ses_1")


def request(arguments: str, tool: str = "refund") -> ToolRequest:
    return ToolRequest(
        bundle="b",
        tool=REFUND if tool == "refund" else FIND,
        arguments=arguments,
        principal=ANA,
        session_id="ses_1",
        run_id="run_1",
        idempotency_key="key",
    )


def decided(
    arguments: str, of: GuardContext, *, tool: str = "refund", approved: bool = False
) -> tuple[Decision, str]:
    judged = GuardChain([DenyLines(), ApproveLines()]).judge(
        Crossing.TOOL_CALL, request(arguments, tool), of, approved=approved
    )
    return judged.decision, judged.reason


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"amount":50}', (Decision.ALLOW, "")),
        ('{"amount":50.01}', (Decision.HOLD, "amount > 50")),
        ('{"amount":500.01}', (Decision.DENY, "amount > 500")),
        ('{"amount":1e400}', (Decision.DENY, "guard_failed")),
    ],
)
def test_a_line_that_is_met_holds_or_denies_with_itself_as_the_reason(
    arguments: str, expected: tuple[Decision, str]
) -> None:
    assert decided(arguments, context(approve="amount > 50", deny="amount > 500")) == expected


@pytest.mark.parametrize(
    "arguments", ['{"amount":"much"}', "{}", '{"amount":null}', '{"amount":true}', '{"amount":[1]}']
)
def test_a_line_that_cannot_be_judged_counts_as_met(arguments: str) -> None:
    assert decided(arguments, context(approve="amount > 50")) == (Decision.HOLD, "amount > 50")
    assert decided(arguments, context(deny="amount > 50")) == (Decision.DENY, "amount > 50")
    assert decided(arguments, context(approve="not (amount > 50)"))[0] is Decision.HOLD


@pytest.mark.parametrize("line", ["amount >", "__import__('os')", ""])
def test_a_line_that_cannot_be_read_denies(line: str) -> None:
    of = context()
    of = replace(of, bundle=replace(of.bundle, approve={"refund": line}))
    assert decided('{"amount":1}', of) == (Decision.DENY, "guard_failed")


def test_lines_are_for_their_own_tool() -> None:
    of = context(approve="always", deny="amount > 500")
    assert decided('{"order":17}', of, tool="find") == (Decision.ALLOW, "")
    assert decided('{"amount":1}', of) == (Decision.HOLD, "always")


def test_an_approval_does_not_lift_a_deny_line() -> None:
    of = context(approve="amount > 50", deny="amount > 500")
    assert decided('{"amount":60}', of, approved=True)[0] is Decision.HOLD
    judged = GuardChain([DenyLines(), ApproveLines()])
    passed = judged.judge(Crossing.TOOL_CALL, request('{"amount":60}'), of, approved=True)
    stopped = judged.judge(Crossing.TOOL_CALL, request('{"amount":600}'), of, approved=True)
    assert (passed.cleared is not None, stopped.cleared is None) == (True, True)


@pytest.mark.parametrize("arguments", ["[]", "nonsense", '"text"', ""])
def test_arguments_that_are_no_object_are_denied(arguments: str) -> None:
    assert decided(arguments, context(approve="amount > 50")) == (Decision.DENY, "guard_failed")


def test_what_is_no_tool_call_is_denied() -> None:
    judged = GuardChain([DenyLines()]).judge(Crossing.TOOL_CALL, "a text", context())
    assert judged.decision is Decision.DENY
