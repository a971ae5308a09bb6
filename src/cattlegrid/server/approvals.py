"""Approvals over HTTP: list, show, decide."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from cattlegrid.journal.events import ApprovalDecision
from cattlegrid.runtime.requests import Accepted
from cattlegrid.server import inputs, models, views
from cattlegrid.server.auth import Caller
from cattlegrid.server.contract import Before, Id, Limit, refusals, success
from cattlegrid.server.runs import answer_run

router = APIRouter(prefix="/approvals", tags=["approvals"])


@router.get(
    "",
    operation_id="listApprovals",
    summary="List held calls",
    response_model=models.Approvals,
    responses={200: success("A page of held calls, newest first."), **refusals()},
)
async def list_approvals(
    call: Caller,
    status: Annotated[
        list[models.ApprovalStatus] | None, Query(description="Only with one of these.")
    ] = None,
    limit: Limit = 20,
    before: Before = "",
) -> Response:
    """Calls that wait, or waited, for a person. Users see that theirs wait; staff see what would be done."""
    found = await call.services.engine.reader.approvals(
        call.principal, statuses=status or (), limit=limit, before_id=before
    )
    return views.reply(views.page([views.approval(view, call.principal) for view in found], limit))


@router.get(
    "/{approval_id}",
    operation_id="showApproval",
    summary="Show a held call",
    response_model=models.Approval,
    responses={200: success("The held call."), **refusals(404)},
)
async def show_approval(approval_id: Id, call: Caller) -> Response:
    """One held call, with its exact arguments for those who decide."""
    view = await call.services.engine.reader.approval(approval_id, call.principal)
    return views.reply(views.approval(view, call.principal))


@router.post(
    "/{approval_id}/decision",
    operation_id="decideApproval",
    summary="Decide on a held call",
    response_model=models.Run,
    responses={
        200: success("The run has gone on and ended.", located=True),
        202: {"model": models.Run, **success("The run goes on, or waits for another person.", located=True)},
        **refusals(404, 409),
    },
)
async def decide_approval(approval_id: Id, body: inputs.NewDecision, call: Caller) -> Response:
    """Decide once, with the role `approver`, and never on a request of one's own. Waits for the run like a request."""
    engine = call.services.engine
    waiting = await engine.reader.approval(approval_id, call.principal)
    arguments = "" if body.arguments is None else msgspec.json.encode(body.arguments).decode()
    run_id = await engine.decide(
        approval_id, call.principal, ApprovalDecision(body.decision), note=body.note, arguments=arguments
    )
    return await answer_run(call, Accepted(session_id=waiting.session_id, run_id=run_id))
