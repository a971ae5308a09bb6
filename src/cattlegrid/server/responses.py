"""Responses over HTTP: an agent as a model, for OpenAI's clients and whoever speaks Open Responses.

A response is a run and a conversation is a session; everything goes through the engine that `runs.py` goes through.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response as HttpResponse

from cattlegrid.core.errors import InvalidRequest, NotFound
from cattlegrid.journal.events import ApprovalDecision
from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.runtime.streams import START
from cattlegrid.server import doors, response_models, response_objects, sse, views
from cattlegrid.server.auth import Call, Caller
from cattlegrid.server.client_words import files_of, turn_of
from cattlegrid.server.contract import Id, refusals, success
from cattlegrid.server.door_names import Place, place_of
from cattlegrid.server.operate import current_versions
from cattlegrid.server.response_inputs import HINTS, Decision, NewResponse
from cattlegrid.server.response_stream import ResponseTeller

router = APIRouter(prefix="/v1", tags=["models"])

_CANCEL_WAIT_S = 5.0


@router.post(
    "/responses",
    operation_id="createResponse",
    summary="Ask an agent as a model",
    response_model=response_models.Response,
    responses={
        200: success(
            "The response; `in_progress` when it waits for a person or takes longer than a request may wait.",
            located=True,
            foreign_events=True,
        ),
        **refusals(404, 409, 429),
    },
)
async def create_response(
    body: NewResponse, call: Caller, idempotency_key: doors.IdempotencyKey = ""
) -> HttpResponse:
    """Ask, in a new conversation or in one that goes on; or decide on held calls, with the role `approver`."""
    ignored = doors.hints_of(body, HINTS)
    previous = body.previous_response_id
    if body.decisions:
        accepted = await _decide(call, body)
    else:
        said = body.said
        request = RunRequest(
            text=turn_of(said, param="input"),
            attachments=files_of(said),
            idempotency_key=idempotency_key,
            route="responses",
        )
        accepted = await doors.accept(call, body.model, await _place(call, body), request)
    render = partial(_render, call, ignored, previous)
    if body.stream:
        return sse.stream(call, accepted.run_id, START, teller=ResponseTeller(call, accepted.run_id, render))
    return _reply(await doors.answered(call, accepted, at_once=bool(body.background)), render)


@router.get(
    "/responses/{response_id}",
    operation_id="showResponse",
    summary="Show a response",
    response_model=response_models.Response,
    responses={
        200: success("The response as it is now.", located=True, foreign_events=True),
        **refusals(404),
    },
)
async def show_response(
    response_id: Id,
    call: Caller,
    stream: Annotated[bool, Query(description="As events, from the beginning.")] = False,  # noqa: FBT002
) -> HttpResponse:
    """A run of yours, or for staff of the tenant's, as a response."""
    entry = await doors.run_entry(call, response_id)
    render = partial(_render, call, (), None)
    if stream:
        return sse.stream(call, entry.id, START, teller=ResponseTeller(call, entry.id, render))
    return _reply(await call.services.engine.reader.run(entry.id, call.principal), render)


@router.post(
    "/responses/{response_id}/cancel",
    operation_id="cancelResponse",
    summary="Cancel a response",
    response_model=response_models.Response,
    responses={
        200: success(
            "The response, which has ended by this or before it; or ends once a side effect has.",
            located=True,
        ),
        **refusals(404),
    },
)
async def cancel_response(response_id: Id, call: Caller) -> HttpResponse:
    """Ask for the end of a run. What it did is on record; a side effect under way is not torn apart."""
    engine = call.services.engine
    entry = await doors.run_entry(call, response_id)
    await engine.cancel(entry.id, call.principal, reason="asked")
    accepted = Accepted(session_id=entry.stream, run_id=entry.id)
    view = await engine.wait(accepted, call.principal, timeout_s=_CANCEL_WAIT_S)
    return _reply(view, partial(_render, call, (), None))


@router.get(
    "/models",
    operation_id="listModels",
    summary="List agents as models",
    response_model=response_models.Models,
    responses={200: success("The agents, by name."), **refusals()},
)
async def list_models(call: Caller) -> HttpResponse:
    """The agents that can be talked to."""
    return views.reply({"object": "list", "data": [_model(one) for one in await current_versions(call)]})


@router.get(
    "/models/{name}",
    operation_id="showModel",
    summary="Show an agent as a model",
    response_model=response_models.Model,
    responses={200: success("The agent."), **refusals(404)},
)
async def show_model(name: Id, call: Caller) -> HttpResponse:
    """One agent that can be talked to."""
    found = next((one for one in await current_versions(call) if one["agent"] == name), None)
    if found is None:
        raise NotFound("There is no agent with this name.")
    return views.reply(_model(found))


async def _place(call: Call, body: NewResponse) -> Place:
    if body.previous_response_id is None:
        return place_of(body.place)
    before = await doors.run_entry(call, body.previous_response_id)
    return Place(session_id=before.stream, after_run=before.id)


async def _decide(call: Call, body: NewResponse) -> Accepted:
    """Decide on held calls of one run; that run. Everything is checked before the first decision is made."""
    if body.said:
        raise InvalidRequest("Decide with decisions alone; ask with the next request.", param="input")
    engine = call.services.engine
    held = [
        await engine.reader.approval(decision.approval_request_id, call.principal)
        for decision in body.decisions
    ]
    runs = {view.run_id for view in held}
    if body.previous_response_id is not None:
        runs.add((await doors.run_entry(call, body.previous_response_id)).id)
    if len(runs) != 1:
        raise InvalidRequest("These held calls are not of one response.", param="input")
    for decision in body.decisions:
        await engine.decide(
            decision.approval_request_id, call.principal, _decision(decision), note=decision.reason or ""
        )
    return Accepted(session_id=held[0].session_id, run_id=held[0].run_id)


def _decision(decision: Decision) -> ApprovalDecision:
    return ApprovalDecision.APPROVE if decision.approve else ApprovalDecision.REJECT


def _render(
    call: Call, ignored: Sequence[str], previous: str | None, view: RunView, message_id: str = ""
) -> views.Json:
    return response_objects.response(
        view,
        staff=views.is_staff(call.principal),
        ignored=ignored,
        previous=previous,
        message_id=message_id,
    )


def _reply(view: RunView, render: partial[views.Json]) -> HttpResponse:
    return views.reply(render(view), headers=doors.located(view))


def _model(version: views.Json) -> views.Json:
    extension = {"bundle": version["name"]}
    return {
        "id": version["agent"],
        "object": "model",
        "created": 0,
        "owned_by": "cattlegrid",
        "cattlegrid": extension,
    }
