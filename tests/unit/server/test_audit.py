"""The audit: every action that takes a role is on record before it is done, with who, what, when and by what credential."""

import asyncio
from typing import Any

import msgspec
import pytest

from cattlegrid.core.errors import StoreUnavailable
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import Stall, answer, call
from cattlegrid.testing.world import STAFF
from tests.unit.server.issuer import Issuer, tokens_of
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

REFUND = answer(calls=[call("refund", order=17, amount=79.9)])


async def audit(site: Site, **query: object) -> list[dict[str, Any]]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answered = await site.get(f"/audit?{asked}", "admin")
    assert answered.status_code == 200, answered.text
    return answered.json()["items"]


async def told(site: Site) -> list[tuple[str, str, str, str]]:
    """What was done since the site was opened, oldest first: who, what, to what, how it went."""
    lines = [line for line in await audit(site) if line["credential"] != "local"]
    return [(line["who"], line["action"], line["subject"], line["outcome"]) for line in reversed(lines)]


STAFF_NAME = "staff@example.com"
ROOT = "root@example.com"


@pytest.mark.requirement("identity:audit")
async def test_every_action_that_takes_a_role_is_on_record() -> None:
    site = await open_site(model=[REFUND, REFUND, REFUND, answer("Done."), answer("No.")])
    approved, rejected, cancelled = [await site.ask() for _ in range(3)]
    ids = [run["approvals"][0]["id"] for run in (approved, rejected)]
    await site.post(f"/approvals/{ids[0]}/decision", {"decision": "approve"}, "staff")
    await site.post(f"/approvals/{ids[1]}/decision", {"decision": "reject"}, "staff")
    await site.post(f"/runs/{cancelled['id']}/cancel", None, "staff")
    await site.post(f"/sessions/{approved['session_id']}/close", None, "staff")
    await site.post("/debug/replay", {"session_id": approved["session_id"]}, "staff")
    made = (await site.post("/keys", {"user": "kim@example.com"}, "admin")).json()
    await site.post(f"/keys/{made['id']}/revoke", None, "admin")
    await site.post("/users/erase", {"user": "bo@example.com"}, "admin")
    bo = site.services.keys.pseudonym("shop", "bo@example.com")
    bos_key = next(
        line["subject"]
        for line in await audit(site)
        if line["action"] == "revoke_key" and line["subject"] != made["id"]
    )
    assert await told(site) == [
        (STAFF_NAME, "approve", ids[0], "done"),
        (STAFF_NAME, "reject", ids[1], "done"),
        (STAFF_NAME, "cancel", cancelled["id"], "done"),
        (STAFF_NAME, "close", approved["session_id"], "done"),
        (STAFF_NAME, "replay", approved["session_id"], "done"),
        (ROOT, "create_key", made["id"], "done"),
        (ROOT, "revoke_key", made["id"], "done"),
        (ROOT, "erase", bo, "done"),
        (ROOT, "revoke_key", bos_key, "done"),
    ]
    newest = (await audit(site))[0]
    assert newest["credential"] == "key"
    assert newest["credential_id"].startswith("key_")
    assert newest["by"] == site.services.keys.pseudonym("shop", ROOT)
    assert newest["at"] == site.world.clock.now().isoformat().replace("+00:00", "Z")


@pytest.mark.requirement("identity:audit")
async def test_what_users_do_with_what_is_theirs_is_no_operator_s_action() -> None:
    site = await open_site(model=[REFUND, answer("Hello.")])
    run = await site.ask()
    await site.post(f"/runs/{run['id']}/cancel")
    await site.post(f"/runs/{run['id']}/feedback", {"thumb": "up"})
    await site.post(f"/sessions/{run['session_id']}/close")
    assert await told(site) == []


@pytest.mark.requirement("identity:audit")
async def test_a_decision_that_came_too_late_has_a_second_line_that_says_so() -> None:
    site = await open_site(model=[REFUND, answer("Done.")])
    approval = (await site.ask())["approvals"][0]["id"]
    staff = Principal(tenant="shop", user=STAFF_NAME, roles=STAFF.roles, credential="key")
    both = await asyncio.gather(
        *(
            site.world.engine.decide(approval, staff, decision)
            for decision in (ev.ApprovalDecision.APPROVE, ev.ApprovalDecision.REJECT)
        ),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in both] == ["str", "AlreadyDecided"]
    assert [(action, outcome) for _, action, _, outcome in await told(site)] == [
        ("approve", "done"),
        ("reject", "done"),
        ("reject", "already_decided"),
    ]


@pytest.mark.requirement("identity:audit")
async def test_what_is_refused_before_it_is_tried_leaves_no_line_and_what_fails_says_how() -> None:
    site = await open_site(model=[REFUND])
    run = await site.ask()
    assert (await site.post(f"/runs/{run['id']}/cancel", None, "bo")).status_code == 404
    assert (await site.post("/keys", {"user": "x"}, "staff")).status_code == 403
    assert await told(site) == []
    audit_log = site.services.engine.audit
    with pytest.raises(ZeroDivisionError):
        async with audit_log.acting(STAFF, "replay", "ses_1"):
            raise ZeroDivisionError
    outcomes = [(line["action"], line["outcome"]) for line in await audit(site, limit=2)]
    assert outcomes == [("replay", "internal"), ("replay", "done")]


@pytest.mark.requirement("identity:audit")
async def test_what_cannot_be_recorded_is_not_done() -> None:
    site = await open_site(model=[REFUND])
    run = await site.ask()
    store = site.world.store
    assert isinstance(store, MemoryJournal)
    done = False
    store.available = False
    with pytest.raises(StoreUnavailable):
        async with site.services.engine.audit.acting(STAFF, "approve", run["approvals"][0]["id"]):
            done = True
    assert not done


@pytest.mark.requirement("identity:audit")
async def test_an_action_by_token_says_so() -> None:
    site = await open_site(model=[Stall()], settings={"run_wait_s": 0.0})
    issuer = Issuer()
    rules = {"tenant": "shop", "roles_claim": "groups", "roles": {"ops": ["operator"]}}
    tokens = tokens_of(issuer, site.world.clock, rules)
    site.rebuilt(msgspec.structs.replace(site.services, tokens=tokens))
    run = (await site.post("/runs", {"agent": "support", "input": "Hi"})).json()
    bearer = {"Authorization": f"Bearer {issuer.token(groups=['ops'])}"}
    cancelling = await site.http.post(f"/runs/{run['id']}/cancel", headers=bearer)
    assert cancelling.status_code in {200, 202}
    [line] = [line for line in await audit(site) if line["action"] == "cancel"]
    assert (line["who"], line["credential"], line["credential_id"]) == ("kim@example.com", "oidc", "")


@pytest.mark.requirement("identity:audit")
async def test_the_name_goes_with_an_erasure_and_the_pseudonym_stays() -> None:
    site = await open_site()
    made = (await site.post("/keys", {"user": "kim@example.com"}, "admin")).json()
    await site.key("second", Principal(tenant="shop", user="second@example.com", roles=frozenset({"admin"})))
    await site.post("/users/erase", {"user": ROOT}, "second")
    [line] = [
        line
        for line in (await site.get("/audit", "second")).json()["items"]
        if (line["action"], line["subject"]) == ("create_key", made["id"])
    ]
    assert (line["who"], line["by"]) == ("", site.services.keys.pseudonym("shop", ROOT))


@pytest.mark.requirement("identity:audit")
async def test_the_audit_is_read_page_by_page_by_security_and_nobody_below() -> None:
    site = await open_site()
    await site.key("sec", Principal(tenant="shop", user="sec@example.com", roles=frozenset({"security"})))
    for number in range(5):
        await site.post("/keys", {"user": f"u{number}"}, "admin")
    whole = [line["id"] for line in (await site.get("/audit", "sec")).json()["items"]]
    assert whole == sorted(whole, reverse=True)
    paged: list[str] = []
    before = ""
    while True:
        page = (await site.get(f"/audit?limit=2&before={before}", "sec")).json()
        paged += [line["id"] for line in page["items"]]
        if page["next"] is None:
            break
        before = page["next"]
    assert paged == whole
    for who in ("ana", "staff"):
        assert (await site.get("/audit", who)).status_code == 403


@pytest.mark.requirement("identity:audit")
async def test_another_configuration_is_on_record_once() -> None:
    site = await open_site()
    local = Principal(tenant="shop", user="", credential="local")
    log = site.services.engine.audit
    changes = [await log.configured(local, digest) for digest in ("a", "a", "b", "b", "a")]
    assert changes == [True, False, True, False, True]
    lines = [line for line in await audit(site) if line["action"] == "configuration"]
    assert [(line["subject"], line["by"], line["credential"]) for line in lines] == [
        ("a", "", "local"),
        ("b", "", "local"),
        ("a", "", "local"),
    ]
