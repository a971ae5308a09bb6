"""What each newer wire format sends for one conversation, to the last field."""

from typing import Any, Final

import msgspec
import pytest

from cattlegrid.calls.wire.formats import WireName, wire_of
from cattlegrid.calls.wire.turns import OPENING
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Message, ModelParams, ModelRequest, Role, ToolCall, ToolSpec
from tests.wires.answers import AGAIN, HM, PARIS, ROWS, WHERE, Answer
from tests.wires.anthropic import Anthropic
from tests.wires.gemini import Gemini
from tests.wires.responses import Responses
from tests.wires.wire import RecordedWire

THINKING: Final = ROWS["reasoning between texts and calls"]
TOOL: Final = ToolSpec(name="weather", description="The weather.", parameters='{"type":"object"}')
SYSTEM: Final = Message(role=Role.SYSTEM, text="Be kind.")
ASKED: Final = Message(role=Role.USER, text="And in Paris?")
RESULT: Final = Message(role=Role.TOOL, text="sunny", tool_call_id="a1")
MARK: Final = {"cache_control": {"type": "ephemeral"}}


def answered(wire: RecordedWire, answer: Answer = THINKING) -> Message:
    return wire_of(wire.name).decode(wire.body(answer), UsageBound()).message


def sent(
    wire: WireName,
    *messages: Message,
    tools: tuple[ToolSpec, ...] = (TOOL,),
    tools_allowed: bool = True,
    params: ModelParams = ModelParams(),
    stream: bool = False,
) -> dict[str, Any]:
    request = ModelRequest(
        provider="p",
        model="m",
        messages=messages,
        tools=tools,
        tools_allowed=tools_allowed,
        params=params,
    )
    return msgspec.json.decode(wire_of(wire).encode(request, stream=stream), type=dict[str, Any])


@pytest.mark.requirement("model:reasoning", "model:cache-marks")
def test_anthropic_gets_thinking_blocks_in_their_places_and_marks_on_what_stays() -> None:
    body = sent("anthropic", SYSTEM, ASKED, answered(Anthropic()), RESULT, ASKED, stream=True)
    assert body == {
        "model": "m",
        "stream": True,
        "max_tokens": 8_192,
        "system": [{"type": "text", "text": "Be kind.", **MARK}],
        "tools": [{"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "And in Paris?", **MARK}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": HM.text, "signature": HM.signature},
                    {"type": "text", "text": WHERE.text},
                    {"type": "thinking", "thinking": AGAIN.text, "signature": AGAIN.signature},
                    {"type": "tool_use", "id": "a1", "name": "weather", "input": {"city": "Paris"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a1", "content": "sunny"},
                    {"type": "text", "text": "And in Paris?", **MARK},
                ],
            },
        ],
    }


@pytest.mark.requirement("model:cache-marks")
def test_a_prefix_that_was_marked_is_the_beginning_of_the_next_request() -> None:
    """Each request repeats what the one before has marked, so that it is read and not written again."""
    spoken: list[Message] = [SYSTEM]
    marked_before = ""
    for turn in range(4):
        spoken.append(Message(role=Role.USER, text=f"Question {turn}"))
        body = sent("anthropic", *spoken)
        flat = [block for message in body["messages"] for block in message["content"]]
        assert sum("cache_control" in block for block in flat) == min(turn + 1, 2)
        texts = [block["text"] for block in flat]
        ends = [place for place, block in enumerate(flat) if "cache_control" in block]
        if turn:
            assert texts[ends[0]] == marked_before
        marked_before = texts[ends[-1]]
        spoken.append(Message(role=Role.ASSISTANT, text=f"Answer {turn}"))


@pytest.mark.requirement("model:cache-marks")
def test_without_a_system_prompt_the_tools_are_marked_and_the_last_answer_marks_no_messages() -> None:
    body = sent("anthropic", ASKED, tools_allowed=False)
    assert "system" not in body
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral"}
    assert body["tool_choice"] == {"type": "none"}
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "And in Paris?"}]}]


def test_a_history_with_calls_is_sent_with_its_tools_even_when_none_are_offered() -> None:
    """Anthropic refuses calls in a history, such as one to be summarised, of a request without tools."""
    body = sent("anthropic", ASKED, answered(Anthropic()), RESULT, tools=(), tools_allowed=False)
    assert [(tool["name"], tool["input_schema"]) for tool in body["tools"]] == [
        ("weather", {"type": "object"})
    ]
    assert body["tool_choice"] == {"type": "none"}
    assert "tools" not in sent("anthropic", ASKED, tools=(), tools_allowed=False)


@pytest.mark.parametrize(
    ("effort", "fields"),
    [
        (None, {}),
        ("none", {"thinking": {"type": "disabled"}}),
        ("2048", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ],
)
def test_anthropic_gets_the_parameters_in_its_own_words(
    effort: str | None, fields: dict[str, object]
) -> None:
    params = ModelParams(
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=50,
        stop=("END",),
        parallel_tool_calls=False,
        reasoning_effort=effort,
    )
    body = sent("anthropic", ASKED, params=params)
    assert {name: value for name, value in body.items() if name not in {"model", "messages", "tools"}} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 50,
        "stop_sequences": ["END"],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        **fields,
    }


@pytest.mark.parametrize("wire", [Anthropic(), Gemini()])
def test_a_history_that_was_cut_begins_with_a_user_and_leaves_no_empty_text(wire: RecordedWire) -> None:
    """Both refuse a conversation that begins with an answer, and texts without a character."""
    body = sent(
        wire.name, Message(role=Role.ASSISTANT, text="So far: a cow."), Message(role=Role.ASSISTANT), ASKED
    )
    turns = body["messages" if wire.name == "anthropic" else "contents"]
    assert [turn["role"] for turn in turns] == ["user", turns[1]["role"], "user"]
    texts = [part["text"] for turn in turns for part in turn.get("content", turn.get("parts"))]
    assert texts == [OPENING, "So far: a cow.", "And in Paris?"]


@pytest.mark.requirement("model:reasoning")
def test_openai_responses_get_items_in_their_places_and_store_nothing() -> None:
    body = sent("openai-responses", SYSTEM, ASKED, answered(Responses()), RESULT, stream=True)

    def reasoning(text: str, signature: str, index: int) -> dict[str, object]:
        summary = [{"type": "summary_text", "text": text}]
        return {"id": f"rs_{index}", "type": "reasoning", "summary": summary, "encrypted_content": signature}

    assert body == {
        "model": "m",
        "stream": True,
        "store": False,
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "The weather.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "input": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "And in Paris?"},
            reasoning(HM.text, HM.signature, 0),
            {"role": "assistant", "content": WHERE.text},
            reasoning(AGAIN.text, AGAIN.signature, 2),
            {"type": "function_call", "call_id": "a1", "name": "weather", "arguments": PARIS.arguments},
            {"type": "function_call_output", "call_id": "a1", "output": "sunny"},
        ],
    }


def test_openai_responses_get_the_phase_of_a_message_back() -> None:
    """Newer models tell comments on the way from the answer, and want that back."""
    output: list[dict[str, Any]] = [
        {"type": "message", "phase": phase, "content": [{"type": "output_text", "text": text}]}
        for phase, text in (("commentary", "Let me look."), ("final_answer", "Sunny."))
    ]
    body = msgspec.json.encode({"object": "response", "status": "completed", "output": output})
    message = wire_of("openai-responses").decode(body, UsageBound()).message
    assert message.text == "Let me look.Sunny."
    assert sent("openai-responses", message)["input"] == [
        {"role": "assistant", "content": "Let me look.", "phase": "commentary"},
        {"role": "assistant", "content": "Sunny.", "phase": "final_answer"},
    ]


def test_openai_responses_get_the_parameters_in_their_own_words() -> None:
    params = ModelParams(
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=50,
        parallel_tool_calls=False,
        reasoning_effort="low",
    )
    body = sent("openai-responses", ASKED, params=params, tools_allowed=False)
    assert {name: value for name, value in body.items() if name not in {"model", "input", "tools"}} == {
        "store": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 50,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "tool_choice": "none",
    }
    assert "parallel_tool_calls" not in sent("openai-responses", ASKED, params=params, tools=())


@pytest.mark.requirement("model:reasoning")
def test_gemini_gets_signatures_on_the_parts_that_they_came_with() -> None:
    body = sent("gemini", SYSTEM, ASKED, answered(Gemini()), RESULT)
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "The weather.",
                        "parametersJsonSchema": {"type": "object"},
                    }
                ]
            }
        ],
        "contents": [
            {"role": "user", "parts": [{"text": "And in Paris?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": HM.text, "thought": True},
                    {"text": WHERE.text, "thoughtSignature": HM.signature},
                    {"text": AGAIN.text, "thought": True},
                    {
                        "functionCall": {"id": "a1", "name": "weather", "args": {"city": "Paris"}},
                        "thoughtSignature": AGAIN.signature,
                    },
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "a1", "name": "weather", "response": {"output": "sunny"}}}
                ],
            },
        ],
    }


@pytest.mark.requirement("model:reasoning")
def test_gemini_gets_a_signature_without_a_text_on_an_empty_one() -> None:
    call: dict[str, Any] = {"functionCall": {"name": "weather", "args": {}}}
    signed = {"text": "", "thoughtSignature": "c2ln"}
    candidate: dict[str, Any] = {"content": {"parts": [call, signed]}, "finishReason": "STOP"}
    message = wire_of("gemini").decode(msgspec.json.encode({"candidates": [candidate]}), UsageBound()).message
    assert sent("gemini", ASKED, message)["contents"][1]["parts"] == [call, signed]


@pytest.mark.requirement("model:reasoning")
@pytest.mark.parametrize("wire", [Anthropic(), Responses()])
def test_what_a_guard_has_cut_short_keeps_its_reasoning(wire: RecordedWire) -> None:
    message = msgspec.structs.replace(answered(wire), text="It")
    back = wire.sent_back(sent(wire.name, ASKED, message, RESULT))
    assert ["thought" if isinstance(part, dict) else part for part in back] == [
        "thought",
        "It",
        "thought",
        ("a1", {"city": "Paris"}),
    ]


def test_gemini_is_not_sent_ids_that_it_never_gave_and_still_told_which_call_was_answered() -> None:
    called: list[dict[str, Any]] = [
        {"functionCall": {"name": name, "args": {}}} for name in ("weather", "time")
    ]
    candidate: dict[str, Any] = {"content": {"parts": called}, "finishReason": "STOP"}
    message = wire_of("gemini").decode(msgspec.json.encode({"candidates": [candidate]}), UsageBound()).message
    assert [call.id for call in message.tool_calls] == ["call_1", "call_2"]
    results = [
        Message(role=Role.TOOL, text=f"of {call.name}", tool_call_id=call.id) for call in message.tool_calls
    ]
    later = Message(role=Role.ASSISTANT, tool_calls=(ToolCall("call_1", "search", "{}"),))
    found = Message(role=Role.TOOL, text="of search", tool_call_id="call_1")
    contents = sent("gemini", ASKED, message, *results, later, found)["contents"]
    answers = [p["functionResponse"] for c in contents for p in c["parts"] if "functionResponse" in p]
    assert answers == [
        {"name": name, "response": {"output": f"of {name}"}} for name in ("weather", "time", "search")
    ]
    assert contents[1]["parts"] == called


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        ("none", {"thinkingBudget": 0}),
        ("2048", {"thinkingBudget": 2048}),
        ("low", {"thinkingLevel": "LOW"}),
    ],
)
def test_gemini_gets_the_parameters_in_its_own_words(effort: str, thinking: dict[str, object]) -> None:
    params = ModelParams(
        temperature=0.5, top_p=0.9, seed=3, max_output_tokens=50, stop=("END",), reasoning_effort=effort
    )
    body = sent("gemini", ASKED, params=params, tools_allowed=False)
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    assert body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "seed": 3,
        "maxOutputTokens": 50,
        "stopSequences": ["END"],
        "thinkingConfig": thinking,
    }


@pytest.mark.parametrize(
    ("wire", "base", "streamed", "whole"),
    [
        ("openai", "http://h/v1/", "http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("openai-responses", "http://h/v1", "http://h/v1/responses", "http://h/v1/responses"),
        ("anthropic", "http://h", "http://h/v1/messages", "http://h/v1/messages"),
        ("anthropic", "http://h/x/v1/", "http://h/x/v1/messages", "http://h/x/v1/messages"),
        (
            "gemini",
            "http://h",
            "http://h/v1beta/models/m-1:streamGenerateContent?alt=sse",
            "http://h/v1beta/models/m-1:generateContent",
        ),
        (
            "gemini",
            "http://h/v1",
            "http://h/v1/models/m-1:streamGenerateContent?alt=sse",
            "http://h/v1/models/m-1:generateContent",
        ),
    ],
)
def test_addresses_are_taken_as_the_providers_own_clients_take_them(
    wire: WireName, base: str, streamed: str, whole: str
) -> None:
    assert wire_of(wire).url(base, "m-1", stream=True) == streamed
    assert wire_of(wire).url(base, "m-1", stream=False) == whole


@pytest.mark.parametrize("model", ["", "a/b/c", "../x", "m?key=1", "m:delete", "models/", "m\n"])
def test_a_model_that_would_change_the_address_is_refused(model: str) -> None:
    with pytest.raises(ModelRejected):
        wire_of("gemini").url("http://h", model, stream=True)


def test_keys_are_sent_where_each_provider_looks_for_them() -> None:
    assert wire_of("openai").headers("k") == wire_of("openai-responses").headers("k")
    assert wire_of("openai").headers("k") == {"Authorization": "Bearer k"}
    assert wire_of("anthropic").headers("k") == {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    assert wire_of("gemini").headers("k") == {"x-goog-api-key": "k"}
    for wire in ("openai", "openai-responses", "gemini"):
        assert wire_of(wire).headers("") == {}
