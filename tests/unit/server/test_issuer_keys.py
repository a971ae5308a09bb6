"""An issuer's keys: kept, read again when a key is new, not asked for too often, and served stale only so long."""

import asyncio
import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import OctKey

from cattlegrid.core.errors import IdentityUnavailable, Unauthenticated
from cattlegrid.server.jwks import MIN_PAUSE_S, STALE_S, IssuerKeys
from cattlegrid.testing.clock import ManualClock
from tests.unit.server.issuer import Issuer, Kind, key_of

pytestmark = pytest.mark.anyio

ALGORITHMS: dict[Kind, str] = {"RSA": "RS256", "P-256": "ES256", "Ed25519": "Ed25519"}


async def knows(keys: IssuerKeys, kid: str, algorithm: str = "Ed25519") -> bool:
    try:
        found = await keys.find(kid, algorithm)
    except Unauthenticated:
        return False
    return found.kid is None or found.kid == kid or not kid


@pytest.mark.requirement("identity:rotation")
async def test_keys_are_fetched_once_for_many_tokens_at_once() -> None:
    issuer, clock = Issuer(), ManualClock()
    keys = IssuerKeys(issuer, clock)
    assert all(await asyncio.gather(*(knows(keys, "one") for _ in range(20))))
    clock.advance(MIN_PAUSE_S * 10)
    assert await knows(keys, "one")
    assert issuer.asked == 1


@pytest.mark.requirement("identity:rotation")
async def test_a_new_key_is_found_without_a_restart_and_nonsense_cannot_make_us_ask_often() -> None:
    issuer, clock = Issuer(), ManualClock()
    keys = IssuerKeys(issuer, clock)
    assert await knows(keys, "one")
    issuer.keys.append(key_of("two"))
    for number in range(50):
        assert not await knows(keys, f"nonsense{number}")
    assert issuer.asked == 1, "it has only just been asked"
    clock.advance(MIN_PAUSE_S)
    assert all(await asyncio.gather(*(knows(keys, "two") for _ in range(10))))
    assert await knows(keys, "one"), "both count while the issuer says so"
    assert issuer.asked == 2
    for number in range(50):
        assert not await knows(keys, f"nonsense{number}")
    assert issuer.asked == 2


@pytest.mark.requirement("identity:rotation")
async def test_a_key_that_was_withdrawn_no_longer_counts_after_the_next_refresh() -> None:
    issuer, clock = Issuer(key_of("one"), key_of("two")), ManualClock()
    keys = IssuerKeys(issuer, clock)
    assert await knows(keys, "one")
    del issuer.keys[0]
    await keys.refresh()
    assert not await knows(keys, "one")
    assert await knows(keys, "two")


@pytest.mark.requirement("identity:stale")
async def test_while_the_issuer_is_away_kept_keys_serve_for_a_day_and_no_longer() -> None:
    issuer, clock = Issuer(), ManualClock()
    keys = IssuerKeys(issuer, clock)
    await keys.refresh()
    issuer.answers = False
    clock.advance(STALE_S - 1)
    await keys.refresh()
    assert await knows(keys, "one")
    clock.advance(1)
    with pytest.raises(IdentityUnavailable):
        await keys.find("one", "Ed25519")
    issuer.answers = True
    clock.advance(MIN_PAUSE_S)
    assert await knows(keys, "one")


@pytest.mark.requirement("identity:stale")
async def test_while_the_issuer_has_never_answered_nobody_comes_in_and_it_is_not_asked_for_each_token() -> (
    None
):
    issuer, clock = Issuer(), ManualClock()
    issuer.answers = False
    keys = IssuerKeys(issuer, clock)
    for _ in range(10):
        with pytest.raises(IdentityUnavailable):
            await keys.find("one", "Ed25519")
    assert issuer.asked == 1


@pytest.mark.requirement("identity:algorithms")
@pytest.mark.parametrize("kind", list(ALGORITHMS))
async def test_a_key_serves_algorithms_of_its_own_kind_only(kind: Kind) -> None:
    keys = IssuerKeys(Issuer(key_of(kind, kind)), ManualClock())
    for algorithm in (*ALGORITHMS.values(), "HS256", "none"):
        assert await knows(keys, kind, algorithm) == (algorithm == ALGORITHMS[kind])


@pytest.mark.requirement("identity:algorithms")
@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({}, True),
        ({"use": "sig", "alg": "Ed25519", "key_ops": ["verify"]}, True),
        ({"use": "enc"}, False),
        ({"alg": "EdDSA"}, False),
        ({"key_ops": ["encrypt"]}, False),
        ({"key_ops": 5}, False),
        ({"kid": 5}, False),
        ({"kid": "two"}, False),
        ({"x": "AA"}, False),
        ({"crv": "P-256"}, False),
        ({"kty": "oct", "k": "c2VjcmV0"}, False),
        ({"kty": ["OKP"]}, False),
        ({"d": "AAAA"}, False),
    ],
)
async def test_a_key_counts_only_for_what_it_says(more: dict[str, object], counts: bool) -> None:  # noqa: FBT001
    issuer = Issuer()
    [entry] = msgspec.json.decode(issuer.jwks(**more))["keys"]
    good = msgspec.json.decode(issuer.jwks(kid="good"))["keys"]
    issuer.content = msgspec.json.encode({"keys": [entry, 5, None, *good]})
    keys = IssuerKeys(issuer, ManualClock())
    assert await knows(keys, "one") == counts
    assert await knows(keys, "good"), "one bad entry does not take the others along"


@pytest.mark.requirement("identity:algorithms")
async def test_short_rsa_keys_and_shared_secrets_are_no_keys() -> None:
    modulus = rsa.generate_private_key(65_537, 1_024).public_key().public_numbers().n  # noqa: S505 - refused below
    digits = base64.urlsafe_b64encode(modulus.to_bytes(128, "big")).rstrip(b"=").decode()
    secret = OctKey.generate_key(256, {"kid": "secret"})
    entries = [{"kty": "RSA", "kid": "short", "n": digits, "e": "AQAB"}, secret.as_dict(private=True)]
    issuer = Issuer()
    issuer.content = msgspec.json.encode({"keys": entries})
    with pytest.raises(IdentityUnavailable):
        await IssuerKeys(issuer, ManualClock()).find("short", "RS256")
    good = msgspec.json.decode(issuer.jwks())["keys"]
    issuer.content = msgspec.json.encode({"keys": [*entries, *good]})
    keys = IssuerKeys(issuer, ManualClock())
    assert not await knows(keys, "short", "RS256")
    assert not await knows(keys, "secret", "HS256")


async def test_a_token_that_names_no_key_is_checked_only_where_there_is_no_choice() -> None:
    assert await knows(IssuerKeys(Issuer(key_of("one"), key_of("r", "RSA")), ManualClock()), "")
    assert not await knows(IssuerKeys(Issuer(key_of("one"), key_of("two")), ManualClock()), "")
    twins = Issuer()
    [entry] = msgspec.json.decode(twins.jwks())["keys"]
    twins.content = msgspec.json.encode({"keys": [entry, entry]})
    assert not await knows(IssuerKeys(twins, ManualClock()), "one")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"keys": 5}', b'{"keys": []}', b"\xff", b"[" * 9_000]
)
async def test_what_is_no_key_set_leaves_the_kept_one(content: bytes) -> None:
    issuer, clock = Issuer(), ManualClock()
    keys = IssuerKeys(issuer, clock)
    await keys.refresh()
    issuer.content = content
    await keys.refresh()
    assert issuer.asked == 2
    assert await knows(keys, "one")
