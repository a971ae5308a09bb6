"""What servers other than the inventor of a format send, and what its inventor may send tomorrow."""

import json
from typing import Any

import msgspec
import pytest

from cattlegrid.calls.wire.formats import WireName, wire_of
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.errors import ModelProtocolError, ModelUnavailable
from cattlegrid.core.messages import FinishReason, ModelRequest, ModelResponse, TextDelta, ToolCall
from tests.wires import anthropic, gemini, responses
from tests.wires.answers import PARIS, ROWS, WHERE, Answer

pytestmark = pytest.mark.requirement("model:wires")

CALL = ToolCall(id="a1", name="weather", arguments='{"city":"Paris"}')


def played(wire: WireName, *events: bytes) -> tuple[str, ModelResponse]:
    """The text of all deltas, and the response."""
    decoder = wire_of(wire).decoder(UsageBound())
    deltas = [delta for event in events for delta in decoder.feed(event)]
    return "".join(d.text for d in deltas if isinstance(d, TextDelta)), decoder.finish()


def item_done(index: int, item: dict[str, Any]) -> bytes:
    return responses.event("response.output_item.done", output_index=index, item=item)


TEXT_ITEM = responses.item_of(WHERE, 0)
CALL_ITEM = responses.item_of(PARIS, 1)
ENDED = responses.event("response.completed", response=responses.response("completed"))


@pytest.mark.parametrize(
    "events",
    [
        [
            responses.event(
                "response.completed", response=responses.response("completed", [TEXT_ITEM, CALL_ITEM])
            )
        ],
        [item_done(0, TEXT_ITEM), item_done(1, CALL_ITEM), ENDED],
        [
            responses.event("response.output_item.added", output_index=0, item=responses.message("m", "x")),
            responses.event("response.output_text.delta", output_index=0, content_index=0, delta="It is "),
            item_done(0, TEXT_ITEM),
            responses.event(
                "response.output_item.added", output_index=1, item={**CALL_ITEM, "arguments": ""}
            ),
            responses.event("response.function_call_arguments.delta", output_index=1, delta=PARIS.arguments),
            ENDED,
        ],
        [
            responses.event(
                "response.output_item.added", output_index=1, item={**CALL_ITEM, "arguments": ""}
            ),
            responses.event("response.function_call_arguments.delta", output_index=1, delta=PARIS.arguments),
            item_done(1, {**CALL_ITEM, "arguments": None}),
            responses.event("response.from.tomorrow", delta=5),
            item_done(0, TEXT_ITEM),
            item_done(0, TEXT_ITEM),
            ENDED,
        ],
    ],
    ids=["only the end", "only whole items", "half in pieces", "out of order, twice, and unknown"],
)
def test_a_response_is_put_together_from_whatever_pieces_there_are(events: list[bytes]) -> None:
    text, response = played("openai-responses", *events)
    assert text == response.message.text == WHERE.text
    assert response.message.tool_calls == (CALL,)
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_a_reasoning_item_that_never_ended_is_not_sent_back() -> None:
    begun: dict[str, Any] = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "half"}
    added = responses.event("response.output_item.added", output_index=0, item=begun)
    assert played("openai-responses", added, ENDED)[1].message.reasoning == ()


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("completed", None, FinishReason.STOP),
        (None, None, FinishReason.STOP),
        ("incomplete", {"reason": "max_messages"}, FinishReason.LENGTH),
        ("incomplete", {"reason": "from tomorrow"}, FinishReason.LENGTH),
        ("incomplete", None, FinishReason.LENGTH),
    ],
)
def test_how_a_response_ended_is_read_from_what_there_is(
    status: str | None, details: object, reason: FinishReason
) -> None:
    ended = {**responses.response("completed", [TEXT_ITEM]), "status": status, "incomplete_details": details}
    assert (
        played("openai-responses", responses.event("response.completed", response=ended))[1].finish_reason
        is reason
    )


def test_a_response_that_failed_without_a_word_is_an_error() -> None:
    with pytest.raises(ModelUnavailable):
        played("openai-responses", responses.event("response.failed", response=responses.response("failed")))


def block(index: int, content: dict[str, Any]) -> bytes:
    return anthropic.event("content_block_start", index=index, content_block=content)


STOPPED = anthropic.event("message_delta", delta={"stop_reason": "end_turn"}) + anthropic.event(
    "message_stop"
)


def test_blocks_of_anthropic_may_come_with_their_content() -> None:
    given = {"type": "tool_use", "id": "a1", "name": "weather", "input": {"city": "Paris"}}
    text, response = played(
        "anthropic",
        block(0, {"type": "text", "text": "It "}),
        anthropic.text_delta("is."),
        block(1, given),
        STOPPED,
    )
    assert text == response.message.text == "It is."
    assert response.message.tool_calls == (CALL,)
    assert response.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.requirement("model:reasoning")
def test_blocks_and_events_of_unknown_types_are_kept_or_passed_over() -> None:
    redacted = {"type": "redacted_thinking", "data": "opaque"}
    server: dict[str, Any] = {"type": "server_tool_use", "id": "s", "name": "search", "input": {}}
    query = {"type": "input_json_delta", "partial_json": '{"query":"cow"}'}
    tomorrow = {"type": "delta_from_tomorrow", "value": 5}
    text, response = played(
        "anthropic",
        anthropic.PING,
        anthropic.event("event_from_tomorrow", index=7),
        block(0, redacted),
        block(1, server),
        anthropic.event("content_block_delta", index=1, delta=query),
        block(2, {"type": "text", "text": "Hi"}),
        anthropic.event("content_block_delta", index=2, delta=tomorrow),
        STOPPED,
    )
    assert text == "Hi"
    request = ModelRequest(provider="p", model="m", messages=(response.message,))
    sent = msgspec.json.decode(wire_of("anthropic").encode(request, stream=False))
    assert sent["messages"][1]["content"] == [
        redacted,
        {**server, "input": {"query": "cow"}},
        {"type": "text", "text": "Hi"},
    ]


def test_counts_of_anthropic_are_those_of_its_end() -> None:
    """The beginning counts the first token of the output only, and the end may correct the input."""
    row = ROWS["plain text"]
    assert row.usage is not None
    end = {"output_tokens": 20, "input_tokens": 90, "cache_read_input_tokens": None}
    _, response = played(
        "anthropic",
        anthropic.started(row.usage),
        block(0, {"type": "text", "text": "Hi"}),
        anthropic.event("message_delta", delta={"stop_reason": "end_turn"}, usage=end),
        anthropic.event("message_stop"),
    )
    assert (response.usage.input_tokens, response.usage.output_tokens) == (90, 20)
    cut_off = played(
        "anthropic", anthropic.started(row.usage), block(0, {"type": "text", "text": "Hi"}), STOPPED
    )[1]
    assert cut_off.usage.estimated


def test_gemini_may_say_in_every_chunk_that_it_stops() -> None:
    chunks = [gemini.event(gemini.chunk({"text": piece}, finish="STOP")) for piece in WHERE.pieces]
    text, response = played("gemini", *chunks)
    assert text == response.message.text == WHERE.text


def test_of_gemini_only_the_first_candidate_and_known_parts_are_read() -> None:
    first = gemini.chunk({"executableCode": {"code": "1"}}, {"text": "Hi"}, finish="STOP")
    first["candidates"] = [{"index": 1, "content": {"parts": [{"text": "no"}]}}, *_candidates(first)]
    text, response = played("gemini", gemini.event(first))
    assert text == "Hi"
    request = ModelRequest(provider="p", model="m", messages=(response.message,))
    sent = msgspec.json.decode(wire_of("gemini").encode(request, stream=False))
    assert sent["contents"][1]["parts"] == [{"executableCode": {"code": "1"}}, {"text": "Hi"}]


def _candidates(chunk: dict[str, object]) -> list[object]:
    found = chunk["candidates"]
    assert isinstance(found, list)
    return [*found]


@pytest.mark.parametrize("wire", ["openai-responses", "anthropic", "gemini"])
def test_an_end_mark_alone_is_no_answer(wire: WireName) -> None:
    with pytest.raises(ModelProtocolError):
        played(wire, b"data: [DONE]\n\n")


def test_calls_with_the_same_id_are_told_apart_in_every_format() -> None:
    twice = Answer(parts=(PARIS, PARIS), reason=FinishReason.TOOL_CALLS)
    for wire in (responses.Responses(), anthropic.Anthropic(), gemini.Gemini()):
        calls = played(wire.name, wire.stream(twice))[1].message.tool_calls
        assert [call.id for call in calls] == ["a1", "call_2"]
        assert {json.loads(call.arguments)["city"] for call in calls} == {"Paris"}
