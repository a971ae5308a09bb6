"""Requests to an app in this process: answered like over a network, streams included."""

import asyncio

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cattlegrid.app.in_process import InProcessTransport

pytestmark = pytest.mark.anyio


def client(app: ASGIApp) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url="http://127.0.0.1", transport=InProcessTransport(app))


async def test_the_app_sees_the_request_and_the_client_the_answer() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/a b", b"x=1")
        assert (b"x-name", b"value") in scope["headers"]
        assert scope["client"][0] == "127.0.0.1"
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-back", b"yes")]})
        await send({"type": "http.response.body", "body": message["body"] + b"!"})

    async with client(echo) as http:
        answer = await http.post("/a%20b?x=1", content=b"hello", headers={"X-Name": "value"})
    assert (answer.status_code, answer.headers["x-back"], answer.content) == (201, "yes", b"hello!")


async def test_a_stream_arrives_while_it_is_made() -> None:
    more = asyncio.Event()

    async def two_pieces(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"second", "more_body": False})

    async with client(two_pieces) as http, http.stream("GET", "/") as answer:
        pieces = answer.aiter_raw()
        assert await asyncio.wait_for(anext(pieces), 5) == b"first"
        more.set()
        assert await asyncio.wait_for(anext(pieces), 5) == b"second"


async def test_a_client_that_leaves_is_noticed() -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await receive()
            await receive()
        finally:
            ended.set()

    async with client(endless) as http:
        async with http.stream("GET", "/") as answer:
            await anext(answer.aiter_raw())
        await asyncio.wait_for(ended.wait(), 5)


async def test_an_app_that_breaks_or_says_nothing_is_an_error() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async with client(broken) as http:
        with pytest.raises(ValueError, match="broken"):
            await http.get("/")
    async with client(silent) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get("/")
