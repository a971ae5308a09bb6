"""API keys: what is stored of them, what they allow, and that a revocation counts at once."""

import asyncio
import hashlib

import msgspec
import pytest

from cattlegrid.core.errors import ConfigurationError, InvalidRequest, NotFound, Unauthenticated
from cattlegrid.core.permissions import Permission
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.server.bind import check_bind, is_loopback
from cattlegrid.server.keys import KeyRing, NewKey
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import answer
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

KIM = NewKey(tenant="shop", user="kim@example.com", label="laptop")
ANYWHERE = "0.0.0.0"  # noqa: S104 - the address that is refused
SERVICE = NewKey(tenant="shop", act_as=True)


async def other_process(site: Site) -> KeyRing:
    """The keys as another process on the same store sees them."""
    world = site.world
    return KeyRing(world.store, world.vault, clock=world.clock, ids=world.ids, holder="other")


@pytest.mark.requirement("server:keys")
async def test_the_store_holds_a_hash_and_a_sealed_name_and_neither_the_key_nor_the_user() -> None:
    site = await open_site()
    key, text = await site.services.keys.create(KIM)
    stored = await site.world.store.setting(f"apikey:{key.id}") or ""
    secret = text[-43:]
    assert text.startswith(f"cg_{key.id.removeprefix('key_')}_")
    assert len(secret) == 43
    assert secret not in stored
    assert "kim" not in stored
    assert hashlib.sha256(secret.encode()).hexdigest() in stored
    control = [event.data for event in await site.world.events(ev.CONTROL_STREAM)]
    created, audited = control[-2:]
    assert isinstance(created, ev.KeyCreated)
    assert isinstance(audited, ev.OperatorActed)
    assert (audited.action, audited.subject, audited.credential) == ("create_key", key.id, "local")
    assert (created.key_id, created.roles, created.act_as) == (key.id, ("user",), False)
    assert "kim" not in repr(control)


@pytest.mark.requirement("server:keys")
async def test_a_key_opens_for_its_user_and_a_wrong_one_for_nobody() -> None:
    site = await open_site()
    keys = site.services.keys
    made, text = await keys.create(KIM)
    assert await keys.verify(text) == made
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    unknown = text[:3] + "0" * 26 + text[29:]
    for presented in (
        wrong,
        unknown,
        "",
        "cg_",
        text + "x",
        text.upper(),
        "\ud800",
        "Bearer " + text,
        text + "\n",
    ):
        with pytest.raises(Unauthenticated):
            await keys.verify(presented)


@pytest.mark.requirement("server:keys")
async def test_a_revocation_counts_at_once_in_every_process() -> None:
    site = await open_site()
    key, text = await site.services.keys.create(KIM)
    elsewhere = await other_process(site)
    assert (await elsewhere.verify(text)).user == "kim@example.com"
    await site.services.keys.revoke(key.id, tenant="shop")
    for keys in (elsewhere, site.services.keys):
        with pytest.raises(Unauthenticated):
            await keys.verify(text)
    revoked = await site.services.keys.revoke(key.id, tenant="shop")
    assert revoked.revoked_at is not None
    events = [event.data for event in await site.world.events(ev.CONTROL_STREAM)]
    assert [data for data in events if isinstance(data, ev.KeyRevoked)] == [ev.KeyRevoked(key_id=key.id)]


async def test_a_key_of_another_tenant_is_not_there() -> None:
    site = await open_site()
    key, _ = await site.services.keys.create(KIM)
    with pytest.raises(NotFound):
        await site.services.keys.revoke(key.id, tenant="other")
    assert [key.label for key in await site.services.keys.list_keys("other")] == []


async def test_keys_made_at_the_same_time_by_several_processes_are_all_there() -> None:
    site = await open_site()
    rings = [site.services.keys, await other_process(site), await other_process(site)]
    made = asyncio.gather(*(ring.create(KIM) for ring in rings for _ in range(3)))
    while not made.done():
        await asyncio.sleep(0)
        site.world.clock.advance(0.05)
    listed = [key.id for key in await rings[0].list_keys("shop")]
    assert {key.id for key, _ in await made} <= set(listed)
    assert len(listed) == len(set(listed)) == 4 + 9


@pytest.mark.requirement("server:keys")
@pytest.mark.parametrize(
    "new",
    [
        NewKey(tenant="shop"),
        NewKey(tenant="shop", user="kim", act_as=True),
        NewKey(tenant="shop", user="kim", roles=("root",)),
        NewKey(tenant="shop", user="kim", roles=()),
        NewKey(tenant="shop", act_as=True, roles=("user", "approver")),
        NewKey(tenant="shop", user=" kim"),
        NewKey(tenant="shop", user="kim\x00"),
        NewKey(tenant="shop", user="k" * 201),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(new: NewKey) -> None:
    site = await open_site()
    before = await site.services.keys.list_keys("shop")
    with pytest.raises(InvalidRequest):
        await site.services.keys.create(new)
    assert await site.services.keys.list_keys("shop") == before


@pytest.mark.requirement("server:keys")
async def test_a_key_that_acts_for_users_names_one_with_every_request() -> None:
    site = await open_site(model=lambda request: answer("Hello."))
    _, site.keys["web"] = await site.services.keys.create(SERVICE)
    body = {"agent": "support", "input": "Hi"}
    nameless = await site.post("/runs", body, "web")
    assert (nameless.status_code, nameless.json()["error"]["code"]) == (400, "invalid_request")
    run = (await site.post("/runs", body, "web", X_Cattlegrid_User="ana@example.com")).json()
    assert (await site.get(f"/runs/{run['id']}", "ana")).status_code == 200
    assert (await site.get(f"/runs/{run['id']}", "bo")).status_code == 404
    for name in (b"\xff", b"a\tb", b" ", "ü".encode("latin-1")):
        headers = [(b"x-api-key", site.keys["web"].encode()), (b"x-cattlegrid-user", name)]
        assert (await site.http.get("/runs", headers=headers)).status_code == 400, name
    headers = [(b"x-api-key", site.keys["web"].encode()), (b"x-cattlegrid-user", "jürgen".encode())]
    assert (await site.http.get("/runs", headers=headers)).status_code == 200


@pytest.mark.requirement("server:keys")
async def test_a_key_that_is_bound_to_a_user_acts_for_no_other() -> None:
    site = await open_site()
    assert (await site.get("/runs", X_Cattlegrid_User="ana@example.com")).status_code == 200
    refused = await site.get("/runs", X_Cattlegrid_User="bo@example.com")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.requirement("server:keys")
async def test_every_route_but_the_probes_asks_for_a_key() -> None:
    site = await open_site()
    open_ones = {"/health", "/live", "/ready", "/metrics", "/ping"}
    for path, item in site.app.openapi()["paths"].items():
        for method in item:
            answered = await site.http.request(method, path.replace("{", "").replace("}", ""))
            assert (answered.status_code == 401) == (path not in open_ones), (method, path)
            if answered.status_code == 401:
                assert answered.headers["www-authenticate"].startswith("Bearer")
                assert answered.json()["error"]["code"] == "unauthenticated"


@pytest.mark.requirement("server:keys")
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"X-Api-Key": "nonsense"},
    ],
)
async def test_what_is_no_key_is_refused(headers: dict[str, str]) -> None:
    site = await open_site()
    assert (await site.http.get("/runs", headers=headers)).status_code == 401
    assert (await site.http.get("/metrics", headers=headers)).status_code == 401


async def test_two_different_keys_at_once_are_refused() -> None:
    site = await open_site()
    assert (await site.get("/runs", X_Api_Key=site.keys["bo"])).status_code == 401
    assert (await site.get("/runs", X_Api_Key=site.keys["ana"])).status_code == 200


@pytest.mark.requirement("server:keys")
async def test_an_administrator_makes_lists_and_revokes_keys_over_http_and_nobody_else_does() -> None:
    site = await open_site()
    for who in ("ana", "staff"):
        assert (await site.get("/keys", who)).status_code == 403
        assert (await site.post("/keys", {"user": "x"}, who)).status_code == 403
    made = await site.post("/keys", {"user": "kim@example.com", "roles": ["operator", "operator"]}, "admin")
    key = made.json()
    site.keys["kim"] = key.pop("key")
    assert (made.status_code, key["roles"], key["user"]) == (201, ["operator"], "kim@example.com")
    assert (await site.get("/runs", "kim")).status_code == 200
    listed = (await site.get("/keys", "admin")).json()["items"]
    assert listed[0] == key
    assert site.keys["kim"] not in msgspec.json.encode(listed).decode()
    revoked = await site.post(f"/keys/{key['id']}/revoke", None, "admin")
    assert revoked.json()["revoked_at"]
    assert (await site.get("/runs", "kim")).status_code == 401
    assert (await site.post("/keys/key_nothing/revoke", None, "admin")).status_code == 404


@pytest.mark.requirement("server:keys")
async def test_the_keys_of_an_erased_user_are_worth_nothing_and_their_name_is_gone() -> None:
    site = await open_site(model=lambda _: answer("Hello."))
    await site.ask()
    await site.ask(who="bo")
    key = next(key for key in await site.services.keys.list_keys("shop") if key.user == "ana@example.com")
    assert (await site.post("/users/erase", {"user": "ana@example.com"}, "staff")).status_code == 403
    erased = await site.post("/users/erase", {"user": "ana@example.com"}, "admin")
    assert erased.json() == {"sessions": 1, "keys": 1}
    assert (await site.get("/runs", "ana")).status_code == 401
    assert len((await site.get("/runs", "bo")).json()["items"]) == 1
    listed = (await site.get("/keys", "admin")).json()["items"]
    assert next(item for item in listed if item["id"] == key.id)["user"] == ""


async def test_an_erasure_alone_makes_the_keys_of_a_user_worthless() -> None:
    site = await open_site()
    _, text = await site.services.keys.create(KIM)
    await site.world.upkeep.erase("shop", "kim@example.com", by="test")
    with pytest.raises(Unauthenticated):
        await site.services.keys.verify(text)
    await site.services.keys.create(KIM)
    with pytest.raises(Unauthenticated):
        await site.services.keys.verify(text)


@pytest.mark.requirement("server:bind")
async def test_listening_beyond_this_machine_is_refused_while_nobody_could_authenticate() -> None:
    site = await open_site()
    empty = MemoryJournal(site.world.clock)
    nobody = KeyRing(empty, site.world.vault, clock=site.world.clock, ids=site.world.ids, holder="x")
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        await check_bind(host, nobody)
    for host in (ANYWHERE, "::", "192.0.2.7", "example.com", "localhost.example.com"):
        assert not is_loopback(host)
        await check_bind(host, site.services.keys)
        with pytest.raises(ConfigurationError, match="Refusing to listen"):
            await check_bind(host, nobody)
    for key in await site.services.keys.list_keys("shop"):
        await site.services.keys.revoke(key.id, tenant="shop")
    with pytest.raises(ConfigurationError):
        await check_bind(ANYWHERE, site.services.keys)


async def test_an_administrator_has_every_role() -> None:
    administrator = Principal(tenant="t", user="u", roles=frozenset({"admin"}))
    assert all(administrator.may(permission) for permission in Permission)
