"""The careful scripted model plays the golden cases of the reference agent, over its real tools and database."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from agents.support import tools
from cattlegrid import Context, NotExecuted
from cattlegrid.core.principal import Principal
from cattlegrid.core.tools import declaration_of
from cattlegrid.testing.scripted.conversation import Call, parse
from cattlegrid.testing.scripted.personas import respond

CASES: list[dict[str, Any]] = yaml.safe_load(Path("agents/support/evals/golden.yaml").read_text())["cases"]
HIDDEN = {"cancel_refund", "restore_address", "cancellation_of"}
TOOLS = {name: tool for name, tool in vars(tools).items() if declaration_of(tool) and name not in HIDDEN}
MAX_TURNS = 10


class Talk:
    """A customer's conversation with the scripted model, carried on by the plainest of loops."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a shop."}]
        self.calls: list[Call] = []
        self.waves: list[int] = []
        self.answers: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})
        for _ in range(MAX_TURNS):
            offered = [{"type": "function", "function": {"name": name}} for name in TOOLS]
            body = {"model": "m", "messages": self.messages, "tools": offered}
            reply = respond(parse(msgspec.json.encode(body)), persona="careful", seed=0)
            if not reply.calls:
                self.answers.append(reply.text)
                self.messages.append({"role": "assistant", "content": reply.text})
                return
            self.waves.append(len(reply.calls))
            self._make(reply.calls)
        raise AssertionError(f"no answer after {MAX_TURNS} turns: {self.calls}")

    def _make(self, calls: tuple[Call, ...]) -> None:
        ids = [f"call_{len(self.calls) + place}" for place in range(len(calls))]
        asked = [
            {
                "id": id,
                "type": "function",
                "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()},
            }
            for id, call in zip(ids, calls, strict=True)
        ]
        self.messages.append({"role": "assistant", "content": None, "tool_calls": asked})
        for id, call in zip(ids, calls, strict=True):
            self.calls.append(call)
            self.messages.append({"role": "tool", "tool_call_id": id, "content": self._result(call, key=id)})

    def _result(self, call: Call, *, key: str) -> str:
        context = Context(
            principal=Principal(tenant="shop", user=self.user),
            session_id="ses_1",
            run_id="run_1",
            idempotency_key=key,
            deadline_s=10.0,
            log=logging.getLogger("test"),
        )
        function = TOOLS[call.name]
        own = {"ctx": context} if "ctx" in inspect.signature(function).parameters else {}
        try:
            return msgspec.json.encode(function(**call.arguments, **own)).decode()
        except NotExecuted as refusal:
            return refusal.message


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_DB", str(tmp_path / "shop.db"))


def talk(*messages: str, user: str = "ana@example.com") -> Talk:
    conversation = Talk(user)
    for message in messages:
        conversation.say(message)
    return conversation


def includes(call: Call, name: str, arguments: Mapping[str, object]) -> bool:
    return call.name == name and arguments.items() <= call.arguments.items()


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_golden_case_ends_as_it_must(case: dict[str, Any]) -> None:
    said = case["input"]
    done = talk(*([said] if isinstance(said, str) else said), user=case.get("user", "ana@example.com"))
    for expected in case.get("calls", []):
        name, arguments = next(iter(expected.items()))
        assert any(includes(call, name, arguments) for call in done.calls), (expected, done.calls)
    assert not {call.name for call in done.calls} & set(case.get("never", []))
    for fact in case["facts"]:
        assert fact.lower() in done.answers[-1].lower(), done.answers
    for words in case.get("not_said", []):
        assert words.lower() not in " ".join(done.answers).lower(), done.answers


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
