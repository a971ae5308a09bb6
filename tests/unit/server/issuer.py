"""An OpenID Connect issuer whose keys are made in the test: it signs tokens, and shows its keys to who asks."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Literal

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from cattlegrid.core.errors import IdentityUnavailable
from cattlegrid.release.identity import OidcFile
from cattlegrid.server.jwks import IssuerKeys
from cattlegrid.server.tokens import Tokens
from cattlegrid.testing.clock import START, ManualClock

ISSUER = "https://login.example.com/realms/shop"
AUDIENCE = "cattlegrid"
NOTHING: Mapping[str, object] = MappingProxyType({})
Kind = Literal["RSA", "P-256", "Ed25519"]
SIGNS: Mapping[str, str] = {"RSA": "RS256", "P-256": "ES256", "Ed25519": "Ed25519"}


@cache
def key_of(kid: str, kind: Kind = "Ed25519") -> RSAKey | ECKey | OKPKey:
    """The private key of that name; the same each time."""
    if kind == "RSA":
        return RSAKey.generate_key(2048, {"kid": kid})
    if kind == "P-256":
        return ECKey.generate_key("P-256", {"kid": kid})
    return OKPKey.generate_key("Ed25519", {"kid": kid})


def signed(
    key: RSAKey | ECKey | OKPKey, claims: Mapping[str, object], header: Mapping[str, object] | None = None
) -> str:
    """A token of these claims, signed with a key; `header` adds to, or replaces, what the header says."""
    curve = key.curve_name if not isinstance(key, RSAKey) else "RSA"
    whole = {"alg": SIGNS[curve], "kid": key.kid, **(header or {})}
    registry = JWSRegistry(algorithms=[str(whole["alg"])], strict_check_header=False)
    return jwt.encode(whole, dict(claims), key, registry=registry)


class Issuer:
    """Keys that come and go, and tokens in their name. Also a `KeySource`."""

    def __init__(self, *keys: RSAKey | ECKey | OKPKey) -> None:
        self.keys = list(keys or (key_of("one"),))
        self.answers = True
        self.asked = 0
        self.content: bytes | None = None
        """Sent instead of the keys, when it is set."""

    async def fetch(self) -> bytes:
        self.asked += 1
        if not self.answers:
            raise IdentityUnavailable("Nobody answers.", detail="timeout")
        return self.jwks() if self.content is None else self.content

    def jwks(self, **more: object) -> bytes:
        """The public keys as a JWK set; `more` is added to each."""
        return msgspec.json.encode({"keys": [{**key.as_dict(private=False), **more} for key in self.keys]})

    def token(self, **claims: object) -> str:
        """A token of the newest key that is good at the beginning of time; a claim of None is left out."""
        return signed(self.keys[-1], claims_of(claims))


def claims_of(changes: Mapping[str, object] = NOTHING) -> dict[str, object]:
    """Good claims, with changes; None leaves one out."""
    now = int(START.timestamp())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "kim@example.com",
        "iat": now,
        "exp": now + int(timedelta(minutes=5).total_seconds()),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def rules_of(changes: Mapping[str, object] = NOTHING) -> OidcFile:
    """What `cattlegrid.yaml` says of this issuer."""
    return OidcFile.model_validate({"issuer": ISSUER, "audience": AUDIENCE, **changes})


def tokens_of(issuer: Issuer, clock: ManualClock, changes: Mapping[str, object] = NOTHING) -> Tokens:
    """What checks this issuer's tokens."""
    return Tokens(rules_of(changes), IssuerKeys(issuer, clock), clock)
