"""The careful scripted model plays the golden cases of the reference agent, over its real tools and database."""

from pathlib import Path
from typing import Any

import pytest

from agents.support import tools
from tests.unit.talk import Talk, golden_cases, judge

CASES = golden_cases(Path("agents/support/evals/golden.yaml"))
HIDDEN = ("cancel_refund", "restore_address", "cancellation_of")


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_DB", str(tmp_path / "shop.db"))


def talk(*messages: str, user: str = "ana@example.com") -> Talk:
    conversation = Talk(tools, user=user, hidden=HIDDEN)
    for message in messages:
        conversation.say(message)
    return conversation


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_golden_case_ends_as_it_must(case: dict[str, Any]) -> None:
    judge(case, Talk(tools, user=case.get("user", "ana@example.com"), hidden=HIDDEN))


def test_the_golden_cases_are_about_thirty_and_have_ids_of_their_own() -> None:
    assert 28 <= len(CASES) <= 35
    assert len({case["id"] for case in CASES}) == len(CASES)


def test_several_questions_are_looked_up_in_one_turn() -> None:
    done = talk("Where is order 12? Do you sell a toaster and what is your warranty?")
    assert done.waves == [3]


def test_a_refund_is_work_of_several_turns() -> None:
    done = talk("Order 17 came broken, I want my 79.90 back")
    assert [call.name for call in done.calls] == ["find_order", "return_eligibility", "refund"]
    assert done.calls[-1].arguments == {"order": 17, "amount": 79.9, "reason": "arrived broken"}
    assert done.answers == ["I have refunded 79.90 euros for order 17."]
