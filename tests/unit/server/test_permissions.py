"""The one table of who may do what, held to the routes, to the roles, and to what the documents say."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from cattlegrid.core.permissions import GRANTS, ROLES, Permission, allows, holders
from cattlegrid.core.principal import Principal
from cattlegrid.server.auth import Caller
from cattlegrid.server.routes import OPEN, ROUTES
from cattlegrid.testing.models import answer
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

IDENTITY = Path(__file__).resolve().parents[3] / "docs" / "identity.md"


def operations(site: Site) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation of the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = site.app.openapi()["paths"]
    return {
        item["operationId"]: (method, path, item)
        for path, methods in paths.items()
        for method, item in methods.items()
    }


@pytest.mark.requirement("identity:permissions")
async def test_every_route_has_its_place_in_the_table_and_nothing_else_has() -> None:
    assert set(operations(await open_site())) == set(ROUTES) | OPEN
    assert not set(ROUTES) & OPEN


@pytest.mark.requirement("identity:permissions")
async def test_a_route_that_is_not_in_the_table_lets_nobody_in() -> None:
    router = APIRouter()

    @router.get("/forgotten", operation_id="forgotten")
    async def forgotten(call: Caller) -> str:
        return call.principal.user

    site = await open_site()
    site.app.include_router(router)
    assert isinstance(router.routes[0], APIRoute)
    refused = await site.get("/forgotten", "admin")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert (await site.get("/forgotten", "")).status_code == 401


def body_of(operation: str) -> object:
    return {
        "openSession": {"agent": "support"},
        "startRun": {"agent": "support", "input": "Hi"},
        "continueSession": {"input": "Hi"},
        "giveFeedback": {"thumb": "up"},
        "decideApproval": {"decision": "approve"},
        "replaySession": {"session_id": "ses_nothing"},
        "eraseUser": {"user": "nobody@example.com"},
        "createKey": {"user": "nobody@example.com"},
    }.get(operation)


@pytest.mark.requirement("identity:permissions")
@pytest.mark.parametrize("role", ROLES)
async def test_each_role_passes_exactly_where_the_table_says(role: str) -> None:
    """What has passed may still find nothing; what may not pass is refused whether or not there is something."""
    site = await open_site(model=lambda _: answer("Hello."), settings={"run_wait_s": 0.0})
    await site.key(role, Principal(tenant="shop", user=f"{role}@example.com", roles=frozenset({role})))
    for operation, (method, path, _) in operations(site).items():
        if operation in OPEN:
            continue
        where = re.sub(r"\{[a-z_]+\}", "nothing", path)
        async with site.open(
            method.upper(), where, role, msgspec.json.encode(body_of(operation) or None)
        ) as answered:
            passed = answered.status not in {401, 403}
        assert passed == allows(ROUTES[operation], {role}), f"{role}: {method} {path}: {answered.status}"
        assert answered.status < 500, f"{role}: {method} {path}"


@pytest.mark.requirement("identity:permissions")
def test_the_documents_show_the_table_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", IDENTITY.read_text(), re.MULTILINE)
    shown = {name: (says, roles, routes) for name, says, roles, routes in rows}
    for permission in Permission:
        names = holders(permission)
        roles = "every role" if names == ROLES else ", ".join(f"`{name}`" for name in names)
        routes = sorted(operation for operation, needed in ROUTES.items() if needed is permission)
        also = ", ".join(f"`{operation}`" for operation in routes) or "-"
        assert shown.pop(permission.value, None) == (GRANTS[permission].says, roles, also)
    assert shown == {}


def test_a_role_that_does_not_exist_may_nothing() -> None:
    nobody = Principal(tenant="t", user="u", roles=frozenset({"root", "", "Admin", "administrator"}))
    assert not any(nobody.may(permission) for permission in Permission)
    assert set(chain.from_iterable(GRANTS[permission].roles for permission in Permission)) <= set(ROLES)
