"""The scripted model's wire format, read by the codec that reads real services'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.wire.openai_chat import ChatEncoder, StreamDecoder, decode
from cattlegrid.core.errors import ModelProtocolError
from cattlegrid.core.messages import (
    FinishReason,
    Message,
    ModelRequest,
    ModelResponse,
    Role,
    ToolCall,
    ToolSpec,
)
from cattlegrid.testing.scripted import wire
from cattlegrid.testing.scripted.conversation import Call, Line, json_object, parse
from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.usage import Usage

NAMES = st.text("abcdefgh_", min_size=1, max_size=12)
VALUES = st.none() | st.integers(-1000, 1000) | st.text(max_size=30)
CALLS = st.builds(Call, NAMES, st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
REPLIES = st.builds(Reply, st.text(min_size=1, max_size=80), st.lists(CALLS, max_size=4).map(tuple))


def envelope(reply: Reply) -> wire.Envelope:
    reason = "tool_calls" if reply.calls else "stop"
    return wire.Envelope(id="abc", model="m", finish_reason=reason, usage=Usage(30, 7, 12))


def streamed(content: bytes, size: int) -> ModelResponse:
    decoder = StreamDecoder()
    for start in range(0, len(content), size):
        decoder.feed(content[start : start + size])
    return decoder.finish()


@given(reply=REPLIES, size=st.integers(1, 200))
def test_a_stream_and_a_document_are_read_as_the_same_answer(reply: Reply, size: int) -> None:
    whole = decode(wire.document(reply, envelope(reply)))
    chunks = wire.chunks(reply, envelope(reply), include_usage=True)
    assert streamed(b"".join((*chunks, wire.DONE)), size) == whole
    assert whole.message.text == reply.text
    asked = [Call(call.name, json_object(call.arguments)) for call in whole.message.tool_calls]
    assert asked == list(reply.calls)
    usage = whole.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (30, 7, 12)


@given(reply=REPLIES, keep=st.integers(0, 3))
def test_a_cut_stream_is_never_read_as_an_answer(reply: Reply, keep: int) -> None:
    chunks = wire.chunks(reply, envelope(reply), include_usage=True)
    cut = chunks[: min(keep, len(chunks) - 2)]
    with pytest.raises(ModelProtocolError):
        streamed(b"".join(cut), 64)


def test_a_request_of_the_codec_is_understood() -> None:
    call = ToolCall("c1", "find_order", '{"order": 17}')
    request = ModelRequest(
        provider="openai",
        model="gpt-4.1-mini",
        messages=(
            Message(Role.SYSTEM, "You are a shop."),
            Message(Role.USER, "Hi"),
            Message(Role.ASSISTANT, "Hello!"),
            Message(Role.USER, "Where is order 17?"),
            Message(Role.ASSISTANT, tool_calls=(call,)),
            Message(Role.TOOL, '{"status":"delivered"}', tool_call_id="c1"),
        ),
        tools=(ToolSpec("find_order", "Look up an order.", '{"type":"object"}'),),
        tools_allowed=False,
    )
    read = parse(ChatEncoder().encode(request, stream=True))
    assert (read.user, read.before) == (
        "Where is order 17?",
        (Line("user", "Hi"), Line("assistant", "Hello!")),
    )
    assert [(done.call, done.result) for done in read.done] == [
        (Call("find_order", {"order": 17}), '{"status":"delivered"}')
    ]
    assert (list(read.tools), read.may_call, read.stream, read.include_usage) == (
        ["find_order"],
        False,
        True,
        True,
    )


def test_an_answer_that_hit_the_limit_says_so() -> None:
    cut = wire.Envelope(id="abc", model="m", finish_reason="length", usage=Usage(1, 1, 0))
    assert decode(wire.document(Reply(text="half"), cut)).finish_reason is FinishReason.LENGTH
