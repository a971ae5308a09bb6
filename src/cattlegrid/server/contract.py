"""What every route says of itself in the OpenAPI document: its refusals, its headers, and how a page is asked for."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Path, Query

from cattlegrid.server import models

_REASONS: Final[Mapping[int, str]] = {
    400: "The request cannot be read, or asks for what cannot be.",
    401: "No valid API key.",
    403: "The key does not allow this.",
    404: "There is no such thing, or it belongs to somebody else: nobody can tell which.",
    405: "The address does not take this method.",
    408: "The body did not arrive in time.",
    409: "It conflicts with what is there; `code` says how.",
    413: "The body, or the input for this agent, is too large.",
    415: "The body is not declared as `application/json`.",
    422: "The request was read but does not fit; unknown fields are refused.",
    429: "Too many requests wait; try again after `Retry-After`.",
    500: "Something broke on our side; the correlation id names it.",
    504: "The run takes longer than a request may wait; it goes on, and `message` says where.",
    503: "The service cannot take this now; try again after `Retry-After`.",
}
_CORRELATION: Final = {
    "X-Correlation-Id": {
        "description": "Names this request in the logs; yours, if you sent one.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}
_LOCATION: Final = {"Location": {"description": "Where it is shown.", "schema": {"type": "string"}}}
_EVENT: Final = {
    "type": "object",
    "description": "One server-sent event.",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Give it as `Last-Event-ID` to go on from here."},
        "event": {
            "type": "string",
            "enum": [
                *("run.started", "run.restarted", "run.held", "run.parked", "run.cancelling", "run.finished"),
                *(
                    "step.started",
                    "step.finished",
                    "message.delta",
                    "message.reset",
                    "approval.decided",
                    "error",
                ),
            ],
        },
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "`run.finished` has the answer as `output`, and its cost.",
        },
    },
}
_FOREIGN_EVENT: Final = {
    "type": "object",
    "description": "One server-sent event of the door's protocol.",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_ALWAYS: Final = (400, 401, 403, 408, 413, 415, 422, 500, 503)

Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Before = Annotated[str, Query(max_length=64, description="`next` of the page before.")]
Id = Annotated[str, Path(max_length=64, description="Its id.")]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route that asks for a key: those that every such route may give, and these."""
    return {status: _refusal(status) for status in sorted({*_ALWAYS, *statuses})}


def open_refusals() -> dict[int | str, dict[str, Any]]:
    """The refusals of a route that asks for no key."""
    return {status: _refusal(status) for status in (400, 408, 413, 415, 422, 500)}


def success(
    description: str, *, located: bool = False, events: bool = False, foreign_events: bool = False
) -> dict[str, Any]:
    """How an answer is described.

    `events` says that the same comes as a stream, if that is asked for; `foreign_events`, as one of somebody else's
    protocol.
    """
    told: dict[str, Any] = {"description": description, "headers": {**_CORRELATION}}
    if located:
        told["headers"] |= _LOCATION
    if events or foreign_events:
        told["content"] = {"text/event-stream": {"itemSchema": _FOREIGN_EVENT if foreign_events else _EVENT}}
    return told


def _refusal(status: int) -> dict[str, Any]:
    headers = {**_CORRELATION, **(_RETRY_AFTER if status in {429, 503} else {})}
    return {"model": models.Refusal, "description": _REASONS[status], "headers": headers}
