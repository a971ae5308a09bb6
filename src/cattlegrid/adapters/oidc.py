"""Implements `KeySource`: fetches the JWK set of an OpenID Connect issuer over HTTP, found by its discovery document.

Nothing is followed: no redirect, no address that is not https (http on this machine), no document of another issuer
(OpenID Connect Discovery 1.0, section 4.3). What goes wrong is `IdentityUnavailable` with one word of detail.
"""

from typing import Final, cast

import aiohttp
import msgspec

from cattlegrid.core.errors import IdentityUnavailable
from cattlegrid.release.identity import OidcFile, is_secure

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_MOST_BYTES: Final = 1024 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0, sock_connect=3.0)


class OidcKeySource:
    """The keys of one issuer. A connection is opened for each fetch: there is one in ten minutes."""

    def __init__(self, rules: OidcFile) -> None:
        self._issuer = rules.issuer
        self._jwks_url = rules.jwks_url

    async def fetch(self) -> bytes:
        """See `KeySource.fetch`."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
            url = self._jwks_url or await self._discovered(session)
            return await _get(session, url)

    async def _discovered(self, session: aiohttp.ClientSession) -> str:
        content = await _get(session, self._issuer.rstrip("/") + _WELL_KNOWN)
        try:
            found: object = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _unavailable("discovery_malformed") from error
        document = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        url = document.get("jwks_uri")
        if document.get("issuer") != self._issuer:
            raise _unavailable("discovery_of_another_issuer")
        if not isinstance(url, str) or not is_secure(url):
            raise _unavailable("jwks_uri_not_https")
        return url


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    try:
        async with session.get(
            url, allow_redirects=False, headers={"Accept": "application/json"}
        ) as response:
            if response.status != 200:
                raise _unavailable(f"status_{response.status}")
            content = await response.content.read(_MOST_BYTES + 1)
            while len(content) <= _MOST_BYTES and (piece := await response.content.read(_MOST_BYTES)):
                content += piece
    except TimeoutError as error:
        raise _unavailable("timeout") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _unavailable(type(error).__name__) from error
    if len(content) > _MOST_BYTES:
        raise _unavailable("too_large")
    return content


def _unavailable(reason: str) -> IdentityUnavailable:
    return IdentityUnavailable("Tokens cannot be checked now: their issuer does not answer.", detail=reason)
