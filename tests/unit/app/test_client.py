"""The client: answers become values, refusals errors of the tree, and short names whole ids."""

from collections.abc import Callable, Mapping

import httpx2
import msgspec
import pytest

from cattlegrid.app.client import Client, ServerUnreachable, refusal
from cattlegrid.core.errors import AlreadyDecided, CattlegridError, NotFound, Unauthenticated
from tests.unit.app.examples import APPROVAL, FINISHED, HELD, RUN, SESSION

pytestmark = pytest.mark.anyio

OTHER = "run_01KAF2M8WZ9999999999999999"


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> Client:
    return Client(
        httpx2.AsyncClient(base_url="http://127.0.0.1:8700", transport=httpx2.MockTransport(answer))
    )


def holding(pages: Mapping[str, object]) -> Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        found = pages.get(request.url.path, ())
        return httpx2.Response(200, content=msgspec.json.encode({"items": found, "next": None}))

    return answering(answer)


def refused(status: int, code: str, message: str = "No.") -> CattlegridError:
    body = {"error": {"code": code, "message": message, "correlation_id": "cor_1"}}
    return refusal(status, msgspec.json.encode(body))


async def test_a_refusal_is_the_same_error_here_as_there() -> None:
    assert isinstance(refused(404, "not_found"), NotFound)
    assert isinstance(refused(409, "already_decided"), AlreadyDecided)
    assert str(refused(409, "already_decided", "Decided.")) == "Decided."
    assert type(refused(418, "never_heard_of")) is CattlegridError


async def test_a_wrong_key_is_answered_with_how_to_give_another() -> None:
    error = refused(401, "unauthenticated", "This API key is not valid.")
    assert isinstance(error, Unauthenticated)
    assert "--key or CATTLEGRID_KEY" in str(error)


async def test_a_fault_of_the_server_names_the_request_for_its_operator() -> None:
    assert "cor_1" in str(refused(500, "internal"))
    assert "cor_1" not in str(refused(404, "not_found"))


async def test_something_else_that_answers_is_said_to_be_that() -> None:
    assert "not Cattlegrid (HTTP status 502)" in str(refusal(502, b"<html>Bad gateway</html>"))


async def test_nobody_who_answers_and_somebody_too_slow_are_said_plainly() -> None:
    def gone(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    def slow(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow")

    with pytest.raises(ServerUnreachable, match=r"No server answers at http://127.0.0.1:8700\. Start one"):
        await answering(gone).get("/runs")
    with pytest.raises(ServerUnreachable, match="too long"):
        await answering(slow).get("/runs")


async def test_a_page_is_read_as_values_and_empty_filters_are_not_sent() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert str(request.url.query, "ascii") == "limit=20"
        return httpx2.Response(200, content=msgspec.json.encode({"items": [FINISHED], "next": None}))

    assert await answering(answer).runs() == [FINISHED]


@pytest.mark.requirement("cli:inspect")
async def test_last_and_the_beginning_of_an_id_are_understood() -> None:
    client = holding({"/runs": [FINISHED], "/approvals": [HELD]})
    assert await client.id_of("run", "last") == RUN
    assert await client.id_of("run", RUN[:12]) == RUN
    assert await client.id_of("run", OTHER) == OTHER, "a whole id is for the server to judge"
    assert await client.id_of("approval", "last") == APPROVAL
    assert await client.id_of("approval", APPROVAL[:20]) == APPROVAL


async def test_what_is_not_there_or_not_clear_is_not_guessed() -> None:
    runs = [FINISHED, msgspec.structs.replace(FINISHED, id=OTHER)]
    client = holding({"/runs": runs, "/sessions": [], "/approvals": []})
    with pytest.raises(NotFound, match="can mean 2 of them"):
        await client.id_of("run", "run_01KAF")
    with pytest.raises(NotFound, match="cattlegrid runs list"):
        await client.id_of("run", "run_09")
    with pytest.raises(NotFound, match="There is no run"):
        await client.id_of("run", "r")
    with pytest.raises(NotFound, match="There is no session yet"):
        await client.id_of("session", "last")
    with pytest.raises(NotFound, match="No call waits"):
        await client.id_of("approval", "last")
    with pytest.raises(NotFound):
        await client.id_of("session", RUN)


async def test_a_stream_is_read_event_by_event_without_its_heartbeats() -> None:
    stream = (
        b"retry: 1000\n\n: still here\n\n"
        b'id: 2\nevent: run.started\ndata: {"run_id": "' + RUN.encode() + b'"}\n\n'
        b'event: message.delta\ndata: {"text": "Hel"}\n\n'
    )

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept"] == "text/event-stream"
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    events = [event async for event in answering(answer).events("/runs", {"agent": "shop"})]
    assert [(event.type, event.data) for event in events] == [
        ("run.started", {"run_id": RUN}),
        ("message.delta", {"text": "Hel"}),
    ]


async def test_a_stream_that_says_error_raises_it() -> None:
    stream = b'event: error\ndata: {"code": "session_ended", "message": "It has ended."}\n\n'

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with pytest.raises(CattlegridError, match="It has ended"):
        [event async for event in answering(answer).events(f"/sessions/{SESSION}/runs", {})]
