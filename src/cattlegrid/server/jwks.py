"""Turns an issuer's JWK set (RFC 7517) into the one public key that a token's signature is checked with.

The set is kept, and read again by upkeep, or when a token names a key that is not in it: so a rotation needs no
restart. Tokens that name nonsense cannot make us ask the issuer more often than every `MIN_PAUSE_S`. While the issuer
does not answer, the kept set serves for `STALE_S`; after that nobody comes in by a token.

Only public keys for signatures count: RSA from 2048 bits, elliptic curves, Edwards curves. Secrets and private keys in
a set are passed over.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, cast

import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from cattlegrid.core.errors import CattlegridError, IdentityUnavailable, Unauthenticated
from cattlegrid.core.ports import Clock

REFRESH_S: Final = 600.0
"""How often upkeep reads the set: a key that the issuer has withdrawn is accepted for so long at most."""
MIN_PAUSE_S: Final = 30.0
STALE_S: Final = 24 * 3_600.0
_MOST_KEYS: Final = 100
_RSA_DIGITS: Final = 342
"""2,048 bits in base64url."""
_PRIVATE: Final = "d"
_PARTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
)
"""What makes a public key of each type; nothing else of an entry gets to the library."""
_KIND: Final[Mapping[str, str]] = MappingProxyType({"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"})
"""First letters of an algorithm to the type of its key (RFC 7518, section 3.1; RFC 8037)."""

PublicKey = RSAKey | ECKey | OKPKey
_log = structlog.get_logger("cattlegrid.oidc")


class KeySource(Protocol):
    """Where an issuer's keys come from; `adapters.oidc` implements it."""

    async def fetch(self) -> bytes:
        """The issuer's JWK set, as JSON. Raises IdentityUnavailable."""
        ...


class _Candidate(msgspec.Struct, frozen=True):
    kid: str
    algorithm: str
    """The only one that it is for; empty when it does not say."""
    key: PublicKey


class IssuerKeys:
    """The keys of one issuer. For one event loop."""

    def __init__(self, source: KeySource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._keys: Sequence[_Candidate] = ()
        self._fetched_s: float | None = None
        self._asked_s: float | None = None
        self._failing = False
        self._asking = asyncio.Lock()

    async def find(self, kid: str, algorithm: str) -> PublicKey:
        """The key with this id that is for this algorithm; without an id, the only one that is for it.

        Raises:
            Unauthenticated: the issuer has no such key.
            IdentityUnavailable: the issuer does not answer, and has not for too long.
        """
        key = self._pick(kid, algorithm) if self._fresh else None
        if key is None:
            await self._ask(pause_s=MIN_PAUSE_S)
            key = self._pick(kid, algorithm) if self._fresh else None
        if key is not None:
            return key
        if self._failing:
            raise IdentityUnavailable("Tokens cannot be checked now: their issuer does not answer.")
        raise Unauthenticated("This token is not valid.", detail="unknown_key")

    async def refresh(self) -> None:
        """Read the set again; for upkeep. A failure is told and keeps what is there."""
        await self._ask(pause_s=0.0)

    @property
    def _fresh(self) -> bool:
        return self._fetched_s is not None and self._clock.monotonic_s() - self._fetched_s < STALE_S

    def _pick(self, kid: str, algorithm: str) -> PublicKey | None:
        fitting = [
            candidate.key
            for candidate in self._keys
            if (candidate.kid == kid or not kid)
            and candidate.algorithm in {"", algorithm}
            and candidate.key.key_type == _KIND.get(algorithm[:2])
        ]
        # Two of one name, or none named and several there: a guess would be a second chance for a forgery.
        return fitting[0] if len(fitting) == 1 else None

    async def _ask(self, *, pause_s: float) -> None:
        """Ask the issuer, unless somebody did a moment ago; those who come meanwhile wait for the same answer."""
        asked_s = self._asked_s
        async with self._asking:
            now_s = self._clock.monotonic_s()
            if self._asked_s != asked_s or (asked_s is not None and now_s - asked_s < pause_s):
                return
            self._asked_s = now_s
            try:
                self._keys = _keys_of(await self._source.fetch())
            except CattlegridError as error:
                if not self._failing:
                    _log.warning("issuer_keys_failed", error=error.code, reason=error.detail)
                self._failing = True
            else:
                self._failing = False
                self._fetched_s = now_s


def _keys_of(content: bytes) -> list[_Candidate]:
    """The usable keys of a set. Raises IdentityUnavailable when there is none."""
    try:
        found: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        found = None
    listed = cast("dict[str, object]", found).get("keys") if isinstance(found, dict) else None
    entries = cast("list[object]", listed)[:_MOST_KEYS] if isinstance(listed, list) else []
    usable = [candidate for entry in entries if (candidate := _candidate(entry)) is not None]
    if not usable:
        raise IdentityUnavailable("The token's issuer has no usable key.", detail="no_usable_key")
    return usable


def _candidate(entry: object) -> _Candidate | None:
    """A key as it may be used, or None. Sets come from outside: anything may stand where a text should."""
    if not isinstance(entry, dict):
        return None
    data = cast("dict[str, object]", entry)
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    operations = data.get("key_ops", ["verify"])
    for_signatures = (
        texts.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    )
    odd = {"kid", "alg", "use", "kty"} & (data.keys() - texts.keys())
    if odd or not for_signatures or _PRIVATE in data:
        return None
    key = _public_key(texts)
    return _Candidate(texts.get("kid", ""), texts.get("alg", ""), key) if key is not None else None


def _public_key(texts: Mapping[str, str]) -> PublicKey | None:
    named = _PARTS.get(texts.get("kty", ""), ())
    if len(texts.get("n", "")) < _RSA_DIGITS and "n" in named:
        return None
    try:
        key = import_key({name: texts[name] for name in named})
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return key if isinstance(key, PublicKey) else None
