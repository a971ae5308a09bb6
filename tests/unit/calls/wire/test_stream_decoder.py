"""Streamed answers: tidy, sloppy, cut anywhere, broken."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cattlegrid.calls.wire.openai_chat import StreamDecoder, UsageBound
from cattlegrid.core.errors import (
    ContextTooLong,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelUnavailable,
)
from cattlegrid.core.messages import ModelResponse, TextDelta
from tests.unit.calls.wire.streams import BROKEN, STREAMS, Stream, chunk, event, stream

BOUND = UsageBound(input_tokens=1_000)


def played(pieces: list[bytes], bound: UsageBound = BOUND) -> tuple[str, ModelResponse]:
    """The text of all deltas, and the response."""
    decoder = StreamDecoder(bound)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) == len(deltas)
    return "".join(texts), decoder.finish()


def outcome(pieces: list[bytes]) -> ModelResponse | tuple[type[ModelError], str]:
    """The response, or what went wrong."""
    try:
        return played(pieces)[1]
    except ModelError as error:
        return type(error), error.detail


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.requirement("model:streaming", "model:parallel-calls", "model:usage", "model:refusal")
@pytest.mark.parametrize("recorded", STREAMS.values(), ids=STREAMS)
def test_a_recorded_stream_comes_to_its_answer(recorded: Stream) -> None:
    text, response = played([recorded.data])
    message = response.message
    assert (message.text, message.tool_calls, message.refusal) == (
        recorded.text,
        recorded.calls,
        recorded.refusal,
    )
    assert [json.loads(item) for item in message.reasoning] == list(recorded.reasoning)
    assert response.finish_reason is recorded.reason
    if recorded.usage is None:
        assert response.usage.estimated
    else:
        assert response.usage == recorded.usage
    assert text == recorded.text


@pytest.mark.requirement("model:streaming", "model:parallel-calls")
@given(recorded=st.sampled_from(list(STREAMS.values())), cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_pieces_may_be_cut_anywhere(recorded: Stream, cuts: list[int]) -> None:
    text, response = played(split(recorded.data, cuts))
    assert response == played([recorded.data])[1]
    assert recorded.text.startswith(text)


@pytest.mark.parametrize("recorded", STREAMS.values(), ids=STREAMS)
def test_single_bytes_come_to_the_same_answer(recorded: Stream) -> None:
    data = recorded.data
    assert played([data[i : i + 1] for i in range(len(data))])[1] == played([data])[1]


@pytest.mark.requirement("fault:model-down")
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_stream_is_an_error_and_never_an_answer(data: bytes) -> None:
    with pytest.raises(ModelProtocolError) as raised:
        played([data])
    assert raised.value.message == "The model's answer could not be read."
    assert raised.value.detail


@given(data=st.sampled_from(list(BROKEN.values())), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_a_broken_stream_is_broken_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    assert outcome(split(data, cuts)) == outcome([data])


@pytest.mark.requirement("model:streaming")
@pytest.mark.parametrize("recorded", [STREAMS["plain text"], STREAMS["parallel calls, interleaved"]])
def test_a_stream_cut_at_any_byte_is_an_error_until_the_model_has_said_why_it_stopped(
    recorded: Stream,
) -> None:
    whole = played([recorded.data])[1]
    finished_at = recorded.data.index(b'"finish_reason": "') + 1
    for end in range(len(recorded.data)):
        result = outcome([recorded.data[:end]])
        if end < finished_at:
            assert isinstance(result, tuple)
            assert result[0] is ModelProtocolError
        elif isinstance(result, ModelResponse):
            assert result.message == whole.message


@given(data=st.binary(max_size=300), prefix=st.booleans())
@example(data=b'{"choices":[{"index":0,"delta":{"tool_calls":[null]}}]}', prefix=True)
@example(data=b'{"choices":[null]}', prefix=True)
@example(data=b'{"id":{},"choices":null}', prefix=True)
def test_no_bytes_lead_to_anything_but_a_model_error(data: bytes, *, prefix: bool) -> None:
    assert outcome([b"data: " + data + b"\n\ndata: [DONE]\n\n" if prefix else data])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "tool_calls", "index", "id", "function", "name", "arguments", "type"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(delta=st.dictionaries(st.sampled_from(["content", "refusal", "tool_calls", "x"]), JSON), usage=JSON)
def test_no_delta_leads_to_anything_but_a_model_error(delta: dict[str, object], usage: object) -> None:
    assert outcome([stream(delta, usage=usage)])


@pytest.mark.requirement("model:errors")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "upstream died", "code": 502}, ModelUnavailable),
        ({"message": "slow down", "type": "rate_limit_error"}, ModelRateLimited),
        ({"message": "slow down", "code": "429"}, ModelRateLimited),
        ({"message": "too long", "code": "context_length_exceeded"}, ContextTooLong),
        ("something", ModelUnavailable),
        ({"message": "odd"}, ModelUnavailable),
    ],
)
def test_an_error_inside_a_stream_is_that_error(error: object, kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        played([event(chunk({"content": "Hel"})), event({"error": error})])


def test_a_model_that_breaks_off_is_not_available() -> None:
    with pytest.raises(ModelUnavailable):
        played([stream({"content": "Hel"}, finish="error")])


@pytest.mark.requirement("model:usage")
def test_usage_that_is_not_reported_is_estimated_from_above_and_marked() -> None:
    data = stream({"content": "12345"}, usage=None)
    assert played([data])[1].usage.input_tokens == 1_000
    assert 5 <= played([data])[1].usage.output_tokens <= 30
    limited = UsageBound(input_tokens=10, max_output_tokens=3)
    assert played([data], limited)[1].usage.output_tokens == 3
    reasoning = UsageBound(input_tokens=10, max_output_tokens=3_000, hidden_output=True)
    assert played([data], reasoning)[1].usage.output_tokens == 3_000


def test_the_answer_names_the_model_and_the_response() -> None:
    response = played([stream({"content": "Hi"})])[1]
    assert (response.model, response.response_id) == ("m-1", "chatcmpl-1")
