"""The scripted model over HTTP: documents and streams, personas and faults by header, what it says of itself."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.testing.scripted import PERSONAS, ScriptedModelServer, create_app, serve

pytestmark = pytest.mark.anyio

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("find_order", "refund", "search", "delivery_status")
]
WAIT_S = 5.0
Fields = dict[str, Any]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S)) as session:
        yield session


def body(text: str = "Where is order 12 and do you sell a kettle?", **fields: object) -> Fields:
    return {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "user", "content": text}],
        "tools": TOOLS,
        **fields,
    }


async def post(
    http: aiohttp.ClientSession, model: ScriptedModelServer, content: Fields, **headers: str
) -> tuple[int, bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(f"{model.base_url}/chat/completions", json=content, headers=sent) as response:
        return response.status, await response.read()


def events(content: bytes) -> list[Fields]:
    parts = content.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.mark.requirement("scripted:server")
def assembled(chunks: list[Fields]) -> Fields:
    """The message that a stream builds, put together by index as a client must."""
    text, calls = "", dict[int, Fields]()
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            for part in delta.get("tool_calls", []):
                call = calls.setdefault(part["index"], {"id": part.get("id"), "name": "", "arguments": ""})
                call["name"] += part["function"].get("name", "")
                call["arguments"] += part["function"]["arguments"]
    return {"text": text, "calls": [calls[index] for index in sorted(calls)]}


@pytest.mark.requirement("scripted:server")
async def test_a_document_has_the_shape_of_the_common_format(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    status, content = await post(http, model, body())
    answer = msgspec.json.decode(content)
    assert status == 200
    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-4.1-mini")
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    called = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
    assert called == ["delivery_status", "search"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_stream_interleaves_parallel_calls_and_adds_up_to_the_document(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    _, document = await post(http, model, body())
    status, content = await post(http, model, body(stream=True))
    chunks = events(content)
    message = msgspec.json.decode(document)["choices"][0]["message"]
    expected = [{"id": call["id"], **call["function"]} for call in message["tool_calls"]]
    assert (status, assembled(chunks)) == (200, {"text": "", "calls": expected})
    order = [part["index"] for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert order[:4] == [0, 1, 0, 1]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.requirement("scripted:deterministic")
async def test_usage_ends_a_stream_when_it_is_asked_for(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    _, content = await post(http, model, body("Hi", stream=True, stream_options={"include_usage": True}))
    chunks = events(content)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 1
    assert {chunk["usage"] for chunk in map(dict, chunks[:-1])} == {None}
    assert assembled(chunks)["text"].startswith("Hello!")


async def test_a_repeated_prefix_is_reported_as_cached_and_the_rest_stays_the_same(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    first, second = [msgspec.json.decode((await post(http, model, body()))[1]) for _ in range(2)]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == first["usage"]["prompt_tokens"]
    del first["usage"], second["usage"]
    assert first == second


async def test_an_answer_longer_than_the_limit_is_cut_and_says_so(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    _, content = await post(http, model, body("Hi", max_completion_tokens=5))
    answer = msgspec.json.decode(content)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5


async def test_a_header_or_the_name_of_the_model_chooses_the_persona(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    by_header = await post(http, model, body("order 17"), x_scripted_persona="inventive")
    by_name = await post(http, model, body("order 17", model="gpt-4.1-mini@inventive"))
    for _, content in (by_header, by_name):
        (call,) = msgspec.json.decode(content)["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "issue_store_credit"
    status, content = await post(http, model, body(model="gpt-4.1-mini@evil"))
    assert status == 400
    assert "is no persona" in msgspec.json.decode(content)["error"]["message"]


async def test_what_is_no_request_is_refused_with_an_error_document(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    status, content = await post(http, model, {"model": "m"})
    assert (status, msgspec.json.decode(content)["error"]["type"]) == (400, "invalid_request_error")
    long = {"model": "m", "messages": [{"role": "user", "content": "word " * 110_000}]}
    status, content = await post(http, model, long)
    assert (status, msgspec.json.decode(content)["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("429;delay=3", 429)])
async def test_a_refused_attempt_is_followed_by_a_good_one(
    model: ScriptedModelServer, http: aiohttp.ClientSession, *, fault: str, status: int
) -> None:
    statuses = [(await post(http, model, body(), x_scripted_fault=f"{fault};count=2"))[0] for _ in range(3)]
    assert statuses == [status, status, 200]


async def test_a_rate_limit_says_when_to_come_back(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    url, headers = f"{model.base_url}/chat/completions", {"x-scripted-fault": "429;delay=3"}
    async with http.post(url, json=body(), headers=headers) as response:
        assert response.headers["retry-after"] == "3"


async def test_a_cut_stream_has_no_end_and_the_next_attempt_has(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    _, cut = await post(http, model, body(stream=True), x_scripted_fault="cut")
    assert cut.count(b"data: ") == 2
    assert b"[DONE]" not in cut
    _, whole = await post(http, model, body(stream=True), x_scripted_fault="cut")
    assert events(whole)


@pytest.mark.parametrize("fault", ["cut", "malformed"])
async def test_a_damaged_document_is_no_json(
    model: ScriptedModelServer, http: aiohttp.ClientSession, fault: str
) -> None:
    _, content = await post(http, model, body(), x_scripted_fault=fault)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(content)


async def test_a_malformed_stream_has_one_chunk_that_is_no_json(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    _, content = await post(http, model, body(stream=True), x_scripted_fault="malformed;at=1")
    broken: list[str] = []
    for part in content.decode().split("\n\n")[:-2]:
        try:
            msgspec.json.decode(part.removeprefix("data: "))
        except msgspec.DecodeError:
            broken.append(part)
    assert len(broken) == 1


async def test_a_stall_lasts_until_the_client_gives_up(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    headers = {"x-scripted-fault": "stall;delay=60"}
    patience = aiohttp.ClientTimeout(total=0.1)
    url = f"{model.base_url}/chat/completions"
    with pytest.raises(TimeoutError):
        await http.post(url, json=body(), headers=headers, timeout=patience)
    status, _ = await post(http, model, body(), x_scripted_fault="stall;delay=60")
    assert status == 200


async def test_a_stall_in_the_stream_comes_after_its_first_chunks(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    headers = {"x-scripted-fault": "stall;at=2;delay=60"}
    url = f"{model.base_url}/chat/completions"
    async with http.post(url, json=body(stream=True), headers=headers) as response:
        first = await response.content.readany()
        assert first.count(b"data: ") == 2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await response.content.readany()


@pytest.mark.requirement("scripted:personas")
async def test_a_short_stall_and_a_slow_stream_are_whole_in_the_end(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    for fault in ("stall;at=1;delay=0.01", "slow;delay=0.001"):
        _, content = await post(http, model, body(f"{fault} order 12", stream=True), x_scripted_fault=fault)
        assert events(content)


async def test_the_flaky_server_answers_every_request_in_the_end(http: aiohttp.ClientSession) -> None:
    async with ScriptedModelServer(persona="flaky", seed=3, stall_s=0.01) as model:
        troubles = 0
        for number in range(40):
            for _ in range(4):
                status, content = await post(http, model, body(f"Where is order {number}?", stream=True))
                try:
                    assert status == 200
                    events(content)
                    break
                except (AssertionError, msgspec.DecodeError):
                    troubles += 1
            else:
                pytest.fail(f"request {number} never succeeded")
        assert model.app.completions == 40 + troubles
        assert 5 < troubles < 40


@pytest.mark.requirement("scripted:server")
async def test_delays_hold_back_the_first_byte_and_every_chunk(http: aiohttp.ClientSession) -> None:
    async with ScriptedModelServer(latency_s=0.05, chunk_delay_s=0.005) as model:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        _, content = await post(http, model, body("Hi", stream=True))
        assert loop.time() - started_s >= 0.05 + 0.005 * len(events(content))


async def test_it_says_that_it_is_an_instrument_and_no_model(
    model: ScriptedModelServer, http: aiohttp.ClientSession
) -> None:
    root = model.base_url.removesuffix("/v1")
    async with http.get(f"{root}/") as response:
        told = await response.json()
    assert "not a language model" in told["notice"]
    assert told["settings"]["persona"] == "careful"
    async with http.get(f"{root}/health") as response:
        assert response.status == 200
    async with http.get(f"{model.base_url}/models") as response:
        names = [entry["id"] for entry in (await response.json())["data"]]
    assert names == ["gpt-4.1-mini", *(f"gpt-4.1-mini@{persona}" for persona in PERSONAS)]
    async with http.get(f"{root}/nothing") as response:
        assert response.status == 404


async def test_a_server_stops_at_once_while_an_answer_stalls(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(WAIT_S), ScriptedModelServer(fault="stall;at=1;delay=60") as model:
        response = await http.post(f"{model.base_url}/chat/completions", json=body(stream=True))
        await response.content.readany()
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()


async def test_an_address_that_is_taken_is_an_error(model: ScriptedModelServer) -> None:
    port = int(model.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    with pytest.raises(OSError, match="in use"):
        await serve(create_app(), port=port)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        create_app(persona="evil")
    with pytest.raises(InvalidRequest):
        create_app(fault="418")


def test_in_a_process_of_its_own_it_prints_its_address_and_stops_on_a_signal() -> None:
    command = [sys.executable, "-m", "cattlegrid.testing.scripted", "--port", "0", "--persona", "looping"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/v1")
