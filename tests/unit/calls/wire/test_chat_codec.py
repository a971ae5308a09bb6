"""Requests of the OpenAI chat format, and answers that come whole."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.wire.openai_chat import ChatEncoder, UsageBound, decode, encode_message, usage_bound
from cattlegrid.core.errors import ModelError, ModelProtocolError, ModelRejected
from cattlegrid.core.messages import (
    FinishReason,
    Message,
    ModelParams,
    ModelRequest,
    Role,
    ToolCall,
    ToolSpec,
    Usage,
)
from tests.unit.calls.wire.streams import REPORTED, USAGE

TOOL = ToolSpec(
    name="weather", description="The weather.", parameters='{"type":"object","additionalProperties":false}'
)


def encoded(
    request: ModelRequest, *, stream: bool = False, encoder: ChatEncoder | None = None
) -> dict[str, Any]:
    return msgspec.json.decode((encoder or ChatEncoder()).encode(request, stream=stream), type=dict[str, Any])


def request(
    *messages: Message,
    tools: tuple[ToolSpec, ...] = (),
    tools_allowed: bool = True,
    params: ModelParams = ModelParams(),
) -> ModelRequest:
    return ModelRequest(
        provider="openai",
        model="m",
        messages=messages,
        tools=tools,
        tools_allowed=tools_allowed,
        params=params,
    )


def body(message: object, *, finish: str | None = "stop", usage: object = REPORTED) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "r", "model": "m-1", "choices": [choice], "usage": usage}).encode()


def test_a_whole_conversation_is_encoded() -> None:
    call = ToolCall(id="c", name="weather", arguments='{"city":"Paris"}')
    conversation = request(
        Message(role=Role.SYSTEM, text="Be kind."),
        Message(role=Role.USER, text="Wie wird's 🐄?"),
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, text="sunny", tool_call_id="c"),
        Message(role=Role.ASSISTANT, text="Sunny."),
        tools=(TOOL,),
        params=ModelParams(temperature=0.0, max_output_tokens=50, stop=("END",), parallel_tool_calls=True),
    )
    function = {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert encoded(conversation) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Wie wird's 🐄?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "c"},
            {"role": "assistant", "content": "Sunny."},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "The weather.",
                    "parameters": {"type": "object", "additionalProperties": False},
                },
            }
        ],
        "temperature": 0.0,
        "max_completion_tokens": 50,
        "stop": ["END"],
        "parallel_tool_calls": True,
    }


def test_a_stream_asks_for_its_usage() -> None:
    sent = encoded(request(Message(role=Role.USER, text="Hi")), stream=True)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


def test_tools_that_are_not_allowed_are_described_and_forbidden() -> None:
    hi = Message(role=Role.USER, text="Hi")
    assert encoded(request(hi, tools=(TOOL,), tools_allowed=False))["tool_choice"] == "none"
    assert "tool_choice" not in encoded(request(hi, tools=(TOOL,)))
    assert encoded(request(hi, tools_allowed=False)).keys() == {"model", "messages"}


def test_older_servers_get_the_limit_under_its_older_name() -> None:
    asked = request(Message(role=Role.USER, text="Hi"), params=ModelParams(max_output_tokens=5))
    sent = encoded(asked, encoder=ChatEncoder(limit_field="max_tokens"))
    assert sent["max_tokens"] == 5
    assert "max_completion_tokens" not in sent


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ('{"a"', '{"not_an_object":"{\\"a\\""}'),
        ("[1]", '{"not_an_object":"[1]"}'),
    ],
)
def test_arguments_that_are_no_object_do_not_spoil_the_conversation(written: str, sent: str) -> None:
    message = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="c", name="weather", arguments=written),))
    assert json.loads(encode_message(message))["tool_calls"][0]["function"]["arguments"] == sent


@pytest.mark.requirement("model:reasoning")
def test_reasoning_comes_back_as_it_was_and_that_of_other_formats_stays_at_home() -> None:
    details = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 0}]}
    answer = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", **details, "annotations": []}
    message = decode(body(answer)).message
    assert [json.loads(item) for item in message.reasoning] == [{"reasoning_content": "Hm."}, details]
    sent = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", **details}
    assert json.loads(encode_message(message)) == sent
    foreign = ('{"type":"thinking","thinking":"a"}', '{"content":"b"}', "[1]", "{", '{"k":null}')
    other = Message(role=Role.ASSISTANT, text="Hi", reasoning=foreign)
    assert json.loads(encode_message(other)) == {"role": "assistant", "content": "Hi", "k": None}


@pytest.mark.requirement("model:usage", "model:refusal")
def test_a_whole_answer_is_read() -> None:
    response = decode(body({"role": "assistant", "content": "Hi", "refusal": None}))
    assert response.message == Message(role=Role.ASSISTANT, text="Hi")
    assert (response.finish_reason, response.usage, response.model, response.response_id) == (
        FinishReason.STOP,
        USAGE,
        "m-1",
        "r",
    )
    refused = decode(body({"role": "assistant", "content": None, "refusal": "No."}))
    assert (refused.message.refusal, refused.finish_reason) == ("No.", FinishReason.REFUSAL)
    silent = decode(body({"content": "Hi"}, usage=None), UsageBound(input_tokens=9))
    assert silent.usage == Usage(input_tokens=9, output_tokens=18, estimated=True)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"<html>", b'{"choices":[]}', body({"content": "Hi"}, finish=None), body("Hi")],
)
def test_a_body_that_is_no_finished_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(ModelProtocolError):
        decode(data)


@given(st.binary(max_size=300))
def test_no_body_leads_to_anything_but_a_model_error(data: bytes) -> None:
    with pytest.raises(ModelError):
        decode(data)


NAMES = st.text("abc_", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(NAMES, st.integers() | st.text(max_size=5)).map(json.dumps)
TEXTS = st.text(max_size=20)


@given(
    text=TEXTS,
    refusal=TEXTS,
    calls=st.lists(st.tuples(NAMES, NAMES, ARGUMENTS), max_size=4, unique_by=lambda call: call[0]),
    reasoning=st.dictionaries(st.just("reasoning_content"), st.text(min_size=1, max_size=9)),
)
def test_an_answer_that_is_sent_back_is_read_as_the_same_answer(
    text: str, refusal: str, calls: list[tuple[str, str, str]], reasoning: dict[str, str]
) -> None:
    message = Message(
        role=Role.ASSISTANT,
        text=text,
        refusal=refusal,
        tool_calls=tuple(ToolCall(id=id, name=name, arguments=arguments) for id, name, arguments in calls),
        reasoning=tuple(json.dumps({key: value}, separators=(",", ":")) for key, value in reasoning.items()),
    )
    back = decode(body(json.loads(encode_message(message)))).message
    assert [json.loads(item) for item in back.reasoning] == [json.loads(item) for item in message.reasoning]
    assert (back.text, back.refusal, back.tool_calls) == (text, refusal, message.tool_calls)


@given(st.lists(st.tuples(st.sampled_from(list(Role)), TEXTS), max_size=6))
def test_remembered_messages_are_encoded_like_new_ones(spoken: list[tuple[Role, str]]) -> None:
    asked = request(*(Message(role=role, text=text) for role, text in spoken))
    encoder = ChatEncoder(kept_messages=2)
    first = encoder.encode(asked, stream=True)
    assert first == encoder.encode(asked, stream=True) == ChatEncoder().encode(asked, stream=True)
    assert usage_bound(asked, len(first)).input_tokens >= sum(len(text.encode()) for _, text in spoken)


def test_half_a_surrogate_pair_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ModelRejected):
        encoded(request(Message(role=Role.USER, text="\ud83d")))


def test_the_bound_knows_the_limit_and_whether_the_model_thinks_unseen() -> None:
    asked = request(params=ModelParams(max_output_tokens=5, reasoning_effort="low"))
    assert usage_bound(asked, 77) == UsageBound(input_tokens=77, max_output_tokens=5, hidden_output=True)
    assert not usage_bound(request(), 77).hidden_output
