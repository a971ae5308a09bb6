"""AG-UI 1.0 over HTTP: a run as the events that user interfaces know (https://docs.ag-ui.com/spec/1.0).

A thread is a session under the user interface's own name. A run that waits for a person ends with an interrupt; the
next run on the thread resumes it: to see what somebody has decided, or, with the role `approver`, to decide.
"""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.journal.events import ApprovalDecision
from cattlegrid.runtime.requests import Accepted, ApprovalView, OnBusy, RunRequest
from cattlegrid.runtime.streams import START
from cattlegrid.server import doors, sse
from cattlegrid.server.agui_inputs import Resume, RunAgentInput
from cattlegrid.server.agui_stream import AguiTeller, Thread
from cattlegrid.server.auth import Call, Caller
from cattlegrid.server.contract import Id, refusals, success
from cattlegrid.server.door_names import place_of

router = APIRouter(tags=["models"])


@router.post(
    "/agents/{name}/agui",
    operation_id="runAgent",
    summary="Run an agent for a user interface",
    response_class=Response,
    responses={
        200: success("The run's events.", located=True, foreign_events=True),
        **refusals(404, 409, 429),
    },
)
async def run_agent(
    name: Id, body: RunAgentInput, call: Caller, idempotency_key: doors.IdempotencyKey = ""
) -> Response:
    """Ask, or go on after an interrupt. Refusals before the run begins are those of HTTP."""
    if body.resume:
        accepted = await _resumed(call, name, body.resume)
    else:
        # A thread with an open interrupt takes no other input, by the protocol.
        request = RunRequest(
            text=body.turn, idempotency_key=idempotency_key, route="agui", on_busy=OnBusy.REJECT
        )
        accepted = await doors.accept(call, name, place_of(body.thread_id), request)
    thread = Thread(
        id=body.thread_id,
        run_id=body.run_id,
        messages=tuple(one.model_dump(by_alias=True, exclude_unset=True) for one in body.messages),
        answered=frozenset(one.interrupt_id for one in body.resume or ()),
        ignored=tuple(body.ignored),
    )
    teller = AguiTeller(call, accepted, thread)
    headers = {doors.SESSION_HEADER: accepted.session_id}
    return sse.stream(call, accepted.run_id, START, teller=teller, headers=headers)


async def _resumed(call: Call, agent: str, resume: list[Resume]) -> Accepted:
    """The run that was interrupted, once everything that was decided is on record."""
    reader = call.services.engine.reader
    held = [(one, await reader.approval(one.interrupt_id, call.principal)) for one in resume]
    first = held[0][1]
    if any(view.run_id != first.run_id for _, view in held):
        raise InvalidRequest("These interrupts are not of one run.", param="resume")
    if first.agent != agent:
        raise InvalidRequest("This thread is with another agent.", param="resume")
    run = await reader.run(first.run_id, call.principal)
    if not {view.id for view in doors.waiting(run)} <= {view.id for _, view in held}:
        raise InvalidRequest("Answer every open interrupt of the run.", param="resume")
    for one, view in held:
        await _settle(call, one, view)
    return Accepted(session_id=first.session_id, run_id=first.run_id)


async def _settle(call: Call, resume: Resume, view: ApprovalView) -> None:
    """Sent again, an answer changes nothing."""
    engine = call.services.engine
    if view.status not in doors.WAITS:
        return
    if resume.status == "cancelled":
        await engine.cancel(view.run_id, call.principal, reason="asked")
    elif resume.payload is not None:
        edited = resume.payload.edited_args
        arguments = "" if edited is None else msgspec.json.encode(edited).decode()
        decision = ApprovalDecision.MODIFY if arguments else ApprovalDecision.APPROVE
        if not resume.payload.approved:
            decision, arguments = ApprovalDecision.REJECT, ""
        await engine.decide(view.id, call.principal, decision, arguments=arguments)
