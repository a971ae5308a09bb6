"""Every wire format over the same table: whatever an answer is, each codec comes to the same of it."""

import base64
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.wire.formats import WIRE_NAMES, wire_of
from cattlegrid.calls.wire.usage import IMAGE_TOKENS, UsageBound, usage_bound
from cattlegrid.core.errors import ModelError, ModelProtocolError, ModelRejected
from cattlegrid.core.messages import (
    Image,
    Message,
    ModelParams,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    ToolSpec,
)
from tests.wires.answers import MODEL, RESPONSE_ID, ROWS, Answer
from tests.wires.every import WIRES
from tests.wires.wire import RecordedWire

BOUND: Final = UsageBound(input_tokens=1_000)
FILES: Final = {"red": b"\x89PNG red", "blue": b"\xff\xd8\xff blue \x00"}
RED, BLUE = Image("red", "image/png"), Image("blue", "image/jpeg")
TOOLS: Final = tuple(
    ToolSpec(name=name, description="Tells.", parameters='{"type":"object"}') for name in ("weather", "time")
)

every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
every_row = pytest.mark.parametrize("answer", ROWS.values(), ids=ROWS)
wires = st.sampled_from(list(WIRES.values()))
cut_anywhere = st.lists(st.integers(0, 20_000), max_size=40)


def played(wire: RecordedWire, pieces: list[bytes]) -> tuple[str, ModelResponse]:
    """The text of all deltas, and the response."""
    decoder = wire_of(wire.name).decoder(BOUND)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), decoder.finish()


def outcome(wire: RecordedWire, pieces: list[bytes]) -> ModelResponse | tuple[type[ModelError], str]:
    """The response, or what went wrong."""
    try:
        return played(wire, pieces)[1]
    except ModelError as error:
        return type(error), error.detail


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def check(response: ModelResponse, expected: Answer) -> None:
    message = response.message
    assert (message.text, message.tool_calls, message.refusal) == (
        expected.text,
        expected.calls,
        expected.refusal,
    )
    assert response.finish_reason is expected.reason
    if expected.usage is None:
        assert response.usage.estimated
        assert response.usage.input_tokens == BOUND.input_tokens
        assert response.usage.output_tokens >= len(expected.text.encode())
    else:
        assert response.usage == expected.usage


def conversation(message: Message, *more: Message, images: dict[str, bytes] | None = None) -> ModelRequest:
    """A request that sends an answer back, as the turn after it does."""
    results = [Message(role=Role.TOOL, text="ok", tool_call_id=call.id) for call in message.tool_calls]
    asked = Message(role=Role.USER, text="Where?")
    return ModelRequest(
        provider="p",
        model="m",
        messages=(Message(role=Role.SYSTEM, text="Be kind."), asked, message, *results, *more),
        tools=TOOLS,
        images=images or {},
    )


def encoded(wire: RecordedWire, request: ModelRequest, *, stream: bool = True) -> Any:  # noqa: ANN401 - JSON
    return msgspec.json.decode(wire_of(wire.name).encode(request, stream=stream))


def test_the_table_has_every_wire() -> None:
    assert tuple(WIRES) == WIRE_NAMES


@pytest.mark.requirement(
    "model:wires", "model:streaming", "model:parallel-calls", "model:usage", "model:refusal"
)
@every_wire
@every_row
def test_a_stream_comes_to_its_answer(wire: RecordedWire, answer: Answer) -> None:
    text, response = played(wire, [wire.stream(answer)])
    check(response, wire.expected(answer))
    assert text == response.message.text
    assert response.model == MODEL


@pytest.mark.requirement("model:wires", "model:usage", "model:refusal")
@every_wire
@every_row
def test_an_answer_that_comes_whole_is_the_same(wire: RecordedWire, answer: Answer) -> None:
    response = wire_of(wire.name).decode(wire.body(answer), BOUND)
    streamed = played(wire, [wire.stream(answer)])[1]
    check(response, wire.expected(answer))
    assert (response.message, response.model, response.response_id) == (
        streamed.message,
        streamed.model,
        streamed.response_id,
    )


@pytest.mark.requirement("model:wires", "model:streaming")
@given(wire=wires, answer=st.sampled_from(list(ROWS.values())), cuts=cut_anywhere)
def test_pieces_may_be_cut_anywhere(wire: RecordedWire, answer: Answer, cuts: list[int]) -> None:
    data = wire.stream(answer)
    text, response = played(wire, split(data, cuts))
    assert response == played(wire, [data])[1]
    assert text == response.message.text


@every_wire
@every_row
def test_single_bytes_come_to_the_same_answer(wire: RecordedWire, answer: Answer) -> None:
    data = wire.stream(answer)
    assert played(wire, [data[i : i + 1] for i in range(len(data))]) == played(wire, [data])


@pytest.mark.requirement("model:wires", "fault:model-down")
@every_wire
@pytest.mark.parametrize("row", ["plain text", "parallel calls", "reasoning, then calls"])
def test_a_stream_that_is_cut_is_an_error_or_was_complete(wire: RecordedWire, row: str) -> None:
    data = wire.stream(ROWS[row])
    whole = played(wire, [data])[1]
    errors = 0
    for end in range(len(data)):
        result = outcome(wire, [data[:end]])
        if isinstance(result, ModelResponse):
            assert result.message == whole.message
        else:
            errors += 1
            assert result[0] is ModelProtocolError
    assert errors > len(data) // 2


@pytest.mark.requirement("model:wires", "fault:model-down")
@every_wire
def test_a_stream_that_stalls_is_neither_done_nor_an_error(wire: RecordedWire) -> None:
    decoder = wire_of(wire.name).decoder(BOUND)
    assert decoder.feed(wire.begun) == [TextDelta("It ")]
    assert decoder.feed(b": still here\n\n") == []
    assert not decoder.done
    with pytest.raises(ModelProtocolError, match="the stream ended before the answer did"):
        decoder.finish()


@pytest.mark.requirement("model:wires", "fault:model-down")
@every_wire
def test_a_malformed_chunk_is_an_error_and_never_an_answer(wire: RecordedWire) -> None:
    for data in (b"", b": ping\n\n", b"data: 5\n\n", b"data: " + b"[" * 100_000 + b"\n\n", *wire.malformed):
        with pytest.raises(ModelProtocolError) as raised:
            played(wire, [data])
        assert raised.value.message == "The model's answer could not be read."
        if wire.begun not in data:
            with pytest.raises(ModelProtocolError):
                played(wire, [wire.begun + b"data: <html>\n\n"])


@pytest.mark.requirement("model:wires", "model:errors")
@every_wire
def test_an_error_inside_a_stream_is_that_error(wire: RecordedWire) -> None:
    for failure in wire.failures:
        assert isinstance(result := outcome(wire, [wire.begun + failure.event]), tuple), failure
        assert result[0] is failure.kind, failure


@given(wire=wires, data=st.binary(max_size=300), framed=st.booleans())
def test_no_bytes_lead_to_anything_but_a_model_error(
    wire: RecordedWire, data: bytes, *, framed: bool
) -> None:
    assert isinstance(outcome(wire, [b"data: " + data + b"\n\n" if framed else data]), tuple)


WORDS: Final = st.sampled_from(
    [
        "type",
        "index",
        "delta",
        "content_block",
        "message",
        "text",
        "thinking",
        "partial_json",
        "tool_use",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "stop_reason",
        "end_turn",
        "item",
        "output",
        "response",
        "output_index",
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
        "function_call",
        "candidates",
        "content",
        "parts",
        "functionCall",
        "name",
        "args",
        "thought",
        "thoughtSignature",
        "finishReason",
        "STOP",
        "usage",
        "usageMetadata",
    ]
)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)


@given(wire=wires, events=st.lists(st.dictionaries(WORDS, JSON, max_size=6), max_size=4))
def test_no_events_lead_to_anything_but_an_answer_or_a_model_error(
    wire: RecordedWire, events: list[dict[str, object]]
) -> None:
    stream = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    assert outcome(wire, [wire.begun, stream])
    assert outcome(wire, [stream])


@pytest.mark.requirement("model:wires", "model:reasoning")
@every_wire
@every_row
def test_an_answer_goes_back_as_it_came(wire: RecordedWire, answer: Answer) -> None:
    """Texts, calls, thoughts and what they are signed with: the same, and in the same order."""
    response = played(wire, [wire.stream(answer)])[1]
    sent = encoded(wire, conversation(response.message))
    again = encoded(wire, conversation(wire_of(wire.name).decode(wire.body(answer), BOUND).message))
    assert sent == again
    if not answer.refusal and not answer.interleaved and not wire.expected(answer).refusal:
        back = wire.sent_back(sent)
        kinds = [isinstance(part, dict) for part in back]
        told = [part for part in back if not isinstance(part, dict)]
        calls = [(call.id, msgspec.json.decode(call.arguments)) for call in answer.calls]
        assert told == [*([answer.text] if answer.text else ()), *calls]
        if wire.name != "openai":
            assert kinds == [type(part).__name__ == "Thought" for part in answer.parts]


@every_wire
def test_reasoning_of_another_format_stays_at_home(wire: RecordedWire) -> None:
    plain = played(wire, [wire.stream(ROWS["text, then calls"])])[1].message
    for other in WIRES.values():
        if other is not wire:
            thought = played(other, [other.stream(ROWS["reasoning between texts and calls"])])[1].message
            mixed = msgspec.structs.replace(plain, reasoning=(*thought.reasoning, "{", "[1]"))
            assert encoded(wire, conversation(mixed)) == encoded(wire, conversation(plain))


@pytest.mark.requirement("model:images")
@every_wire
def test_images_of_users_and_tools_are_sent(wire: RecordedWire) -> None:
    message = played(wire, [wire.stream(ROWS["one call"])])[1].message
    call = message.tool_calls[0]
    request = ModelRequest(
        provider="p",
        model="m",
        messages=(
            Message(role=Role.USER, text="What is this?", images=(RED, BLUE)),
            message,
            Message(role=Role.TOOL, text="A cow.", tool_call_id=call.id, images=(BLUE,)),
        ),
        images=FILES,
    )
    red, blue = (base64.b64encode(data).decode() for data in FILES.values())
    shown = [("image/png", red), ("image/jpeg", blue), ("image/jpeg", blue)]
    body = wire_of(wire.name).encode(request, stream=False)
    assert list(wire.images(msgspec.json.decode(body))) == shown
    assert usage_bound(request, len(body)).input_tokens >= 3 * IMAGE_TOKENS
    bare = msgspec.structs.replace(request, images={})
    with pytest.raises(ModelRejected, match="image red are missing"):
        wire_of(wire.name).encode(bare, stream=False)


@pytest.mark.requirement("model:images")
@every_wire
def test_images_are_no_more_kept_than_other_peoples(wire: RecordedWire) -> None:
    """The same reference of another request means that request's bytes."""
    codec = wire_of(wire.name)
    shown = Message(role=Role.USER, text="Look.", images=(RED,))
    for data in (b"mine", b"yours"):
        request = ModelRequest(provider="p", model="m", messages=(shown,), images={"red": data})
        sent = wire.images(msgspec.json.decode(codec.encode(request, stream=False)))
        assert list(sent) == [("image/png", base64.b64encode(data).decode())]


@every_wire
def test_half_a_surrogate_pair_is_refused_before_anything_is_sent(wire: RecordedWire) -> None:
    for message in (Message(role=Role.USER, text="\ud83d"), Message(role=Role.SYSTEM, text="\ud83d")):
        request = ModelRequest(provider="p", model="m", messages=(message,))
        with pytest.raises(ModelRejected):
            wire_of(wire.name).encode(request, stream=True)


@given(
    wire=wires,
    spoken=st.lists(st.tuples(st.sampled_from(list(Role)), st.text(max_size=9)), max_size=6),
    limit=st.none() | st.integers(1, 9),
)
def test_remembered_messages_are_encoded_like_new_ones(
    wire: RecordedWire, spoken: list[tuple[Role, str]], limit: int | None
) -> None:
    messages = tuple(Message(role=role, text=text) for role, text in spoken)
    request = ModelRequest(
        provider="p", model="m", messages=messages, params=ModelParams(max_output_tokens=limit)
    )
    codec = wire_of(wire.name)
    first = codec.encode(request, stream=True)
    assert msgspec.json.decode(first)
    assert first == codec.encode(request, stream=True) == wire_of(wire.name).encode(request, stream=True)
    assert usage_bound(request, len(first)).input_tokens == len(first)


def test_an_answer_has_the_name_that_its_provider_gave_it() -> None:
    for wire in WIRES.values():
        assert played(wire, [wire.stream(ROWS["plain text"])])[1].response_id == RESPONSE_ID
