"""Streams of chat completions written by hand after what servers send, and what each of them comes to."""

import json
from typing import Any, Final

import msgspec

from cattlegrid.core.messages import FinishReason, ToolCall, Usage

REPORTED: Final = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
USAGE: Final = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=64, reasoning_tokens=5)


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a stream, and the parts of the answer that it comes to."""

    data: bytes
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    reasoning: tuple[object, ...] = ()
    reason: FinishReason = FinishReason.STOP
    usage: Usage | None = USAGE
    """None for an estimate."""


def event(value: object, *, end: str = "\n") -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}{end}{end}".encode()


def chunk(delta: dict[str, Any], *, finish: str | None = None, **fields: object) -> dict[str, Any]:
    """One chunk with one choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m-1",
        "choices": [choice],
        **fields,
    }


def stream(*deltas: dict[str, Any], finish: str | None = "stop", usage: object = REPORTED) -> bytes:
    """A tidy stream: the role, the deltas, the finish reason, usage in a chunk of its own, the end."""
    chunks = [chunk({"role": "assistant", "content": "", "refusal": None}), *(chunk(d) for d in deltas)]
    chunks.append(chunk({}, finish=finish))
    if usage is not None:
        chunks.append({"id": "chatcmpl-1", "model": "m-1", "choices": [], "usage": usage})
    return b"".join(event(c) for c in chunks) + b"data: [DONE]\n\n"


def call(
    index: int | None, *, id: str | None = None, name: str | None = None, args: object = None
) -> dict[str, Any]:
    """One piece of a tool call, with only those fields that are given."""
    function = {key: value for key, value in {"name": name, "arguments": args}.items() if value is not None}
    piece = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {key: value for key, value in piece.items() if value is not None}


def calls(*pieces: dict[str, Any]) -> dict[str, Any]:
    """A delta with pieces of tool calls."""
    return {"tool_calls": list(pieces)}


PARIS: Final = ToolCall(id="a", name="weather", arguments='{"city":"Paris"}')
ROME: Final = ToolCall(id="b", name="weather", arguments='{"city":"Rome"}')
TIME: Final = ToolCall(id="c", name="time", arguments="{}")

STREAMS: Final[dict[str, Stream]] = {
    "plain text": Stream(data=stream({"content": "Hello"}, {"content": " wörld 🐄"}), text="Hello wörld 🐄"),
    "no text at all": Stream(data=stream()),
    "crlf, comments, other fields": Stream(
        data=b": ping\r\n\r\n"
        b"event: message\r\nid: 7\r\nretry: 10\r\n"
        + event(chunk({"content": "Hi"}), end="\r\n")
        + b":\r\n"
        + event(chunk({}, finish="stop", usage=REPORTED), end="\r\n")
        + b"data: [DONE]\r\n\r\n",
        text="Hi",
    ),
    "cr alone, byte order mark, no space": Stream(
        data=b"\xef\xbb\xbf"
        + event(chunk({"content": "Hi"}), end="\r").replace(b"data: ", b"data:")
        + event(chunk({}, finish="stop", usage=REPORTED), end="\r")
        + b"data:[DONE]\r\r",
        text="Hi",
    ),
    "one chunk over several data lines": Stream(
        data=b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"Hi"},\n'
        b'data: "finish_reason":"stop"}],\ndata: "usage":'
        + json.dumps(REPORTED).encode()
        + b"}\n\ndata: [DONE]\n\n",
        text="Hi",
    ),
    "no end marker, no last newline": Stream(
        data=event(chunk({"content": "Hi"})) + event(chunk({}, finish="stop", usage=REPORTED)).rstrip(),
        text="Hi",
    ),
    "end marker without a finish reason": Stream(
        data=event(chunk({"content": "Hi"})) + b"data: [DONE]\n\n", text="Hi", usage=None
    ),
    "something after the end marker": Stream(
        data=stream({"content": "Hi"}) + event(chunk({"content": "!"})), text="Hi"
    ),
    "usage on every chunk": Stream(
        data=event(chunk({"content": "a"}, usage={"prompt_tokens": 100, "completion_tokens": 1}))
        + event(chunk({"content": "b"}, finish="stop", usage=REPORTED))
        + b"data: [DONE]\n\n",
        text="ab",
    ),
    "no usage": Stream(data=stream({"content": "Hi"}, usage=None), text="Hi", usage=None),
    "usage that is nonsense": Stream(
        data=stream({"content": "Hi"}, usage={"prompt_tokens": -1, "completion_tokens": "many"}),
        text="Hi",
        usage=None,
    ),
    "reasoning left out of completion tokens": Stream(
        data=stream(
            {"content": "Hi"},
            usage={
                "prompt_tokens": 100,
                "completion_tokens": 2,
                "total_tokens": 152,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
        ),
        text="Hi",
        usage=Usage(input_tokens=100, output_tokens=52, reasoning_tokens=50),
    ),
    "cached tokens as a field of their own": Stream(
        data=stream(
            {"content": "Hi"},
            usage={"prompt_tokens": 9, "completion_tokens": 2.0, "prompt_cache_hit_tokens": 700},
        ),
        text="Hi",
        usage=Usage(input_tokens=9, output_tokens=2, cache_read_tokens=9),
    ),
    "written cache tokens": Stream(
        data=stream(
            {"content": "Hi"},
            usage={
                "prompt_tokens": 50,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 30},
            },
        ),
        text="Hi",
        usage=Usage(input_tokens=50, output_tokens=2, cache_read_tokens=10, cache_write_tokens=30),
    ),
    "a filter's first chunk without a choice": Stream(
        data=event({"id": "", "model": "", "choices": [], "prompt_filter_results": None})
        + stream({"content": "Hi"}),
        text="Hi",
    ),
    "a second choice nobody asked for": Stream(
        data=event({"choices": [{"index": 1, "delta": {"content": "no"}}]}) + stream({"content": "Hi"}),
        text="Hi",
    ),
    "content in parts": Stream(
        data=stream({"content": [{"type": "thinking"}, {"type": "text", "text": "Hi"}]}), text="Hi"
    ),
    "length": Stream(data=stream({"content": "Hi"}, finish="length"), text="Hi", reason=FinishReason.LENGTH),
    "content filter": Stream(
        data=stream({"content": "Hi"}, finish="content_filter"), text="Hi", reason=FinishReason.FILTERED
    ),
    "refusal": Stream(
        data=stream({"refusal": "I can"}, {"refusal": "not do that."}),
        refusal="I cannot do that.",
        reason=FinishReason.REFUSAL,
    ),
    "reasoning text": Stream(
        data=stream(
            {"reasoning_content": "Think"}, {"reasoning_content": "ing.", "content": None}, {"content": "Hi"}
        ),
        text="Hi",
        reasoning=({"reasoning_content": "Thinking."},),
    ),
    "reasoning items": Stream(
        data=stream(
            {"reasoning": "A", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "A"}]},
            {"reasoning": "B", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "B"}]},
            {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "index": 1, "data": "x"}]},
            {"content": "Hi", "reasoning_details": [], "prefix": {}},
        ),
        text="Hi",
        reasoning=(
            {"reasoning": "AB"},
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "index": 0, "text": "AB", "signature": "s"},
                    {"type": "reasoning.encrypted", "index": 1, "data": "x"},
                ]
            },
        ),
    ),
    "one tool call in pieces": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args="")),
            calls(call(0, args='{"city":')),
            calls(call(0, args='"Paris"}')),
            finish="tool_calls",
        ),
        calls=(PARIS,),
        reason=FinishReason.TOOL_CALLS,
    ),
    "parallel calls, interleaved": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args="")),
            calls(call(1, id="b", name="weather", args='{"ci')),
            calls(call(0, args='{"city":')),
            calls(call(1, args='ty":"Rome"}'), call(0, args='"Paris"}')),
            finish="tool_calls",
        ),
        calls=(PARIS, ROME),
        reason=FinishReason.TOOL_CALLS,
    ),
    "whole calls in one delta": Stream(
        data=stream(
            calls(
                call(0, id="a", name="weather", args='{"city":"Paris"}'),
                call(1, id="b", name="weather", args='{"city":"Rome"}'),
            ),
            finish="tool_calls",
        ),
        calls=(PARIS, ROME),
        reason=FinishReason.TOOL_CALLS,
    ),
    "whole calls in one delta, no index": Stream(
        data=stream(
            calls(
                call(None, id="a", name="weather", args='{"city":"Paris"}'),
                call(None, id="b", name="weather", args='{"city":"Rome"}'),
            ),
            finish="stop",
        ),
        calls=(PARIS, ROME),
        reason=FinishReason.TOOL_CALLS,
    ),
    "no index, pieces follow their call": Stream(
        data=stream(
            calls(call(None, id="a", name="weather", args="")),
            calls(call(None, args='{"city":"Paris"}')),
            calls(call(None, id="b", name="weather", args='{"city":')),
            calls(call(None, id="b", args='"Rome"}')),
            finish="tool_calls",
        ),
        calls=(PARIS, ROME),
        reason=FinishReason.TOOL_CALLS,
    ),
    "one index, different ids": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args='{"city":"Paris"}')),
            calls(call(0, id="b", name="weather", args='{"city":')),
            calls(call(0, args='"Rome"}')),
            finish="tool_calls",
        ),
        calls=(PARIS, ROME),
        reason=FinishReason.TOOL_CALLS,
    ),
    "a fresh id on every piece": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args="")),
            calls(call(0, id="x1", args='{"city":')),
            calls(call(0, id="x2", args='"Paris"}')),
            finish="tool_calls",
        ),
        calls=(PARIS,),
        reason=FinishReason.TOOL_CALLS,
    ),
    "one index, no ids, whole calls": Stream(
        data=stream(
            calls(call(0, id="", name="weather", args='{"city":"Paris"}')),
            calls(call(0, id="", name="weather", args='{"city":"Rome"}')),
            finish="tool_calls",
        ),
        calls=(
            ToolCall(id="call_1", name="weather", arguments='{"city":"Paris"}'),
            ToolCall(id="call_2", name="weather", arguments='{"city":"Rome"}'),
        ),
        reason=FinishReason.TOOL_CALLS,
    ),
    "the name on every piece": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args='{"city":')),
            calls(call(0, id="a", name="weather", args='"Paris"}')),
            finish="tool_calls",
        ),
        calls=(PARIS,),
        reason=FinishReason.TOOL_CALLS,
    ),
    "the name on every piece, no id": Stream(
        data=stream(
            calls(call(0, name="weather", args='{"city":')),
            calls(call(0, name="weather", args='"Paris"}')),
            calls(call(1, id="call_1", name="time", args="{}")),
            finish="tool_calls",
        ),
        calls=(
            ToolCall(id="call_1_", name="weather", arguments='{"city":"Paris"}'),
            ToolCall(id="call_1", name="time", arguments="{}"),
        ),
        reason=FinishReason.TOOL_CALLS,
    ),
    "two calls under one id": Stream(
        data=stream(
            calls(call(0, id="a", name="weather", args='{"city":"Paris"}')),
            calls(call(1, id="a", name="weather", args='{"city":"Rome"}')),
            finish="tool_calls",
        ),
        calls=(PARIS, ToolCall(id="call_2", name="weather", arguments='{"city":"Rome"}')),
        reason=FinishReason.TOOL_CALLS,
    ),
    "arguments as an object, or none": Stream(
        data=stream(
            {"content": "Let me look. "},
            calls(call(0, id="a", name="weather", args={"city": "Paris"})),
            calls(call(1, id="c", name="time", args="{}"), call(2, id="d", name="time")),
            finish="function_call",
        ),
        text="Let me look. ",
        calls=(PARIS, TIME, ToolCall(id="d", name="time", arguments="")),
        reason=FinishReason.TOOL_CALLS,
    ),
    "a call cut by the limit": Stream(
        data=stream(calls(call(0, id="a", name="weather", args='{"ci')), finish="length"),
        calls=(ToolCall(id="a", name="weather", arguments='{"ci'),),
        reason=FinishReason.LENGTH,
    ),
}

BROKEN: Final[dict[str, bytes]] = {
    "nothing": b"",
    "only comments": b": ping\n\n: ping\n\n",
    "cut before the finish reason": event(chunk({"content": "Hel"})),
    "cut inside a chunk": event(chunk({"content": "Hel"})) + b'data: {"choices":[{"ind',
    "cut inside a tool call": event(chunk(calls(call(0, id="a", name="weather", args='{"ci')))),
    "no JSON": b"data: <html>\n\n",
    "a number": b"data: 5\n\n",
    "choices that are no list": event({"choices": {"0": {}}}),
    "content that is a number": event(chunk({"content": 5})),
    "refusal that is a number": event(chunk({"refusal": 5})),
    "tool calls that are no list": event(chunk({"tool_calls": {"0": {}}})),
    "a tool call that is a text": event(chunk({"tool_calls": ["weather"]})),
    "a function that is a text": event(chunk({"tool_calls": [{"index": 0, "function": "weather"}]})),
    "an index that is a text": event(chunk({"tool_calls": [{"index": "0"}]})),
    "a name that is a number": event(chunk({"tool_calls": [{"index": 0, "function": {"name": 5}}]})),
    "arguments that are a number": event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": 5}}]})),
    "a tool call without a name": stream(calls(call(0, id="a", args="{}")), finish="tool_calls"),
    "promised tool calls that never come": stream({"content": "Hi"}, finish="tool_calls"),
    "an unknown finish reason": stream({"content": "Hi"}, finish="sleepy"),
    "invalid UTF-8": event(chunk({"content": "Hi"})).replace(b"Hi", b"\xff\xfe"),
    "a plain answer instead of a stream": b'{"choices":[]}',
    "nesting without end": b"data: " + b"[" * 100_000 + b"\n\n",
}
