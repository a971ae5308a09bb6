"""A server that lets the users of an issuer in: a loopback issuer over HTTP, its keys made here, rotated and taken away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from cattlegrid.adapters.oidc import OidcKeySource
from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.identity import record_configuration
from cattlegrid.app.settings import load_settings
from cattlegrid.core.errors import IdentityUnavailable
from cattlegrid.release.identity import OidcFile
from cattlegrid.server.bind import check_bind
from cattlegrid.server.tokens import Tokens
from tests.unit.server.issuer import Issuer, key_of, signed

pytestmark = pytest.mark.anyio

EVERYWHERE = "0.0.0.0"  # noqa: S104 - allowed once tokens let people in
Answer = Callable[[str], tuple[int, bytes]]


class LoopbackIssuer:
    """An issuer on a loopback port: what it answers at each path is a test's choice."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.url = ""
        self.asked: list[str] = []
        self.answer: Answer = self.usual

    def usual(self, path: str) -> tuple[int, bytes]:
        """As issuers do."""
        if path == "/.well-known/openid-configuration":
            return 200, msgspec.json.encode({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        return (200, self.issuer.jwks()) if path == "/keys" else (404, b"")

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
            self.asked.append(path)
            status, content = self.answer(path)
            location = f"Location: {self.url}/keys\r\n" if status == 302 else ""
            head = f"HTTP/1.1 {status} X\r\n{location}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
        writer.close()

    def token(self, **claims: object) -> str:
        """A token of the newest key, good for five minutes from now."""
        now = datetime.now(UTC)
        good = {
            "iss": self.url,
            "aud": "cattlegrid",
            "sub": "kim",
            "exp": (now + timedelta(minutes=5)).timestamp(),
        }
        return signed(self.issuer.keys[-1], {**good, **claims})

    @property
    def rules(self) -> OidcFile:
        return OidcFile(issuer=self.url, audience="cattlegrid")


@pytest.fixture
async def loopback() -> AsyncGenerator[LoopbackIssuer]:
    found = LoopbackIssuer(Issuer(key_of("one")))
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found


@pytest.mark.requirement("identity:issuer")
async def test_keys_are_found_by_the_discovery_document_or_where_one_says(loopback: LoopbackIssuer) -> None:
    assert await OidcKeySource(loopback.rules).fetch() == loopback.issuer.jwks()
    assert loopback.asked == ["/.well-known/openid-configuration", "/keys"]
    told = OidcFile(issuer="https://issuer.example.com", audience="x", jwks_url=f"{loopback.url}/keys")
    assert await OidcKeySource(told).fetch() == loopback.issuer.jwks()


@pytest.mark.requirement("identity:issuer")
@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"issuer": "https://other.example.com", "jwks_uri": "URL/keys"}, "discovery_of_another_issuer"),
        ({"jwks_uri": "URL/keys"}, "discovery_of_another_issuer"),
        ({"issuer": "URL", "jwks_uri": "http://192.0.2.7/keys"}, "jwks_uri_not_https"),
        ({"issuer": "URL", "jwks_uri": "file:///etc/passwd"}, "jwks_uri_not_https"),
        ({"issuer": "URL", "jwks_uri": 5}, "jwks_uri_not_https"),
        ({"issuer": "URL"}, "jwks_uri_not_https"),
        ([], "discovery_of_another_issuer"),
        (None, "discovery_malformed"),
    ],
)
async def test_a_discovery_document_that_leads_elsewhere_is_not_followed(
    document: object, reason: str, loopback: LoopbackIssuer
) -> None:
    content = msgspec.json.encode(document) if document is not None else b"{"
    loopback.answer = lambda _: (200, content.replace(b"URL", loopback.url.encode()))
    with pytest.raises(IdentityUnavailable) as refused:
        await OidcKeySource(loopback.rules).fetch()
    assert refused.value.detail == reason
    assert loopback.asked == ["/.well-known/openid-configuration"]


@pytest.mark.requirement("identity:issuer")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [((302, b""), "status_302"), ((500, b""), "status_500"), ((200, b"x" * 1_200_000), "too_large")],
    ids=lambda value: value if isinstance(value, str) else "answer",
)
async def test_redirects_errors_and_floods_are_no_keys(
    answer: tuple[int, bytes], reason: str, loopback: LoopbackIssuer
) -> None:
    loopback.answer = lambda _: answer
    with pytest.raises(IdentityUnavailable) as refused:
        await OidcKeySource(loopback.rules).fetch()
    assert refused.value.detail == reason


async def test_an_issuer_that_is_not_there_is_said_to_be_unavailable() -> None:
    source = OidcKeySource(OidcFile(issuer="http://127.0.0.1:1", audience="x"))
    with pytest.raises(IdentityUnavailable):
        await source.fetch()


@pytest.mark.requirement("identity:rotation", "identity:claims", "server:bind")
async def test_a_project_lets_the_issuer_s_users_in_and_follows_its_keys(
    loopback: LoopbackIssuer, tmp_path: Path
) -> None:
    (tmp_path / "cattlegrid.yaml").write_text(
        "models:\n  small: {provider: openai, model: gpt-4.1-mini}\n"
        f"identity:\n  oidc:\n    issuer: {loopback.url}\n    audience: cattlegrid\n"
        "    tenant_claim: org\n    roles_claim: groups\n    roles: {sec: [security]}\n"
    )
    settings = load_settings(tmp_path, {})
    async with open_project(settings, background=False) as project:
        await register_agents(project.registry, settings)
        tokens = project.services.tokens
        assert isinstance(tokens, Tokens)
        await check_bind(EVERYWHERE, project.services.keys, tokens=True)
        await record_configuration(settings, project.services.engine.audit)
        transport = httpx2.ASGITransport(cast("ASGIApp", project.app))
        async with httpx2.AsyncClient(transport=transport, base_url="http://cattlegrid.test") as http:

            async def status(path: str, token: str) -> int:
                return (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code

            first = loopback.token(org="acme")
            assert await status("/sessions", first) == 200
            assert await status("/audit", first) == 403
            assert await status("/audit", loopback.token(org="default", groups=["sec"])) == 200
            assert await status("/sessions", loopback.token()) == 401, "no tenant"
            assert await status("/sessions", f"{first[:-4]}AAAA") == 401
            # The issuer rotates: its new key counts once upkeep has read the set again, the old one no longer.
            loopback.issuer.keys = [key_of("two")]
            await tokens.refresh()
            assert await status("/sessions", loopback.token(org="acme")) == 200
            assert await status("/sessions", first) == 401
            lines = await project.services.engine.audit.lines("default")
            assert [(line.action, line.subject.partition(":")[0]) for line in lines] == [
                ("configuration", "development")
            ]
