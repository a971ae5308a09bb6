"""The container contract of managed agent platforms: `POST /invocations` and `GET /ping`.

As Amazon Bedrock AgentCore's HTTP protocol contract has it (runtime-http-protocol-contract): JSON in, JSON or events
out, the session in a header, and a ping that says whether work is under way. The caller's key comes as everywhere, in
`Authorization` or `X-Api-Key`, which the platform is told to pass on.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.runtime.streams import START
from cattlegrid.server import doors, models, response_models, sse, views
from cattlegrid.server.auth import Call, Caller, services_of
from cattlegrid.server.contract import open_refusals, refusals, success
from cattlegrid.server.door_names import place_of
from cattlegrid.server.inputs import Features, Name
from cattlegrid.server.runs import wants_events

router = APIRouter(tags=["models"])

SESSION: Final = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"

RuntimeSession = Annotated[
    str,
    Header(
        alias=SESSION,
        pattern=r"^[\x21-\x7e]{0,256}$",
        description="The platform's name for the conversation; or the id of a session.",
    ),
]


class NewInvocation(BaseModel):
    """A request to the agent that is served here."""

    model_config = ConfigDict(**doors.sample({"prompt": "Where is order 17?"}))

    prompt: str = Field(min_length=1, description="What the user says.")
    agent: Name | None = Field(default=None, description="Which one, when several are served.")
    features: Features = []


class Waiting(BaseModel):
    """A call that waits for a person."""

    model_config = ConfigDict(extra="forbid")

    id: str
    tool: str
    status: models.ApprovalStatus


class Invocation(BaseModel):
    """The answer."""

    model_config = ConfigDict(extra="forbid")

    response: str
    status: Literal[
        "success", "queued", "running", "held", "dead", "partial", "denied", "failed", "cancelled", "erased"
    ]
    approvals: list[Waiting]
    cattlegrid: response_models.Extension


class Ping(BaseModel):
    """Whether the process is well, and whether runs are under way."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["Healthy", "HealthyBusy"]
    time_of_last_update: int = Field(description="When it was first seen to be so, in seconds since 1970.")


class Pulse:
    """Remembers since when the status has been what it is."""

    def __init__(self, started_at: datetime) -> None:
        self._busy = False
        self._since = started_at

    def since(self, now: datetime, *, busy: bool) -> datetime:
        """Since when this status was seen."""
        if busy != self._busy:
            self._busy, self._since = busy, now
        return self._since


@router.post(
    "/invocations",
    operation_id="invoke",
    summary="Invoke the agent of this container",
    response_model=Invocation,
    responses={
        200: success("The answer, or what it waits for.", located=True, events=True),
        **refusals(404, 409, 429),
    },
)
async def invoke(
    request: Request,
    body: NewInvocation,
    call: Caller,
    session: RuntimeSession = "",
    idempotency_key: doors.IdempotencyKey = "",
) -> Response:
    """Ask, in the session that the header names, or in a new one. With `Accept: text/event-stream`, as events."""
    agent = body.agent or await _only_agent(call)
    asked = RunRequest(
        text=body.prompt,
        features=tuple(body.features),
        idempotency_key=idempotency_key,
        route="invocations",
    )
    accepted = await doors.accept(call, agent, place_of(session), asked)
    named = {SESSION: session or accepted.session_id}
    if wants_events(request.headers.get("accept", "")):
        return sse.stream(call, accepted.run_id, START, headers=named)
    view = await doors.answered(call, accepted)
    return views.reply(
        {
            "response": view.output,
            "status": "success" if view.status == "completed" else view.status,
            "approvals": [
                {"id": one.id, "tool": one.tool, "status": one.status} for one in doors.waiting(view)
            ],
            "cattlegrid": doors.extension(view),
        },
        headers={**doors.located(view), **named},
    )


@router.get(
    "/ping",
    operation_id="ping",
    summary="Whether runs are under way",
    tags=["probes"],
    response_model=Ping,
    responses={200: success("The process answers."), **open_refusals()},
)
async def ping(request: Request) -> Response:
    """`HealthyBusy` while runs are under way, so that the platform does not put the container to sleep."""
    services = services_of(request)
    busy = any(runner.busy for runner in services.engine.runners.values())
    pulse = request.app.state.pulse
    if not isinstance(pulse, Pulse):
        raise TypeError("the app was made without a pulse")
    since = pulse.since(services.clock.now(), busy=busy)
    return views.reply(
        {"status": "HealthyBusy" if busy else "Healthy", "time_of_last_update": int(since.timestamp())}
    )


async def _only_agent(call: Call) -> str:
    agents = await call.services.bundles.agents()
    if len(agents) != 1:
        raise InvalidRequest("Several agents are served here: name one as `agent`.", param="agent")
    return agents[0]
