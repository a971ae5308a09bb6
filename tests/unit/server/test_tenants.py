"""Tenants: what one has, the others cannot see, touch or tell from what is not there."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from cattlegrid.core.principal import Principal
from cattlegrid.testing.models import answer, call
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

ELSEWHERE = Principal(tenant="other", user="ana@example.com", roles=frozenset({"admin"}))
"""Everything that a role can give, under the name of one of the first tenant's users, but in another tenant."""


async def two_tenants() -> tuple[Site, Mapping[str, str]]:
    """A site with one thing of each kind in the tenant `shop`, and the key of `other`'s administrator."""
    site = await open_site(
        model=lambda request: (
            answer(calls=[call("refund", order=17, amount=79.9)])
            if request.messages[-1].text == "refund"
            else answer("Hello.")
        )
    )
    await site.key("elsewhere", ELSEWHERE)
    ended, held = await site.ask("Hi"), await site.ask("refund")
    keys = (await site.get("/keys", "admin")).json()["items"]
    return site, {
        "run_id": ended["id"],
        "session_id": ended["session_id"],
        "approval_id": held["approvals"][0]["id"],
        "key_id": keys[-1]["id"],
        "response_id": ended["id"].replace("run_", "resp_"),
    }


def unlike(answered: Any) -> tuple[int, str]:  # noqa: ANN401 - an answer of either client
    """What of an answer can be told apart: everything but the correlation id and the time."""
    return answered.status_code, re.sub(r'"correlation_id":"[^"]*"', "", answered.text)


@pytest.mark.requirement("identity:tenants")
async def test_what_belongs_to_another_tenant_and_what_is_nowhere_get_the_same_answer() -> None:
    site, ids = await two_tenants()
    bodies: dict[str, object] = {
        "decision": {"decision": "approve"},
        "feedback": {"thumb": "up"},
        "runs": {"input": "Hi"},
    }
    paths: dict[str, dict[str, Any]] = site.app.openapi()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            names = [name for name in re.findall(r"\{(\w+)\}", path) if name in ids]
            if not names:
                continue
            there, nowhere = path, path
            for name in names:
                there = there.replace(f"{{{name}}}", ids[name])
                nowhere = nowhere.replace(
                    f"{{{name}}}", f"{ids[name][:-1]}{'Z' if ids[name][-1] != 'Z' else 'Y'}"
                )
            if method == "get":
                answers = [await site.get(where, "elsewhere") for where in (there, nowhere)]
            else:
                body = bodies.get(path.rpartition("/")[2])
                answers = [await site.post(where, body, "elsewhere") for where in (there, nowhere)]
            assert unlike(answers[0]) == unlike(answers[1]), path
            assert answers[0].status_code == 404, path
            asked += 1
    assert asked >= 12
    for word in ("previous_response_id", "conversation"):
        known = {"previous_response_id": ids["response_id"], "conversation": ids["session_id"]}[word]
        continued = [
            await site.post("/v1/responses", {"model": "support", "input": "Hi", word: id}, "elsewhere")
            for id in (known, f"{known[:-1]}{'Z' if known[-1] != 'Z' else 'Y'}")
        ]
        assert unlike(continued[0]) == unlike(continued[1]), word
        assert continued[0].status_code == 404, word
    replays = [
        await site.post("/debug/replay", {"session_id": id}, "elsewhere")
        for id in (ids["session_id"], "ses_x")
    ]
    assert unlike(replays[0]) == unlike(replays[1])
    assert replays[0].status_code == 404


@pytest.mark.requirement("identity:tenants")
async def test_lists_have_what_is_of_one_s_own_tenant_only() -> None:
    site, ids = await two_tenants()
    for path in ("/sessions", "/runs", "/approvals", f"/runs?session_id={ids['session_id']}"):
        assert (await site.get(path, "elsewhere")).json()["items"] == [], path
        assert (await site.get(path, "admin")).json()["items"] != [], path
    for path in ("/keys", "/audit"):
        tenants = {item["tenant"] for item in (await site.get(path, "elsewhere")).json()["items"]}
        assert tenants == {"other"}, path
        tenants = {item["tenant"] for item in (await site.get(path, "admin")).json()["items"]}
        assert tenants == {"shop"}, path


@pytest.mark.requirement("identity:tenants")
async def test_nothing_that_another_tenant_does_reaches_a_user_of_the_same_name() -> None:
    site, ids = await two_tenants()
    erased = await site.post("/users/erase", {"user": "ana@example.com"}, "elsewhere")
    assert erased.json() == {"sessions": 0, "keys": 1}, "their own key, and nothing of ours"
    assert (await site.get(f"/runs/{ids['run_id']}")).status_code == 200
    key = {"Idempotency_Key": "same"}
    await site.key("elsewhere", ELSEWHERE)
    first, second = [
        await site.post("/runs", {"agent": "support", "input": "Hi"}, who, **key)
        for who in ("ana", "elsewhere")
    ]
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.requirement("identity:tenants")
async def test_what_counts_for_all_tenants_together_is_for_the_one_that_operates_the_service() -> None:
    site, _ = await two_tenants()
    far = {"X_Forwarded_For": "192.0.2.7"}
    assert (await site.get("/metrics", "staff", **far)).status_code == 200
    assert (await site.get("/metrics", "elsewhere", **far)).status_code == 403
