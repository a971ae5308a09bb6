"""What the chat codec costs: microseconds of CPU for a chunk, an answer, a request, and a check of arguments.

Prints a table, then one JSON object in the last line. Everything runs in this process, without a network.
"""

import json
import time
from collections.abc import Callable

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.calls.wire.openai_chat import ChatEncoder, StreamDecoder, decode
from cattlegrid.core.bundle import Tool
from cattlegrid.core.messages import Message, ModelRequest, Role, ToolCall, ToolSpec
from cattlegrid.core.tools import Effect, Retry

CHUNKS = 43
GOAL_US_PER_CHUNK = 20.0


def cpu_us(work: Callable[[], object], *, times: int) -> float:
    """CPU time of one call, the best of five rounds."""
    rounds: list[float] = []
    for _ in range(5):
        started_s = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started_s) / times)
    return min(rounds) * 1e6


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    fields = {
        "id": "chatcmpl-Bx81nAT5jyoPqPq1",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "gpt-4.1-mini-2025-04-14",
        "service_tier": "default",
        "system_fingerprint": "fp_38647f5e19",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": None,
        "obfuscation": "Jx3mEaZ",
    }
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def texts() -> list[bytes]:
    deltas = [chunk({"content": f" word{number}"}) for number in range(CHUNKS - 1)]
    return [*deltas, chunk({}, "stop"), b"data: [DONE]\n\n"]


def tool_calls() -> list[bytes]:
    opened = [
        chunk(
            {"tool_calls": [{"index": i, "id": f"call_{i}", "function": {"name": "find", "arguments": ""}}]}
        )
        for i in range(2)
    ]
    pieces = [
        chunk({"tool_calls": [{"index": i % 2, "function": {"arguments": '{"ab' if i < 2 else "cd"}}]})
        for i in range(CHUNKS - 3)
    ]
    return [*opened, *pieces, chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


def play(pieces: list[bytes]) -> Callable[[], object]:
    def once() -> object:
        decoder = StreamDecoder()
        for piece in pieces:
            decoder.feed(piece)
        return decoder.finish()

    return once


def conversation(turns: int) -> ModelRequest:
    spoken: list[Message] = [Message(role=Role.SYSTEM, text="You serve the customers of a shop. " * 40)]
    for turn in range(turns // 4):
        call = ToolCall(id=f"call_{turn}", name="find_order", arguments=f'{{"order":{turn}}}')
        spoken += [
            Message(role=Role.USER, text=f"Where is order {turn}? " * 20),
            Message(role=Role.ASSISTANT, tool_calls=(call,)),
            Message(role=Role.TOOL, text='{"state":"sent","items":["a","b"]}' * 40, tool_call_id=call.id),
            Message(role=Role.ASSISTANT, text=f"Order {turn} is on its way. " * 15),
        ]
    parameters = '{"type":"object","properties":{"order":{"type":"integer"}},"additionalProperties":false}'
    tools = tuple(
        ToolSpec(name=f"tool_{i}", description="Does something. " * 5, parameters=parameters)
        for i in range(8)
    )
    return ModelRequest(provider="p", model="m", messages=tuple(spoken), tools=tools)


def measured() -> dict[str, float]:
    kept = ChatEncoder()
    short, long = conversation(8), conversation(500)
    completion = {"role": "assistant", "content": "word " * 200}
    body = json.dumps(
        {"choices": [{"index": 0, "message": completion, "finish_reason": "stop"}], "usage": None}
    ).encode()
    spec = ToolSpec(name="find_order", description="", parameters=short.tools[0].parameters)
    tool = Tool(spec=spec, returns="", effect=Effect.READ, retry=Retry.FREE, timeout_s=1.0)
    schemas = ToolSchemas()
    return {
        "us_per_text_chunk": cpu_us(play(texts()), times=200) / CHUNKS,
        "us_per_tool_chunk": cpu_us(play(tool_calls()), times=200) / CHUNKS,
        "us_per_whole_answer": cpu_us(lambda: decode(body), times=2_000),
        "us_per_request_8_messages": cpu_us(lambda: kept.encode(short, stream=True), times=2_000),
        "us_per_request_500_messages": cpu_us(lambda: kept.encode(long, stream=True), times=100),
        "us_per_request_500_messages_new": cpu_us(lambda: ChatEncoder().encode(long, stream=True), times=20),
        "us_per_arguments": cpu_us(lambda: schemas.arguments("b", tool, '{"order": 17}'), times=2_000),
    }


def main() -> None:
    """Measure, and say whether the goal is met."""
    figures = {name: round(value, 2) for name, value in measured().items()}
    for name, value in figures.items():
        print(f"{name:<34}{value:>10.2f}")
    worst = max(figures["us_per_text_chunk"], figures["us_per_tool_chunk"])
    goal = {"goal_us_per_chunk": GOAL_US_PER_CHUNK, "goal_met": worst <= GOAL_US_PER_CHUNK}
    print(json.dumps({"bench": "codec", **figures, **goal}))


if __name__ == "__main__":
    main()
