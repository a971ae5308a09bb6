"""Runs over HTTP: ask, watch, show, cancel, say what one thought of it."""

import re
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from cattlegrid.runtime.requests import Accepted, OnBusy, RunRequest
from cattlegrid.runtime.streams import START, Place, parse_place
from cattlegrid.server import inputs, models, sse, views
from cattlegrid.server.auth import Call, Caller
from cattlegrid.server.contract import Before, Id, Limit, refusals, success

router = APIRouter(tags=["runs"])

_CANCEL_WAIT_S: Final = 5.0
_ASYNC: Final = re.compile(r"(^|[,;\s])respond-async($|[,;\s])", re.IGNORECASE)
_KEY: Final = r"^([\x21-\x7e]{1,255})?$"
_PLACE: Final = r"^([0-9]{1,10}(\.[0-9]{1,8})?)?$"

LastEventId = Annotated[str, Header(pattern=_PLACE, description="The id of the last event you have seen.")]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How a request wants to be answered, by its headers."""

    idempotency_key: str
    at_once: bool
    """Answered as soon as the request is durable."""
    streamed: bool
    after: Place
    """With a stream: the last event that the client has seen."""


async def wish_of(
    request: Request,
    idempotency_key: Annotated[
        str,
        Header(
            max_length=255,
            pattern=_KEY,
            description="The same key with the same body gets the same run, and never a second one; with another body, "
            "409. 1 to 255 visible ASCII characters; unique for you and this address.",
        ),
    ] = "",
    prefer: Annotated[
        str,
        Header(
            max_length=200,
            description="`respond-async` answers 202 as soon as the request is durable.",
        ),
    ] = "",
    last_event_id: Annotated[
        str,
        Header(pattern=_PLACE, description="With a stream: the id of the last event you have seen."),
    ] = "",
) -> Wish:
    """How this request wants to be answered."""
    return Wish(
        idempotency_key=idempotency_key,
        at_once=_ASYNC.search(prefer) is not None,
        streamed=wants_events(request.headers.get("accept", "")),
        after=parse_place(last_event_id) if last_event_id else START,
    )


Wished = Annotated[Wish, Depends(wish_of)]
_ANSWERS: Final = {
    200: success(
        "The run has ended. With `Accept: text/event-stream`: its events, the last of which has the answer.",
        located=True,
        events=True,
    ),
    202: {
        "model": models.Run,
        **success("The run waits for a person or for its turn, or still goes on: look again.", located=True),
    },
}


@router.post(
    "/runs",
    operation_id="startRun",
    summary="Ask an agent, in a new session",
    response_model=models.Run,
    responses={**_ANSWERS, **refusals(404, 409, 429)},
)
async def start_run(body: inputs.NewRun, call: Caller, wish: Wished) -> Response:
    """Open a session and its first run in one durable write, and wait for the answer."""
    accepted = await call.services.engine.start(body.agent, call.principal, _request(body, wish))
    return await _respond(call, accepted, wish)


@router.post(
    "/sessions/{session_id}/runs",
    operation_id="continueSession",
    summary="Ask again, in a session",
    response_model=models.Run,
    responses={**_ANSWERS, **refusals(404, 409, 429)},
)
async def continue_session(session_id: Id, body: inputs.NextRun, call: Caller, wish: Wished) -> Response:
    """Runs of one session come one after the other. The same text again joins the open run."""
    accepted = await call.services.engine.submit(session_id, call.principal, _request(body, wish))
    return await _respond(call, accepted, wish)


@router.get(
    "/runs",
    operation_id="listRuns",
    summary="List runs",
    response_model=models.Runs,
    responses={200: success("A page of runs, newest first, without their steps."), **refusals()},
)
async def list_runs(
    call: Caller,
    session_id: Annotated[str, Query(max_length=64, description="Only those of this session.")] = "",
    status: Annotated[list[models.RunStatus] | None, Query(description="Only with one of these.")] = None,
    limit: Limit = 20,
    before: Before = "",
) -> Response:
    """Your runs; for operators and approvers, those of all users of the tenant. Queued ones are not listed."""
    found = await call.services.engine.reader.runs(
        call.principal, session_id=session_id, statuses=status or (), limit=limit, before_id=before
    )
    return views.reply(views.page([views.run(view, call.principal, steps=False) for view in found], limit))


@router.get(
    "/runs/{run_id}",
    operation_id="showRun",
    summary="Show a run",
    response_model=models.Run,
    responses={200: success("The run; with its steps for operators and approvers."), **refusals(404)},
)
async def show_run(run_id: Id, call: Caller) -> Response:
    """A run of yours, or for staff of the tenant's."""
    view = await call.services.engine.reader.run(run_id, call.principal)
    return views.reply(views.run(view, call.principal))


@router.get(
    "/runs/{run_id}/events",
    operation_id="watchRun",
    summary="Watch a run",
    response_class=Response,
    responses={
        200: success("The run's events until it has ended.", located=True, events=True),
        **refusals(404),
    },
)
async def watch_run(run_id: Id, call: Caller, last_event_id: LastEventId = "") -> Response:
    """Server-sent events. Pieces of text are provisional: the answer counts when `run.finished` brings it."""
    place = parse_place(last_event_id) if last_event_id else START
    await call.services.engine.reader.entry("run", run_id, call.principal)
    return sse.stream(call, run_id, place)


@router.post(
    "/runs/{run_id}/cancel",
    operation_id="cancelRun",
    summary="Cancel a run",
    response_model=models.Run,
    responses={
        200: success("The run has ended, by this or before it."),
        202: {"model": models.Run, **success("The wish is on record; a call with an effect ends first.")},
        **refusals(404),
    },
)
async def cancel_run(run_id: Id, call: Caller) -> Response:
    """Ask for the end of a run. What it did is on record; a side effect under way is not torn apart."""
    engine = call.services.engine
    await engine.cancel(run_id, call.principal, reason="asked")
    view = await engine.reader.run(run_id, call.principal)
    if view.status not in views.FINAL:
        accepted = Accepted(session_id=view.session_id, run_id=run_id)
        view = await engine.wait(accepted, call.principal, timeout_s=_CANCEL_WAIT_S)
    return views.reply(views.run(view, call.principal), status=200 if view.status in views.FINAL else 202)


@router.post(
    "/runs/{run_id}/retry",
    operation_id="retryRun",
    summary="Let a dead run go on",
    response_model=models.Run,
    responses={200: success("The run, which goes on."), **refusals(404, 409)},
)
async def retry_run(run_id: Id, call: Caller) -> Response:
    """For operators: a run that cost one process after the other its life was given up, and is tried again from there.

    What it did is on record, and no call that may have happened is made again unless its tool says so.
    """
    await call.services.engine.retry(run_id, call.principal)
    return views.reply(
        views.run(await call.services.engine.reader.run(run_id, call.principal), call.principal)
    )


@router.post(
    "/runs/{run_id}/feedback",
    operation_id="giveFeedback",
    summary="Say what a run was worth",
    status_code=204,
    response_class=Response,
    responses={204: success("On record."), **refusals(404, 409)},
)
async def give_feedback(run_id: Id, body: inputs.NewFeedback, call: Caller) -> Response:
    """A thumb, a score or a text, as often as one likes, also while the run goes on and after it."""
    await call.services.engine.feedback(
        run_id, call.principal, thumb=body.thumb or "", score=body.score, text=body.text
    )
    return Response(status_code=204)


async def answer_run(call: Call, accepted: Accepted, *, at_once: bool = False) -> Response:
    """The run as JSON: 200 when it has ended, 202 when it waits for somebody or goes on."""
    engine = call.services.engine
    wait_s = 0.0 if at_once else call.services.settings.run_wait_s
    view = await engine.wait(accepted, call.principal, timeout_s=wait_s)
    return views.reply(
        views.run(view, call.principal),
        status=200 if view.status in views.FINAL else 202,
        headers={"Location": f"/runs/{accepted.run_id}"},
    )


def wants_events(accept: str) -> bool:
    """Whether an Accept header asks for a stream rather than for JSON (RFC 9110, section 12.5.1)."""
    quality = {"text/event-stream": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        kind, _, parameters = part.strip().partition(";")
        if kind.strip() in quality:
            given = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
            quality[kind.strip()] = float(given[1]) if given else 1.0
    return quality["text/event-stream"] > quality["application/json"]


def _request(body: inputs.NewRun | inputs.NextRun, wish: Wish) -> RunRequest:
    return RunRequest(
        text=body.input,
        attachments=tuple(one.attachment for one in body.attachments),
        features=tuple(body.features),
        idempotency_key=wish.idempotency_key,
        on_busy=OnBusy(body.on_busy),
    )


async def _respond(call: Call, accepted: Accepted, wish: Wish) -> Response:
    if wish.streamed:
        return sse.stream(call, accepted.run_id, wish.after)
    return await answer_run(call, accepted, at_once=wish.at_once)
