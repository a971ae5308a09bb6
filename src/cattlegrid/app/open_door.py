"""Lets requests without a key in as the customer of development: for one machine, for trying things out, never more.

Only requests that a program of this machine sends to this very address pass; a web page that makes a browser ask under
another name is turned to the usual check, which refuses it.
"""

from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL_NAMES: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_OWN_WAY: Final = frozenset(
    {b"authorization", b"x-api-key", b"x-cattlegrid-user", b"origin", b"sec-fetch-site"}
)
"""With one of these a request brings a key, names a user, or comes from a web page."""


class OpenDoor:
    """A middleware that adds a key to requests that bring none."""

    def __init__(self, app: ASGIApp, *, key: str, user: str) -> None:
        self._app = app
        self._added = [(b"authorization", f"Bearer {key}".encode()), (b"x-cattlegrid-user", user.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = cast("list[tuple[bytes, bytes]]", scope.get("headers", []))
        if scope["type"] == "http" and _may_pass(headers):
            scope = {**scope, "headers": [*headers, *self._added]}
        await self._app(scope, receive, send)


def _may_pass(headers: list[tuple[bytes, bytes]]) -> bool:
    names = {name for name, _ in headers}
    host = next((value for name, value in headers if name == b"host"), b"")
    return not names & _OWN_WAY and host.rpartition(b":")[0] in _LOCAL_NAMES
