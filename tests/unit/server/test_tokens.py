"""Tokens: which count, whom they make of somebody, and that nothing which was changed on the way counts."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cattlegrid.core.errors import Forbidden, Unauthenticated
from cattlegrid.core.principal import Principal
from cattlegrid.testing.clock import START, ManualClock
from cattlegrid.testing.models import answer
from tests.unit.server.issuer import ISSUER, NOTHING, Issuer, Kind, claims_of, key_of, signed, tokens_of
from tests.unit.server.site import open_site

pytestmark = pytest.mark.anyio

NOW = int(START.timestamp())
LEEWAY_S = 30


async def verified(
    token: str, rules: Mapping[str, object] = NOTHING, *, issuer: Issuer | None = None
) -> Principal:
    return await tokens_of(issuer or Issuer(), ManualClock(), rules).verify(token)


async def reason_of(
    token: str, rules: Mapping[str, object] = NOTHING, *, issuer: Issuer | None = None
) -> str:
    """The word for why a token is refused; everybody outside hears the same sentence."""
    with pytest.raises(Unauthenticated, match=r"^This token is not valid\.") as refused:
        await verified(token, rules, issuer=issuer)
    assert refused.value.message == "This token is not valid."
    return refused.value.detail


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def part(value: Mapping[str, object]) -> str:
    return b64(msgspec.json.encode(value))


@pytest.mark.requirement("identity:tokens")
@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
async def test_a_token_of_the_issuer_is_its_subject(kind: Kind) -> None:
    issuer = Issuer(key_of(kind, kind))
    assert await verified(issuer.token(), issuer=issuer) == Principal(
        tenant="default", user="kim@example.com", roles=frozenset({"user"}), credential="oidc"
    )


@pytest.mark.requirement("identity:tokens")
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://login.example.com/realms/other"}, "claims"),
        ({"iss": ISSUER + "/"}, "claims"),
        ({"iss": [ISSUER]}, "claims"),
        ({"iss": None}, "claims"),
        ({"aud": "another-service"}, "claims"),
        ({"aud": ["a", "b"]}, "claims"),
        ({"aud": []}, "claims"),
        ({"aud": None}, "claims"),
        ({"aud": {"cattlegrid": 1}}, "claims"),
        ({"exp": NOW - LEEWAY_S}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": "9999999999"}, "claims"),
        ({"exp": True}, "claims"),
        ({"nbf": NOW + LEEWAY_S + 1}, "claims"),
        ({"nbf": "0"}, "claims"),
        ({"iat": NOW + LEEWAY_S + 1}, "claims"),
        ({"sub": None}, "claim_missing"),
        ({"sub": ""}, "claim_missing"),
        ({"sub": 5}, "claims"),
        ({"sub": "a\nb"}, "name"),
        ({"sub": " kim"}, "name"),
        ({"sub": "k" * 201}, "name"),
    ],
)
async def test_a_token_whose_claims_do_not_hold_is_refused(claims: dict[str, object], reason: str) -> None:
    assert await reason_of(Issuer().token(**claims)) == reason


@pytest.mark.requirement("identity:tokens")
async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    issuer = Issuer()
    for claims in ({"exp": NOW - LEEWAY_S + 1}, {"nbf": NOW + LEEWAY_S}, {"iat": NOW + LEEWAY_S}):
        assert (await verified(issuer.token(**claims), issuer=issuer)).user == "kim@example.com"
        assert await reason_of(issuer.token(**claims), {"leeway_s": 0}, issuer=issuer) == "claims"
    clock = ManualClock()
    tokens, token = tokens_of(issuer, clock), issuer.token()
    await tokens.verify(token)
    clock.advance(5 * 60 + LEEWAY_S)
    with pytest.raises(Unauthenticated):
        await tokens.verify(token)


@pytest.mark.requirement("identity:algorithms")
@pytest.mark.parametrize(
    "algorithm", ["none", "NONE", "HS256", "RS256", "ES256", "RSA-OAEP", "", 5, None, ["Ed25519"]]
)
async def test_another_algorithm_in_the_header_does_not_help(algorithm: object) -> None:
    """Also not one that would take the public key for a shared secret (RFC 8725, section 2.1)."""
    issuer = Issuer()
    header, claims = part({"alg": algorithm, "kid": "one"}), part(claims_of())
    body = f"{header}.{claims}".encode()
    for secret in (issuer.jwks(), issuer.keys[0].as_pem(private=False), b""):
        mac = b64(hmac.new(secret, body, hashlib.sha256).digest())
        assert await reason_of(f"{body.decode()}.{mac}", issuer=issuer) in {"header", "unknown_key"}
    assert await reason_of(f"{body.decode()}.", issuer=issuer) in {"header", "unknown_key"}


@pytest.mark.requirement("identity:algorithms")
async def test_only_declared_algorithms_count() -> None:
    issuer = Issuer(key_of("RSA", "RSA"))
    assert await reason_of(issuer.token(), {"algorithms": ["ES256"]}, issuer=issuer) == "header"
    assert (
        await verified(issuer.token(), {"algorithms": ["RS256"]}, issuer=issuer)
    ).user == "kim@example.com"


@pytest.mark.requirement("identity:tokens")
@pytest.mark.parametrize(
    "header",
    [
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": 5},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"b64": True},
        {"kid": 5},
        {"kid": "x" * 600},
    ],
)
async def test_a_header_that_says_something_else_is_refused(header: dict[str, object]) -> None:
    body = f"{part({'alg': 'Ed25519', 'kid': 'one', **header})}.{part(claims_of())}"
    private = key_of("one").private_key
    assert isinstance(private, Ed25519PrivateKey)
    # Signed by hand: the library would not sign such a thing.
    assert await reason_of(f"{body}.{b64(private.sign(body.encode()))}") == "header"


@pytest.mark.requirement("identity:tokens")
@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "application/at+jwt", "jwt"])
async def test_tokens_that_speak_for_a_user_are_of_these_kinds(typ: str) -> None:
    token = signed(key_of("one"), claims_of(), {"typ": typ, "x5t": "abc", "nonce": "n"})
    assert (await verified(token)).user == "kim@example.com"


async def test_a_key_in_the_header_is_not_looked_at() -> None:
    mallory = key_of("mallory")
    for header in (
        {"jwk": mallory.as_dict(private=False)},
        {"jku": "https://mallory.example.com/jwks"},
        {"kid": "one"},
        {"kid": "one", "jwk": mallory.as_dict(private=False)},
    ):
        assert await reason_of(signed(mallory, claims_of(), header)) in {"signature", "unknown_key"}


@pytest.mark.requirement("identity:claims")
async def test_claims_become_tenant_user_and_roles_as_declared() -> None:
    issuer = Issuer()
    rules = {
        "tenant_claim": "org.id",
        "user_claim": "preferred_username",
        "roles_claim": "realm_access.roles",
        "roles": {"ops": ["operator", "approver"], "sec": ["security"]},
    }
    claims: dict[str, object] = {"org": {"id": "acme"}, "preferred_username": "kim"}
    for granted, roles in (
        ([], {"user"}),
        (["unknown", "admin", 5, None], {"user"}),
        (["ops"], {"user", "operator", "approver"}),
        (["ops", "sec"], {"user", "operator", "approver", "security"}),
        ("ops sec", {"user", "operator", "approver", "security"}),
        ({"ops": True}, {"user"}),
        (None, {"user"}),
    ):
        token = issuer.token(**claims, realm_access={"roles": granted})
        assert await verified(token, rules, issuer=issuer) == Principal(
            tenant="acme", user="kim", roles=frozenset(roles), credential="oidc"
        )
    lacking: list[dict[str, object]] = [
        {"org": {}},
        {"org": "acme"},
        {"org": {"id": 5}},
        {"preferred_username": None},
    ]
    for missing in lacking:
        token = issuer.token(**{**claims, **missing})
        assert await reason_of(token, rules, issuer=issuer) == "claim_missing"
    assert await reason_of(issuer.token(**{**claims, "org": {"id": "a/b"}}), rules, issuer=issuer) == "name"


@pytest.mark.requirement("identity:claims")
async def test_a_claim_whose_name_has_dots_is_found_by_its_name() -> None:
    name = "https://example.com/roles"
    token = Issuer().token(**{name: ["ops"]})
    principal = await verified(token, {"roles_claim": name, "roles": {"ops": ["operator"]}})
    assert principal.roles == {"user", "operator"}


@pytest.mark.requirement("identity:claims")
async def test_where_only_mapped_users_are_admitted_others_are_known_and_refused() -> None:
    rules: dict[str, object] = {"admit": "mapped", "roles_claim": "groups", "roles": {"ops": ["operator"]}}
    with pytest.raises(Forbidden, match="no role here"):
        await verified(Issuer().token(groups=["other"]), rules)
    assert (await verified(Issuer().token(groups=["ops"]), rules)).roles == {"operator", "user"}


@pytest.mark.requirement("identity:claims")
@pytest.mark.parametrize("confirmed", [None, False, "true", 1])
async def test_an_address_that_nobody_has_verified_is_no_name(confirmed: object) -> None:
    token = Issuer().token(email="boss@example.com", email_verified=confirmed)
    assert await reason_of(token, {"user_claim": "email"}) == "email_not_verified"
    good = Issuer().token(email="boss@example.com", email_verified=True)
    assert (await verified(good, {"user_claim": "email"})).user == "boss@example.com"


# --- no mutation authenticates ----------------------------------------------------------------------------------------

GOOD = Issuer().token()
OTHER = Issuer().token(sub="bo@example.com", exp=NOW - 3_600)
FOREIGN = signed(key_of("mallory"), claims_of(), {"kid": "one"})
POSITIONS = st.integers(0, len(GOOD) - 1)
CHARACTERS = st.sampled_from("ABCxyz019-_.=+/ \n\x00é")
KEY = {"alg": "Ed25519", "kid": "one", "typ": "JWT"}
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS256", "RS256", "ES256", "Ed25519", "EdDSA", "", None]),
        "kid": st.sampled_from(["one", "two", "", None, 0]),
        "typ": st.sampled_from(["JWT", "at+jwt", "logout+jwt", None]),
        "crit": st.just(["exp"]),
        "b64": st.booleans(),
    },
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.text(min_size=1, max_size=8),
        "exp": st.integers(NOW + 60, NOW + 10**9),
        "aud": st.sampled_from(["cattlegrid", ["cattlegrid", "x"]]),
        "groups": st.just(["admins"]),
    },
)


@st.composite
def changed_characters(draw: st.DrawFn) -> str:
    """The token with characters replaced, put in or left out."""
    text = list(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        where, how = draw(POSITIONS) % len(text), draw(st.integers(0, 2))
        put = [draw(CHARACTERS)] if how < 2 else []
        text[where : where + (how != 1)] = put
    return "".join(text)


@st.composite
def changed_parts(draw: st.DrawFn) -> str:
    """Parts of several tokens put together, left out, or made up without the key."""
    sources = [token.split(".") for token in (GOOD, OTHER, FOREIGN)]
    header = draw(
        st.sampled_from([source[0] for source in sources]) | HEADERS.map(lambda h: part({**KEY, **h}))
    )
    claims = draw(
        st.sampled_from([source[1] for source in sources]) | CLAIMS.map(lambda c: part(claims_of(c)))
    )
    signature = draw(st.sampled_from([source[2] for source in sources]) | st.binary(max_size=80).map(b64))
    parts: Sequence[str] = (header, claims, signature)
    return ".".join(parts[: draw(st.integers(1, 3))]) + draw(st.sampled_from(["", ".", ".x", "..", "="]))


@pytest.mark.requirement("identity:mutations")
@settings(max_examples=400)
@given(token=changed_characters() | changed_parts() | st.text(max_size=200) | st.just("." * 20_000))
def test_no_token_that_was_changed_authenticates(token: str) -> None:
    async def attempt() -> None:
        tokens = tokens_of(Issuer(), ManualClock())
        if token == GOOD:
            await tokens.verify(token)
        else:
            with pytest.raises(Unauthenticated):
                await tokens.verify(token)

    asyncio.run(attempt())


# --- at the door ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("identity:tokens")
async def test_a_token_opens_the_door_beside_keys_and_belongs_to_its_own_user() -> None:
    site = await open_site()
    issuer = Issuer()
    issuer_tokens = tokens_of(issuer, site.world.clock, {"tenant": "shop"})
    site.rebuilt(msgspec.structs.replace(site.services, tokens=issuer_tokens))
    bearer = {"Authorization": f"Bearer {issuer.token(sub='ana@example.com')}"}
    assert (await site.http.get("/sessions", headers=bearer)).status_code == 200
    assert (await site.get("/sessions", "ana")).status_code == 200, "keys count as before"
    assert (await site.http.get("/keys", headers=bearer)).status_code == 403
    named = {**bearer, "X-Cattlegrid-User": "bo@example.com"}
    assert (await site.http.get("/sessions", headers=named)).status_code == 403
    for wrong in (
        {"Authorization": f"Bearer {GOOD[:-2]}"},
        {"X-Api-Key": issuer.token()},
        {**bearer, "X-Api-Key": site.keys["ana"]},
        {"Authorization": f"Basic {issuer.token()}"},
    ):
        refused = await site.http.get("/sessions", headers=wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
        assert refused.headers["www-authenticate"].startswith("Bearer")
    issuer.answers = False
    site.world.clock.advance(25 * 3_600)
    late = {"Authorization": f"Bearer {issuer.token(exp=NOW + 10**6)}"}
    unavailable = await site.http.get("/sessions", headers=late)
    assert (unavailable.status_code, unavailable.json()["error"]["code"]) == (503, "identity_unavailable")


async def test_without_an_issuer_a_token_is_no_key() -> None:
    site = await open_site()
    refused = await site.http.get("/sessions", headers={"Authorization": f"Bearer {Issuer().token()}"})
    assert refused.status_code == 401


@pytest.mark.requirement("identity:tokens")
async def test_what_a_token_s_user_and_a_key_s_user_of_the_same_name_own_is_the_same() -> None:
    site = await open_site(model=[answer("Hi.")])
    issuer = Issuer()
    site.rebuilt(
        msgspec.structs.replace(site.services, tokens=tokens_of(issuer, site.world.clock, {"tenant": "shop"}))
    )
    run = await site.ask("Hi", "ana")
    bearer = {"Authorization": f"Bearer {issuer.token(sub='ana@example.com')}"}
    assert (await site.http.get(f"/runs/{run['id']}", headers=bearer)).status_code == 200
    elsewhere = tokens_of(issuer, site.world.clock, {"tenant": "other"})
    site.rebuilt(msgspec.structs.replace(site.services, tokens=elsewhere))
    assert (await site.http.get(f"/runs/{run['id']}", headers=bearer)).status_code == 404
