"""What the HTTP client promises beyond the contract: time-outs of its own, one pool, and nothing that leaks."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import (
    ConfigurationError,
    ModelError,
    ModelProtocolError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from cattlegrid.core.messages import Message, ModelDelta, ModelParams, ModelRequest, Role, TextDelta
from tests.contract.model_endpoint import (
    HANG_UP,
    HOLD,
    STREAM_HEAD,
    ModelEndpoint,
    completion,
    delta,
    last,
    model_endpoint,
    piece,
    response,
)

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()
KEY = "a-key-that-nobody-may-see"
REQUEST = ModelRequest(
    provider="p",
    model="m",
    messages=(Message(role=Role.USER, text="Hi"),),
    params=ModelParams(max_output_tokens=9),
)
WHOLE = response(200, completion({"content": "Hello"}, finish="stop"))
STREAM = STREAM_HEAD + delta({"content": "Hello"}) + delta({}, finish="stop") + last()


@pytest.fixture
async def endpoint() -> AsyncIterator[ModelEndpoint]:
    async with model_endpoint() as listening:
        yield listening


@pytest.fixture
async def client(endpoint: ModelEndpoint) -> AsyncIterator[HttpModelClient]:
    settings = Endpoint(
        name="p", base_url=endpoint.url + "/", first_byte_s=0.1, between_chunks_s=0.1, connections=4
    )
    made = HttpModelClient(settings, api_key=KEY, clock=CLOCK)
    yield made
    await made.close()


async def asked(client: HttpModelClient, *, streamed: bool = True, within_s: float = 10.0) -> str:
    deltas: list[ModelDelta] = []
    answer = await client.chat(
        REQUEST, deadline=Deadline.after(CLOCK, within_s), on_delta=deltas.append if streamed else None
    )
    assert not streamed or deltas == [TextDelta(answer.message.text)]
    return answer.message.text


async def test_the_request_goes_to_the_endpoint_with_the_key(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((STREAM,), (WHOLE,))
    assert await asked(client) == await asked(client, streamed=False) == "Hello"
    streamed, whole = endpoint.asked
    assert streamed.head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}\r\n" in streamed.head
    assert "Cookie" not in streamed.head
    assert json.loads(whole.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
    }


async def test_openai_gets_the_limit_under_its_newer_name(endpoint: ModelEndpoint) -> None:
    endpoint.play((), (WHOLE,))
    settings = Endpoint(name="p", base_url=endpoint.url, limit_field="max_completion_tokens")
    client = HttpModelClient(settings, api_key="", clock=CLOCK)
    await asked(client, streamed=False)
    await client.close()
    assert json.loads(endpoint.asked[0].body)["max_completion_tokens"] == 9
    assert "Authorization" not in endpoint.asked[0].head


@pytest.mark.requirement("model:timeouts")
async def test_a_stream_that_does_not_begin_ends_long_before_the_deadline(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((HOLD,), ())
    with pytest.raises(ModelTimeout, match=r"no first byte for 0.1 s"):
        await asked(client)


@pytest.mark.requirement("model:timeouts")
async def test_a_stream_that_stalls_ends_long_before_the_deadline(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((STREAM_HEAD + delta({"content": "Hel"}), HOLD), ())
    with pytest.raises(ModelTimeout, match=r"the stream stalled for 0.1 s"):
        await client.chat(REQUEST, deadline=Deadline.after(CLOCK, 10.0), on_delta=lambda _: None)


@pytest.mark.requirement("model:timeouts")
async def test_the_deadline_ends_a_stream_that_never_stalls(endpoint: ModelEndpoint) -> None:
    endpoint.play((STREAM_HEAD, *[delta({"content": "x"})] * 50, HOLD), ())
    client = HttpModelClient(Endpoint(name="p", base_url=endpoint.url), api_key="", clock=CLOCK)
    with pytest.raises(ModelTimeout, match="the deadline passed"):
        await client.chat(REQUEST, deadline=Deadline.after(CLOCK, 0.1), on_delta=lambda _: None)
    await client.close()


@pytest.mark.requirement("model:timeouts")
async def test_a_connection_that_is_not_made_in_time_leaves_the_model_unavailable(
    endpoint: ModelEndpoint,
) -> None:
    # TLS is spoken to a server that waits for the end of an HTTP head and says nothing.
    url = endpoint.url.replace("http:", "https:")
    client = HttpModelClient(Endpoint(name="p", base_url=url, connect_s=0.1), api_key="", clock=CLOCK)
    with pytest.raises(ModelUnavailable, match=r"no connection within 0.1 s"):
        await asked(client)
    await client.close()


async def test_one_connection_serves_call_after_call(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((STREAM,), (WHOLE,))
    for _ in range(5):
        await asked(client)
        await asked(client, streamed=False)
    assert endpoint.connections == 1


async def test_a_server_that_does_not_end_its_response_costs_the_connection_not_the_answer(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((STREAM.removesuffix(b"0\r\n\r\n"), HOLD), ())
    assert await asked(client) == "Hello"
    await asyncio.wait_for(endpoint.abandoned.wait(), 10)


async def test_a_kept_connection_that_the_server_has_closed_leads_to_no_nonsense(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((), (WHOLE, HANG_UP))
    answers: list[object] = []
    for _ in range(3):
        try:
            answers.append(await asked(client, streamed=False))
        except ModelError as error:
            answers.append(type(error))
    assert set(answers) <= {"Hello", ModelUnavailable}


async def test_a_server_that_does_not_stream_is_understood(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((WHOLE,), ())
    assert await asked(client) == "Hello"


async def test_a_redirect_is_not_followed(endpoint: ModelEndpoint, client: HttpModelClient) -> None:
    endpoint.play((), (response(307, b"", f"Location: {endpoint.url}/elsewhere"),))
    with pytest.raises(ModelRejected, match="HTTP 307"):
        await asked(client, streamed=False)
    assert len(endpoint.asked) == 1


async def test_a_streamless_server_may_ask_for_tools_without_a_word(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    called: dict[str, object] = {"tool_calls": [{"id": "a", "function": {"name": "time", "arguments": "{}"}}]}
    endpoint.play((response(200, completion(called, finish="tool_calls")),), ())
    deltas: list[ModelDelta] = []
    answer = await client.chat(REQUEST, deadline=Deadline.after(CLOCK, 10.0), on_delta=deltas.append)
    assert [call.name for call in answer.message.tool_calls] == ["time"]
    assert deltas == []


async def test_of_a_huge_error_only_the_beginning_is_read(
    endpoint: ModelEndpoint, client: HttpModelClient
) -> None:
    endpoint.play((response(503, b"x" * 1_000_000), HOLD), ())
    with pytest.raises(ModelUnavailable) as raised:
        await asked(client)
    assert len(raised.value.detail) <= 500


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/9.9 nonsense\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        STREAM_HEAD + b"zz\r\nnonsense",
        STREAM_HEAD + piece(b"data: {}\n\n") + b"-1\r\n",
    ],
)
async def test_broken_http_is_a_broken_protocol(
    endpoint: ModelEndpoint, client: HttpModelClient, said: bytes
) -> None:
    endpoint.play((said, HANG_UP), ())
    with pytest.raises(ModelProtocolError):
        await asked(client)


@pytest.mark.parametrize("url", ["http://[broken", "", "api.openai.com/v1", "ftp://host/v1"])
def test_an_address_that_is_none_is_refused_before_any_call(url: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpModelClient(Endpoint(name="p", base_url=url), api_key="", clock=CLOCK)


async def test_a_closed_client_is_unavailable(endpoint: ModelEndpoint, client: HttpModelClient) -> None:
    await client.close()
    with pytest.raises(ModelUnavailable, match="closed"):
        await asked(client)
    assert endpoint.asked == []


async def test_the_key_is_in_no_log_no_error_and_no_picture_of_the_client(
    endpoint: ModelEndpoint, client: HttpModelClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.play((HANG_UP,), (response(401, f'{{"error":"no such key: {KEY}"}}'.encode()),))
    errors: list[ModelError] = []
    for streamed in (True, False):
        with pytest.raises(ModelError) as raised:
            await asked(client, streamed=streamed)
        errors.append(raised.value)
    assert KEY not in caplog.text + repr(client) + "".join(f"{e!r}{e}{e.__cause__!r}" for e in errors)
