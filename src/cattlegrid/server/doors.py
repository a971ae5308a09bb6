"""What the doors in other people's formats share: how a request becomes a run, and what is ours in their answers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Header
from msgspec.structs import replace
from pydantic import BaseModel, Field, JsonValue

from cattlegrid.core.errors import InvalidRequest, NotFound
from cattlegrid.journal.store import Entry
from cattlegrid.runtime.requests import Accepted, ApprovalView, RunRequest, RunView
from cattlegrid.server import views
from cattlegrid.server.auth import Call
from cattlegrid.server.door_names import Place, run_of

SESSION_HEADER: Final = "X-Cattlegrid-Session"
WAITS: Final = frozenset({"pending", "in_doubt"})
"""The statuses of approvals that nobody has decided."""

IdempotencyKey = Annotated[
    str,
    Header(
        max_length=255,
        pattern=r"^([\x21-\x7e]{1,255})?$",
        description="The same key with the same request gets the same run, and never a second one; with another request, "
        "409. 1 to 255 visible ASCII characters; unique for you and this address.",
    ),
]


def kind_of(value: Any) -> str:  # noqa: ANN401 - whatever a client has sent
    """Whether a field that takes both holds a text or a list, so that errors speak of the right one."""
    return "list" if isinstance(value, list) else "text"


Hint = Annotated[
    JsonValue,
    Field(
        default=None,
        description="Taken, and without effect: the agent decides. `cattlegrid.ignored` names it.",
    ),
]


async def accept(call: Call, agent: str, place: Place, request: RunRequest) -> Accepted:
    """The run that answers a request, wherever its place is.

    Raises:
        NotFound: no such agent, session or run, or somebody else's.
        InvalidRequest: the session is with another agent.
        Conflict, Limited, TooLarge: as `Engine.submit` says.
    """
    engine = call.services.engine
    if not place.session_id:
        return await engine.start(agent, call.principal, replace(request, thread=place.thread))
    session = await engine.reader.entry("session", place.session_id, call.principal)
    if session.agent != agent:
        raise InvalidRequest(
            "This conversation is with another agent: name that one as `model`.", param="model"
        )
    return await engine.submit(place.session_id, call.principal, replace(request, after_run=place.after_run))


async def run_entry(call: Call, response_id: str) -> Entry:
    """The run of a response. Raises NotFound, in the same words for every reason."""
    try:
        return await call.services.engine.reader.entry("run", run_of(response_id), call.principal)
    except NotFound:
        raise NotFound("There is no response with this id.") from None


async def answered(call: Call, accepted: Accepted, *, at_once: bool = False) -> RunView:
    """The run once it has ended or waits for a person, or as it is when the server lets a request wait no longer."""
    wait_s = 0.0 if at_once else call.services.settings.run_wait_s
    return await call.services.engine.wait(accepted, call.principal, timeout_s=wait_s)


def extension(view: RunView, ignored: Sequence[str] = ()) -> views.Json:
    """What is ours in somebody else's format."""
    return {
        "run_id": view.id,
        "session_id": view.session_id,
        "agent": view.agent,
        "bundle": view.bundle,
        "status": view.status,
        "reason": view.reason,
        "cost_nano_usd": view.cost_nano_usd,
        "cost_usd": views.usd(view.cost_nano_usd),
        "ignored": list(ignored),
    }


def waiting(view: RunView) -> Sequence[ApprovalView]:
    """The held calls of a run that wait for a person."""
    return [approval for approval in view.approvals if approval.status in WAITS]


async def resting(call: Call, accepted: Accepted, told: set[str]) -> RunView | None:
    """The run, when it goes on by itself no more and all holds that it waits for are among those told."""
    engine = call.services.engine
    if not waiting(await engine.reader.run(accepted.run_id, call.principal)):
        return None
    view = await engine.wait(accepted, call.principal, timeout_s=call.services.settings.run_wait_s)
    covered = view.status == "held" and {approval.id for approval in waiting(view)} <= told
    return view if covered else None


def hints_of(body: BaseModel, names: Sequence[str]) -> Sequence[str]:
    """The fields that a client has set and that have no effect."""
    return [name for name in names if getattr(body, name) is not None]


def located(view: RunView) -> Mapping[str, str]:
    """The headers of an answer about a run."""
    return {"Location": f"/runs/{view.id}", SESSION_HEADER: view.session_id}


def sample(example: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an input that refuses what it does not know and coerces nothing."""
    return {"extra": "forbid", "strict": True, "json_schema_extra": {"examples": [dict(example)]}}
