"""Sessions over HTTP: open one, list, show, close."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from cattlegrid.server import inputs, models, views
from cattlegrid.server.auth import Caller
from cattlegrid.server.contract import Before, Id, Limit, refusals, success

router = APIRouter(prefix="/sessions", tags=["sessions"])


@router.post(
    "",
    operation_id="openSession",
    summary="Open a session",
    status_code=201,
    response_model=models.Session,
    responses={201: success("The session.", located=True), **refusals(404)},
)
async def open_session(body: inputs.NewSession, call: Caller) -> Response:
    """Open a session with an agent, pinned to its current version, without a run yet."""
    engine = call.services.engine
    session_id = await engine.open_session(body.agent, call.principal)
    view = await engine.reader.session(session_id, call.principal)
    return views.reply(views.session(view), status=201, headers={"Location": f"/sessions/{session_id}"})


@router.get(
    "",
    operation_id="listSessions",
    summary="List sessions",
    response_model=models.Sessions,
    responses={200: success("A page of sessions, newest first."), **refusals()},
)
async def list_sessions(
    call: Caller,
    status: Annotated[list[models.SessionStatus] | None, Query(description="Only with one of these.")] = None,
    limit: Limit = 20,
    before: Before = "",
) -> Response:
    """Your sessions; for operators and approvers, those of all users of the tenant."""
    found = await call.services.engine.reader.sessions(
        call.principal, statuses=status or (), limit=limit, before_id=before
    )
    return views.reply(views.page([views.session(view) for view in found], limit))


@router.get(
    "/{session_id}",
    operation_id="showSession",
    summary="Show a session",
    response_model=models.Session,
    responses={200: success("The session."), **refusals(404)},
)
async def show_session(session_id: Id, call: Caller) -> Response:
    """A session of yours, or for staff of the tenant's."""
    return views.reply(views.session(await call.services.engine.reader.session(session_id, call.principal)))


@router.post(
    "/{session_id}/close",
    operation_id="closeSession",
    summary="Close a session",
    response_model=models.Session,
    responses={
        200: success("The session as it is now; it closes once its open run has ended."),
        **refusals(404),
    },
)
async def close_session(session_id: Id, call: Caller) -> Response:
    """End a session. Its outcome follows from the agent's rule. Closing again changes nothing."""
    engine = call.services.engine
    await engine.close_session(session_id, call.principal)
    return views.reply(views.session(await engine.reader.session(session_id, call.principal)))
