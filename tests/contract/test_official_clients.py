"""The providers' own clients as counterparties: what they read of our recorded streams, and what they would send.

Both sides get the same bytes from the loopback interface. Where both come to the same text, calls and counts, the recorded
streams are faithful to the format, and so is the codec. Gemini has no counterpart here.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import anthropic
import msgspec
import openai
import pytest
from anthropic.types import message_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.calls.wire.formats import WireName, wire_of
from cattlegrid.calls.wire.usage import UsageBound
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.messages import (
    Image,
    Message,
    ModelDelta,
    ModelParams,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    ToolSpec,
    Usage,
)
from tests.contract.model_endpoint import (
    STREAM_END,
    STREAM_HEAD,
    ModelEndpoint,
    model_endpoint,
    piece,
    response,
)
from tests.wires import every
from tests.wires.answers import ROWS, Answer
from tests.wires.wire import RecordedWire

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("model:official-clients")]

CLOCK: Final = SystemClock()
ASKED: Final = Message(role=Role.USER, text="Where?")


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What a client has made of an answer."""

    text: str
    calls: tuple[tuple[str, str, Any], ...]
    refusal: str
    usage: Usage | None


@pytest.fixture
async def endpoint() -> AsyncIterator[ModelEndpoint]:
    async with model_endpoint() as listening:
        yield listening


async def ours(endpoint: ModelEndpoint, wire: WireName, *, streamed: bool) -> ModelResponse:
    client = HttpModelClient(Endpoint(name="p", base_url=endpoint.url, wire=wire), api_key="k", clock=CLOCK)
    request = ModelRequest(provider="p", model="m", messages=(ASKED,))
    deltas: list[ModelDelta] = []
    try:
        answer = await client.chat(
            request, deadline=Deadline.after(CLOCK, 10.0), on_delta=deltas.append if streamed else None
        )
    finally:
        await client.close()
    if streamed:
        assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == answer.message.text
    return answer


async def theirs(endpoint: ModelEndpoint, wire: WireName, *, streamed: bool) -> Read:
    match wire:
        case "openai":
            return await read_chat(endpoint.url, streamed=streamed)
        case "openai-responses":
            return await read_responses(endpoint.url, streamed=streamed)
        case _:
            return await read_anthropic(endpoint.url.removesuffix("/v1"), streamed=streamed)


def official(client: type[Any], url: str) -> Any:  # noqa: ANN401 - their types are not known to the checker throughout
    """A client that asks the endpoint once."""
    return client(base_url=url, api_key="k", max_retries=0)


async def read_chat(url: str, *, streamed: bool) -> Read:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Where?"}]}
    async with official(openai.AsyncOpenAI, url) as client:
        if streamed:
            async with client.chat.completions.stream(
                **asked, stream_options={"include_usage": True}
            ) as stream:
                with contextlib.suppress(
                    openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError
                ):
                    await stream.until_done()
                found = stream.current_completion_snapshot
        else:
            found = await client.chat.completions.create(**asked)
    message, usage = found.choices[0].message, found.usage
    calls = [call for call in message.tool_calls or () if call.type == "function"]
    cached, thought = usage and usage.prompt_tokens_details, usage and usage.completion_tokens_details
    return Read(
        text=message.content or "",
        calls=tuple((c.id, c.function.name, msgspec.json.decode(c.function.arguments)) for c in calls),
        refusal=message.refusal or "",
        usage=usage
        and Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=(cached and cached.cached_tokens) or 0,
            cache_write_tokens=(cached and getattr(cached, "cache_write_tokens", 0)) or 0,
            reasoning_tokens=(thought and thought.reasoning_tokens) or 0,
        ),
    )


async def read_responses(url: str, *, streamed: bool) -> Read:
    async with official(openai.AsyncOpenAI, url) as client:
        if streamed:
            async with client.responses.stream(model="m", input="Where?") as stream:
                events = [event async for event in stream]
            ends = [e.response for e in events if e.type in {"response.completed", "response.incomplete"}]
            found = ends[-1]
            shown = [event.delta for event in events if event.type == "response.output_text.delta"]
            assert "".join(shown) == found.output_text
        else:
            found = await client.responses.create(model="m", input="Where?")
    usage = found.usage
    calls = [item for item in found.output if item.type == "function_call"]
    refusals = [
        p.refusal for i in found.output if i.type == "message" for p in i.content if p.type == "refusal"
    ]
    return Read(
        text=found.output_text,
        calls=tuple((call.call_id, call.name, msgspec.json.decode(call.arguments)) for call in calls),
        refusal="".join(refusals),
        usage=usage
        and Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.input_tokens_details.cached_tokens,
            cache_write_tokens=usage.input_tokens_details.cache_write_tokens,
            reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
        ),
    )


async def read_anthropic(url: str, *, streamed: bool) -> Read:
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Where?"}]}
    async with official(anthropic.AsyncAnthropic, url) as client:
        if streamed:
            async with client.messages.stream(**asked) as stream:
                found = await stream.get_final_message()
        else:
            found = await client.messages.create(**asked)
    read, written = found.usage.cache_read_input_tokens or 0, found.usage.cache_creation_input_tokens or 0
    details = found.usage.output_tokens_details
    calls = [block for block in found.content if block.type == "tool_use"]
    return Read(
        text="".join(block.text for block in found.content if block.type == "text"),
        calls=tuple((call.id, call.name, call.input) for call in calls),
        refusal=(found.stop_details and found.stop_details.explanation) or "",
        usage=Usage(
            input_tokens=found.usage.input_tokens + read + written,
            output_tokens=found.usage.output_tokens,
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=details.thinking_tokens if details else 0,
        ),
    )


def as_read(answer: ModelResponse) -> Read:
    message = answer.message
    return Read(
        text=message.text,
        calls=tuple((c.id, c.name, msgspec.json.decode(c.arguments)) for c in message.tool_calls),
        refusal=message.refusal,
        usage=None if answer.usage.estimated else answer.usage,
    )


WIRES: Final = {name: wire for name, wire in every.WIRES.items() if name != "gemini"}
# The client of Anthropic refuses a message without usage, which only servers that are not Anthropic's leave out; and the
# word for an answer that was withheld is a filter's in our table, for which Anthropic has no sentence.
PAIRS: Final = [
    pytest.param(wire, answer, id=f"{name}: {row}")
    for name, wire in WIRES.items()
    for row, answer in ROWS.items()
    if name != "anthropic" or row not in {"usage absent", "filtered"}
]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("wire", "answer"), PAIRS)
async def test_the_official_client_reads_the_same(
    endpoint: ModelEndpoint, wire: RecordedWire, answer: Answer, *, streamed: bool
) -> None:
    events = wire.stream(answer)
    pieces = [piece(events[start : start + 97]) for start in range(0, len(events), 97)]
    endpoint.play((STREAM_HEAD, *pieces, STREAM_END), (response(200, wire.body(answer)),))
    assert await theirs(endpoint, wire.name, streamed=streamed) == as_read(
        await ours(endpoint, wire.name, streamed=streamed)
    )


FORMS: Final[dict[str, Any]] = {
    "openai": completion_create_params.CompletionCreateParamsStreaming,
    "openai-responses": response_create_params.ResponseCreateParamsStreaming,
    "anthropic": message_create_params.MessageCreateParamsStreaming,
}


@pytest.mark.requirement("model:images")
@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_what_we_send_is_what_the_official_client_may_send(wire: RecordedWire) -> None:
    """A whole conversation, with reasoning, calls, results and images, fits the types of the official client."""
    bound = wire_of(wire.name)
    # The official types of chat completions know no field for reasoning: other servers have it.
    row = ROWS["text, then calls" if wire.name == "openai" else "reasoning between texts and calls"]
    said = bound.decode(wire.body(row), UsageBound())
    results = [
        Message(role=Role.TOOL, text="sunny", tool_call_id=call.id) for call in said.message.tool_calls
    ]
    shown = (Image("i", "image/png"),)
    request = ModelRequest(
        provider="p",
        model="m",
        messages=(
            Message(role=Role.SYSTEM, text="Be kind."),
            Message(role=Role.USER, text="Look.", images=shown),
            said.message,
            *results,
            ASKED,
        ),
        tools=(ToolSpec(name="weather", description="Tells.", parameters='{"type":"object"}'),),
        # Anthropic's client no longer has temperature and top_p, which only its older models take.
        params=ModelParams(
            temperature=None if wire.name == "anthropic" else 0.5, max_output_tokens=9, reasoning_effort="low"
        ),
        images={"i": b"\x89PNG"},
    )
    sent = msgspec.json.decode(bound.encode(request, stream=True))
    # What the types do not know is left out on the way.
    assert plain(TypeAdapter[object](FORMS[wire.name]).validate_python(sent)) == sent


def plain(value: Any) -> object:  # noqa: ANN401 - whatever the validation has made of JSON
    """JSON again, of a value in which pydantic has put iterators that may be used once."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in cast("dict[str, Any]", value).items()}
    return value if isinstance(value, str | int | float | None) else [plain(inner) for inner in value]
