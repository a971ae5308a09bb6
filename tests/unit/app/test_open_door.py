"""Without keys on one machine: programs come in as the customer of development, web pages do not."""

import pytest
from starlette.types import Receive, Scope, Send

from cattlegrid.app.open_door import OpenDoor

pytestmark = pytest.mark.anyio

HOST = (b"host", b"127.0.0.1:8700")


async def names_after(*headers: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    seen: dict[bytes, bytes] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope["headers"])

    async def nothing() -> dict[str, str]:
        return {}

    async def nowhere(message: object) -> None: ...

    await OpenDoor(app, key="cg_dev", user="you@example.com")(
        {"type": "http", "headers": list(headers)}, nothing, nowhere
    )
    return seen


@pytest.mark.parametrize("host", [b"127.0.0.1:8700", b"localhost:8700", b"[::1]:8700"])
async def test_a_request_without_a_key_gets_one(host: bytes) -> None:
    seen = await names_after((b"host", host))
    assert seen[b"authorization"] == b"Bearer cg_dev"
    assert seen[b"x-cattlegrid-user"] == b"you@example.com"


@pytest.mark.parametrize(
    "own",
    [
        (b"authorization", b"Bearer cg_own"),
        (b"x-api-key", b"cg_own"),
        (b"x-cattlegrid-user", b"bo@example.com"),
        (b"origin", b"https://elsewhere.example"),
        (b"sec-fetch-site", b"cross-site"),
    ],
)
async def test_what_brings_its_own_key_or_comes_from_a_page_is_left_as_it_is(
    own: tuple[bytes, bytes],
) -> None:
    assert await names_after(HOST, own) == dict([HOST, own])


@pytest.mark.parametrize("host", [b"evil.example:8700", b"127.0.0.1.evil.example:80", b"evil.example", b""])
async def test_another_name_for_this_machine_opens_nothing(host: bytes) -> None:
    assert b"authorization" not in await names_after((b"host", host))
