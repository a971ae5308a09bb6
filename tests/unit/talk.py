"""The plainest of loops: a customer talks with the scripted model over real tools, without server or runtime."""

import inspect
import logging
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import yaml

from cattlegrid import Context, NotExecuted
from cattlegrid.core.principal import Principal
from cattlegrid.core.tools import declaration_of
from cattlegrid.testing.scripted.conversation import Call, parse
from cattlegrid.testing.scripted.personas import respond

MAX_TURNS = 10


def golden_cases(file: Path) -> list[dict[str, Any]]:
    """The cases of a `golden.yaml`."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))["cases"]


class Talk:
    """A customer's conversation with the scripted model, carried on by the plainest of loops."""

    def __init__(self, tools: ModuleType, *, user: str, hidden: Collection[str] = ()) -> None:
        self.user = user
        self.tools = {
            name: tool for name, tool in vars(tools).items() if declaration_of(tool) and name not in hidden
        }
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a shop."}]
        self.calls: list[Call] = []
        self.waves: list[int] = []
        self.answers: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})
        for _ in range(MAX_TURNS):
            offered = [{"type": "function", "function": {"name": name}} for name in self.tools]
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
        function = self.tools[call.name]
        own = {"ctx": context} if "ctx" in inspect.signature(function).parameters else {}
        try:
            return msgspec.json.encode(function(**call.arguments, **own)).decode()
        except NotExecuted as refusal:
            return refusal.message


def judge(case: dict[str, Any], talk: Talk) -> None:
    """Let the case's customer talk, and assert what the case expects of calls and answers."""
    said = case["input"]
    for message in [said] if isinstance(said, str) else said:
        talk.say(message)
    for expected in case.get("calls", []):
        (wanted,) = expected.items()
        assert any(_includes(call, *wanted) for call in talk.calls), (expected, talk.calls)
    assert not {call.name for call in talk.calls} & set(case.get("never", []))
    for fact in case["facts"]:
        assert fact.lower() in talk.answers[-1].lower(), talk.answers
    for words in case.get("not_said", []):
        assert words.lower() not in " ".join(talk.answers).lower(), talk.answers


def _includes(call: Call, name: str, arguments: dict[str, Any]) -> bool:
    return call.name == name and arguments.items() <= call.arguments.items()
