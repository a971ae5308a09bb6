"""For those who run the service: agents and versions, replay, erasure, audit, API keys."""

import contextlib

from fastapi import APIRouter
from starlette.responses import Response

from cattlegrid.core.errors import NotFound
from cattlegrid.server import inputs, models, views
from cattlegrid.server.auth import Call, Caller
from cattlegrid.server.contract import Before, Id, Limit, refusals, success
from cattlegrid.server.keys import NewKey
from cattlegrid.server.names import check_user

router = APIRouter()


@router.get(
    "/agents",
    operation_id="listAgents",
    summary="List agents",
    tags=["agents"],
    response_model=models.Agents,
    responses={200: success("The agents, by name."), **refusals()},
)
async def list_agents(call: Caller) -> Response:
    """The agents that can be talked to, and the version that new sessions get."""
    current = await current_versions(call)
    return views.reply({"items": [{"name": version["agent"], "current": version} for version in current]})


@router.get(
    "/agents/{name}/versions",
    operation_id="listVersions",
    summary="List an agent's versions",
    tags=["agents"],
    response_model=models.Versions,
    responses={200: success("All versions, oldest first."), **refusals(404)},
)
async def list_versions(name: Id, call: Caller) -> Response:
    """The numbered bundles of one agent."""
    found = await call.services.bundles.versions(name)
    if not found:
        raise NotFound("There is no agent with this name.")
    return views.reply({"items": [views.version(version) for version in found]})


@router.post(
    "/debug/replay",
    operation_id="replaySession",
    summary="Replay a session",
    tags=["operators"],
    response_model=models.Replay,
    responses={200: success("Identical, or the first difference."), **refusals(404, 409)},
)
async def replay_session(body: inputs.ReplayRequest, call: Caller) -> Response:
    """Drive the real loop over the record of a session of your tenant. Calls no model and no tool."""
    await call.services.engine.reader.entry("session", body.session_id, call.principal)
    async with call.services.engine.audit.acting(call.principal, "replay", body.session_id):
        report = await call.services.replayer.exact(body.session_id)
    return views.reply(views.replay(report))


@router.post(
    "/users/erase",
    operation_id="eraseUser",
    summary="Erase a user",
    tags=["operators"],
    response_model=models.Erased,
    responses={200: success("Gone: the user's key, texts, open runs and API keys."), **refusals()},
)
async def erase_user(body: inputs.EraseRequest, call: Caller) -> Response:
    """Delete the key under which everything of a user of your tenant is kept. Cannot be taken back."""
    tenant, user = call.principal.tenant, check_user(body.user)
    services = call.services
    # By pseudonym: the record of an erasure must not keep the name.
    async with services.engine.audit.acting(call.principal, "erase", services.keys.pseudonym(tenant, user)):
        keys = await services.keys.revoke_user(tenant, user, by=call.principal)
        sessions = await services.upkeep.erase(tenant, user, by=call.pseudonym)
    return views.reply({"sessions": sessions, "keys": keys})


@router.get(
    "/audit",
    operation_id="listAudit",
    summary="List what operators did",
    tags=["operators"],
    response_model=models.Audit,
    responses={200: success("A page of actions, newest first."), **refusals()},
)
async def list_audit(call: Caller, limit: Limit = 50, before: Before = "") -> Response:
    """Decisions, ends of others' runs, replays, erasures, keys and changes of the configuration, of your tenant."""
    found = await call.services.engine.audit.lines(call.principal.tenant, limit=limit, before_id=before)
    return views.reply(views.page([views.audit(line) for line in found], limit))


@router.get(
    "/keys",
    operation_id="listKeys",
    summary="List API keys",
    tags=["keys"],
    response_model=models.ApiKeys,
    responses={200: success("All keys of the tenant, newest first, without their secrets."), **refusals()},
)
async def list_keys(call: Caller) -> Response:
    """Keys, revoked ones included."""
    found = await call.services.keys.list_keys(call.principal.tenant)
    return views.reply({"items": [views.api_key(key) for key in found]})


@router.post(
    "/keys",
    operation_id="createKey",
    summary="Make an API key",
    tags=["keys"],
    status_code=201,
    response_model=models.CreatedKey,
    responses={201: success("The key, shown this once."), **refusals()},
)
async def create_key(body: inputs.NewApiKey, call: Caller) -> Response:
    """A key of your tenant: for one user, or with `act_as` for any, then with the role `user` only."""
    new = NewKey(
        tenant=call.principal.tenant,
        user=body.user or "",
        act_as=body.act_as,
        roles=tuple(dict.fromkeys(body.roles)),
        label=body.label,
    )
    key, text = await call.services.keys.create(new, by=call.principal)
    return views.reply({**views.api_key(key), "key": text}, status=201)


@router.post(
    "/keys/{key_id}/revoke",
    operation_id="revokeKey",
    summary="Revoke an API key",
    tags=["keys"],
    response_model=models.ApiKey,
    responses={200: success("The key, worth nothing from now on."), **refusals(404)},
)
async def revoke_key(key_id: Id, call: Caller) -> Response:
    """Counts at once, in every process. Revoking again changes nothing."""
    key = await call.services.keys.revoke(key_id, tenant=call.principal.tenant, by=call.principal)
    return views.reply(views.api_key(key))


async def current_versions(call: Call) -> list[dict[str, object]]:
    """The version of each agent that new sessions get; agents with none that may be used here are left out."""
    bundles = call.services.bundles
    found: list[dict[str, object]] = []
    for agent in await bundles.agents():
        with contextlib.suppress(NotFound):
            found.append(dict(views.version(await bundles.resolve(agent))))
    return found
