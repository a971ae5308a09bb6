"""Turns a token of an OpenID Connect issuer into the principal that everything further in is judged for.

A token counts when its signature is one of the declared algorithms under a key of the issuer, and `iss`, `aud`, `exp`,
`nbf` and `iat` hold now (RFC 7519, RFC 8725). Its claims become tenant, user and roles by the rules of
`cattlegrid.yaml`: what is not declared there grants nothing. Whatever is wrong, the caller hears the same sentence.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from cattlegrid.core.errors import Forbidden, InvalidRequest, Unauthenticated
from cattlegrid.core.ports import Clock
from cattlegrid.core.principal import Principal
from cattlegrid.release.identity import DEFAULT_TENANT, OidcFile
from cattlegrid.server.jwks import IssuerKeys
from cattlegrid.server.names import check_tenant, check_user

OIDC: Final = "oidc"
_TOKEN_BYTES: Final = 16_384
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Kinds of tokens (`typ`) that speak for a user; a logout token or a proof of possession does not (RFC 8725, 3.11)."""
_UNREADABLE: Final = (
    JoseError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading hostile bytes may raise; every one of them means that the token is refused."""
_log = structlog.get_logger("cattlegrid.oidc")


class Tokens:
    """Checks the tokens of one issuer."""

    def __init__(self, rules: OidcFile, keys: IssuerKeys, clock: Clock) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._registry = _Registry(algorithms=rules.algorithms, strict_check_header=False)

    async def verify(self, token: str) -> Principal:
        """Who a token speaks for.

        Raises:
            Unauthenticated: it does not count here; the detail has one word that says why.
            Forbidden: it counts, but grants no role here.
            IdentityUnavailable: the issuer's keys cannot be had.
        """
        try:
            claims = await self._claims(token)
            return self._principal(claims)
        except Unauthenticated as error:
            _log.info("token_refused", reason=error.detail)
            raise

    async def refresh(self) -> None:
        """Read the issuer's keys again; for upkeep."""
        await self._keys.refresh()

    async def _claims(self, token: str) -> Mapping[str, object]:
        header = self._header(token)
        kid, algorithm = header.get("kid", ""), str(header["alg"])
        if not isinstance(kid, str):
            raise _refused("header")
        key = await self._keys.find(kid, algorithm)
        try:
            found = jwt.decode(token, key, algorithms=self._rules.algorithms, registry=self._registry)
        except _UNREADABLE as error:
            raise _refused("signature") from error
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=self._rules.leeway_s,
            iss={"essential": True, "value": self._rules.issuer},
            aud={"essential": True, "value": self._rules.audience},
            exp={"essential": True},
        )
        try:
            registry.validate(found.claims)
        except _UNREADABLE as error:
            raise _refused("claims") from error
        return found.claims

    def _header(self, token: str) -> Mapping[str, Any]:
        """The header of a token that is worth asking for a key."""
        if len(token) > _TOKEN_BYTES or not token.isascii():
            raise _refused("size")
        try:
            header = jws.extract_compact(token.encode(), registry=self._registry).headers()
            self._registry.check_header(header)
            self._registry.get_alg(header["alg"])
        except _UNREADABLE as error:
            raise _refused("header") from error
        kind = header.get("typ", "")
        # `b64` would change what is signed (RFC 7797); nobody who signs tokens needs it.
        if not isinstance(kind, str) or kind.lower() not in _TYPES or "crit" in header or "b64" in header:
            raise _refused("header")
        return header

    def _principal(self, claims: Mapping[str, object]) -> Principal:
        rules = self._rules
        user = _text(claims, rules.user_claim)
        if rules.user_claim == "email" and claims.get("email_verified") is not True:
            raise _refused("email_not_verified")
        tenant = _text(claims, rules.tenant_claim) if rules.tenant_claim else rules.tenant or DEFAULT_TENANT
        try:
            check_user(user)
            check_tenant(tenant)
        except InvalidRequest as error:
            raise _refused("name") from error
        roles = self._roles(claims)
        if not roles:
            raise Forbidden("You are known, but have no role here. An administrator can give you one.")
        return Principal(tenant=tenant, user=user, roles=roles, credential=OIDC)

    def _roles(self, claims: Mapping[str, object]) -> frozenset[str]:
        found = _at(claims, self._rules.roles_claim) if self._rules.roles_claim else None
        values = cast("list[object]", found) if isinstance(found, list) else str(found or "").split()
        granted = {
            role for value in values if isinstance(value, str) for role in self._rules.roles.get(value, ())
        }
        if granted or self._rules.admit == "everyone":
            granted.add("user")
        return frozenset(granted)


class _Registry(JWSRegistry):
    """The declared algorithms and no others, whatever the library recommends or warns of."""

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 - the library's model of an algorithm is private
        if name not in (self.allowed or ()) or name not in self.algorithms:
            raise ValueError("not a declared algorithm")
        return self.algorithms[name]


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated("This token is not valid.", detail=reason)


def _text(claims: Mapping[str, object], name: str) -> str:
    found = _at(claims, name)
    if not isinstance(found, str) or not found:
        raise _refused("claim_missing")
    return found


def _at(claims: Mapping[str, object], name: str) -> object:
    """A claim by its name, which may have dots itself (`https://example.com/roles`), or by a path of names."""
    if name in claims:
        return claims[name]
    here: object = claims
    for part in name.split("."):
        here = cast("Mapping[str, object]", here).get(part) if isinstance(here, dict) else None
    return here
