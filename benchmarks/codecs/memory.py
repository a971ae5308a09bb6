"""The codecs by themselves, in memory: microseconds of CPU for a chunk, an answer and a request, in every wire format."""

import time
from collections.abc import Callable

from benchmarks.codecs import recorded
from benchmarks.codecs.load import TYPICAL
from cattlegrid.calls.wire.formats import WIRE_NAMES, Wire, wire_of
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.messages import FinishReason, Message, ModelRequest, Role, ToolCall, ToolSpec
from tests.wires.answers import Answer, Called
from tests.wires.every import WIRES

BOUND = UsageBound()


def cpu_us(work: Callable[[], object], *, times: int) -> float:
    """CPU time of one call, the best of five rounds."""
    rounds: list[float] = []
    for _ in range(5):
        started_s = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started_s) / times)
    return min(rounds) * 1e6


def play(wire: Wire, pieces: list[bytes]) -> Callable[[], object]:
    """Decodes a stream, piece after piece."""

    def once() -> object:
        decoder = wire.decoder(BOUND)
        for piece in pieces:
            decoder.feed(piece)
        return decoder.finish()

    return once


def calls(name: str) -> list[bytes]:
    """The events of two calls whose arguments come in turns."""
    pieces = ('{"text":"', *["abcd"] * 20, '"}')
    answer = Answer(
        parts=tuple(Called(id, "note", pieces) for id in ("a", "b")),
        reason=FinishReason.TOOL_CALLS,
        interleaved=True,
    )
    end = b"\r\n\r\n" if name == "gemini" else b"\n\n"
    return [event + end for event in WIRES[name].stream(answer).split(end) if event]


def conversation(turns: int) -> ModelRequest:
    """A support conversation of so many messages, with eight tools."""
    spoken: list[Message] = [Message(role=Role.SYSTEM, text="You serve the customers of a shop. " * 40)]
    for turn in range(turns // 4):
        call = ToolCall(id=f"c{turn}", name="find_order", arguments=f'{{"order":{turn}}}')
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


def measured() -> dict[str, dict[str, float]]:
    """The figures of every wire."""
    short, long = conversation(8), conversation(500)
    found: dict[str, dict[str, float]] = {}
    for name in WIRE_NAMES:
        kept = wire_of(name)
        texts, called, body = recorded.events(name, TYPICAL), calls(name), recorded.body(name, TYPICAL)
        found[name] = {
            "us_per_text_chunk": cpu_us(play(kept, texts), times=200) / len(texts),
            "us_per_tool_chunk": cpu_us(play(kept, called), times=200) / len(called),
            "us_per_whole_answer": cpu_us(lambda kept=kept, body=body: kept.decode(body, BOUND), times=2_000),
            "us_per_request_8": cpu_us(lambda kept=kept: kept.encode(short, stream=True), times=2_000),
            "us_per_request_500": cpu_us(lambda kept=kept: kept.encode(long, stream=True), times=100),
            "us_per_request_500_new": cpu_us(
                lambda name=name: wire_of(name).encode(long, stream=True), times=10
            ),
        }
    return found
