"""Bad input: it is refused with what was wrong, in one shape, early, and nothing of it is repeated."""

from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.server.body import MAX_DEPTH
from cattlegrid.testing.models import answer
from tests.unit.server.site import Site, Wire, open_site

pytestmark = pytest.mark.anyio

MEGABYTE = b"x" * 1_000_000


def refusal(answered: httpx2.Response, status: int, code: str) -> str:
    """The message of a refusal, which has the one shape of all."""
    assert answered.status_code == status, answered.text
    assert set(answered.json()) == {"error"}
    error: dict[str, str] = answered.json()["error"]
    assert set(error) == {"code", "message", "type", "param", "correlation_id"}
    assert error["code"] == code
    assert error["correlation_id"] == answered.headers["x-correlation-id"]
    assert answered.headers["cache-control"] == "no-store"
    return error["message"]


async def sent(site: Site, body: bytes, content_type: str = "application/json") -> httpx2.Response:
    headers = {**site.headers("ana"), "Content-Type": content_type}
    return await site.http.post("/runs", content=body, headers=headers)


@pytest.mark.requirement("input:size")
async def test_ten_megabytes_are_refused_before_any_of_it_is_read() -> None:
    site = await open_site()
    headers = {"Content-Length": str(10 * len(MEGABYTE)), "Content-Type": "application/json"}
    async with Wire(site.app, "POST", "/runs", [MEGABYTE] * 10, {**headers, **site.headers("ana")}) as wire:
        assert (wire.status, wire.received_before) == (413, 0)
        assert b'"code":"too_large"' in await wire.body()
        assert "connection" not in wire.headers, "the client is to read this answer"


@pytest.mark.requirement("input:size")
async def test_a_body_of_no_declared_length_is_refused_once_it_is_too_long() -> None:
    site = await open_site()
    async with Wire(site.app, "POST", "/runs", [MEGABYTE] * 10, site.headers("ana")) as wire:
        assert (wire.status, wire.received_before, wire.headers["connection"]) == (413, 2, "close")


@pytest.mark.parametrize("declared", ["-1", "1e9", "9" * 400, "٣"])
async def test_a_declared_length_that_is_none_breaks_nothing(declared: str) -> None:
    site = await open_site(model=[answer("Hello.")])
    headers = {"Content-Length": declared, "Content-Type": "application/json", **site.headers("ana")}
    async with Wire(site.app, "POST", "/runs", [b'{"agent":"support","input":"Hi"}'], headers) as wire:
        assert wire.status in {200, 413}


@pytest.mark.requirement("input:size")
async def test_an_input_above_the_limit_of_the_agent_is_too_large() -> None:
    site = await open_site()
    answered = await site.post("/runs", {"agent": "support", "input": "x" * 32_769})
    assert "32768" in refusal(answered, 413, "too_large")


@pytest.mark.requirement("input:json")
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"hello",
        b'{"agent":"support",}',
        b"\xef\xbb\xbf{}",
        b'{"a":NaN}',
        b"[1e999]",
        b"1" * 5_000,
        b"\x00",
        '{"a":"ü"}'.encode("utf-16"),
        b'{"a":"\x07"}',
    ],
)
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    site = await open_site()
    assert "not JSON" in refusal(await sent(site, body), 400, "invalid_request")


@pytest.mark.requirement("input:text")
@pytest.mark.parametrize(
    "body",
    [
        b'{"agent":"support","input":"\xff\xfe"}',
        b'{"agent":"support","input":"\xed\xa0\x80"}',
        b'{"agent":"support","input":"\\ud800"}',
        b'{"agent":"support","input":"\\udc00\\ud800"}',
    ],
)
async def test_what_is_no_unicode_text_is_refused(body: bytes) -> None:
    site = await open_site()
    refusal(await sent(site, body), 400, "invalid_request")


@pytest.mark.requirement("input:text")
async def test_control_characters_are_dropped_and_emoji_pass_unchanged() -> None:
    site = await open_site(model=lambda request: answer(request.messages[-1].text))
    run = await site.ask("a\x00b\x1b[31m c\u0085d \U0001f469\u200d\U0001f680\n\tü")
    assert run["output"] == "ab[31m cd \U0001f469\u200d\U0001f680\n\tü"
    refused = await site.post("/runs", {"agent": "sup\x00port", "input": "Hi"})
    refusal(refused, 404, "not_found")


@pytest.mark.requirement("input:json")
async def test_deep_nesting_is_refused_and_wide_values_are_not() -> None:
    site = await open_site()
    for depth in (MAX_DEPTH + 1, 100_000):
        deep = b'{"agent":"support","input":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
        assert "nested" in refusal(await sent(site, deep), 400, "invalid_request")
    refusal(await sent(site, b'{"agent":[' + b",".join([b"[]"] * 100) + b"]}"), 422, "invalid_request")


@pytest.mark.requirement("input:json")
@pytest.mark.parametrize(
    "content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"]
)
async def test_a_body_that_is_not_declared_as_json_is_refused(content_type: str) -> None:
    site = await open_site()
    refusal(
        await sent(site, b'{"agent":"support","input":"Hi"}', content_type), 415, "unsupported_media_type"
    )


@pytest.mark.requirement("input:json")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "body.input: Field required; body.agent: Field required"),
        ({"agent": "support", "input": "Hi", "model": "x"}, "body.model: there is no such field"),
        ({"agent": "support", "input": 7}, "body.input: Input should be a valid string"),
        ({"agent": "support", "input": ""}, "body.input: String should have at least 1 character"),
        (
            {"agent": "support", "input": "Hi", "on_busy": "wait"},
            "body.on_busy: Input should be 'queue', 'reject'",
        ),
        ([], "body: Input should be"),
        (None, "body: Field required"),
    ],
)
async def test_what_does_not_fit_is_said_with_its_place(body: Any, told: str) -> None:  # noqa: ANN401
    site = await open_site()
    assert told in refusal(await site.post("/runs", body), 422, "invalid_request")


async def test_values_and_odd_names_that_a_client_sent_are_not_repeated() -> None:
    site = await open_site()
    secret = "cg_01ARZ3NDEKTSV4RRFFQ69G5FAV_" + "s" * 43
    for body in ({secret: 1}, {"agent": [secret], "input": {"x": secret}}, {"agent": secret, "input": "Hi"}):
        answered = await site.post("/runs", body)
        assert answered.status_code in {404, 422}
        assert "sss" not in answered.text
    answered = await site.get(f"/runs?limit={secret}&status={secret}")
    assert answered.status_code == 422
    assert "sss" not in answered.text


async def test_many_problems_are_counted_and_the_first_ones_told() -> None:
    site = await open_site()
    message = refusal(await site.post("/runs", {f"x{n}": n for n in range(20)}), 422, "invalid_request")
    assert message.count(";") == 5
    assert "and 17 more" in message


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/runs/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("DELETE", "/runs", 405, "method_not_allowed"),
        ("PATCH", "/health", 405, "method_not_allowed"),
        ("GET", "/runs/%00", 404, "not_found"),
        ("GET", "/runs/%ff%fe", 404, "not_found"),
        ("GET", "/runs/..%2f..%2fetc", 404, "not_found"),
        ("GET", "/runs?before=%00%ff", 200, ""),
    ],
)
async def test_addresses_and_methods_that_are_none_are_refused_in_the_same_shape(
    method: str, path: str, status: int, code: str
) -> None:
    site = await open_site()
    answered = await site.http.request(method, path, headers=site.headers("ana"))
    if status == 200:
        assert answered.status_code == 200
    else:
        refusal(answered, status, code)
    assert ("allow" in answered.headers) == (status == 405)


@pytest.mark.requirement("server:errors")
async def test_an_unexpected_exception_tells_nothing_but_where_to_ask() -> None:
    site = await open_site()

    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    site.rebuilt(msgspec.structs.replace(site.services, ready=broken))
    answered = await site.get("/ready")
    message = refusal(answered, 500, "internal")
    assert "hunter2" not in answered.text
    assert "correlation id" in message


@pytest.mark.requirement("server:errors")
async def test_a_correlation_id_is_taken_from_the_client_when_it_may_be_logged() -> None:
    site = await open_site()
    for sent_id in ("mine-1.x_Y", "x" * 65, "a b", "a\tb"):
        answered = await site.get("/runs/run_x", X_Correlation_Id=sent_id)
        shown: str = answered.json()["error"]["correlation_id"]
        assert shown == sent_id if sent_id == "mine-1.x_Y" else shown.startswith("cor_")


async def test_a_body_that_does_not_arrive_in_time_is_waited_for_no_longer() -> None:
    site = await open_site(settings={"body_wait_s": 0.05})
    wire = Wire(site.app, "POST", "/runs", [], site.headers("ana"))
    async with wire:
        assert wire.status == 408
        assert b'"code":"timeout"' in await wire.body()


async def test_a_client_that_leaves_while_it_sends_is_let_go() -> None:
    site = await open_site()
    messages: list[Any] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:  # noqa: ANN401
        return messages.pop(0)

    async def send(message: Any) -> None:  # noqa: ANN401
        raise AssertionError(f"nobody is there to hear {message}")

    await site.app(site.open("POST", "/runs").scope, receive, send)
    assert messages == []


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_value_as_a_body_is_refused_or_answered_but_never_breaks(value: Any) -> None:  # noqa: ANN401
    async def ask() -> httpx2.Response:
        site = await open_site(model=lambda _: answer("Hello."))
        return await site.http.post("/runs", json=value, headers=site.headers("ana"))

    answered = anyio.run(ask)
    assert answered.status_code in {400, 413, 422}
