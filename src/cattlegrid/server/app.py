"""Puts the server together: the routes, what surrounds every request, and the mapping of every error.

Edge -> Bodies -> routes        names and logs; takes in the body; authenticates, parses, calls the runtime
"""

from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cattlegrid.core.errors import CattlegridError
from cattlegrid.server import (
    agui,
    approvals,
    chat_completions,
    invocations,
    operate,
    probes,
    responses,
    runs,
    sessions,
)
from cattlegrid.server.body import Bodies
from cattlegrid.server.edge import Edge
from cattlegrid.server.errors import CORRELATION, answer_error, answer_http, answer_invalid
from cattlegrid.server.services import Services

_DESCRIPTION: Final = """Talk to agents, watch what they do, decide what needs a person.

Every request carries an API key. Every refusal has the same shape, with a stable `code` and a correlation id.
Money is integer billionths of a US dollar (`..._nano_usd`), and the same as a decimal text (`..._usd`).
"""
_TAGS: Final = [
    {"name": "sessions", "description": "A user's conversations."},
    {"name": "runs", "description": "One request to its answer."},
    {"name": "approvals", "description": "Calls that wait for a person."},
    {"name": "models", "description": "Agents as models, for clients that know models."},
    {"name": "agents", "description": "What can be talked to."},
    {"name": "operators", "description": "Replay and erasure."},
    {"name": "keys", "description": "Who may come in."},
    {"name": "probes", "description": "For machines that watch this one."},
]


def create_app(services: Services) -> FastAPI:
    """The ASGI application. Whoever made the services ends them, after the server has stopped."""
    app = FastAPI(
        title="Cattlegrid",
        version=services.settings.version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        exception_handlers={
            CattlegridError: _refused,
            RequestValidationError: _invalid,
            HTTPException: _unrouted,
        },
    )
    app.state.services = services
    app.state.pulse = invocations.Pulse(services.settings.started_at)
    doors = (responses, chat_completions, agui, invocations)
    for room in (sessions, runs, approvals, *doors, operate, probes):
        app.include_router(room.router)
    # The one that is added last is the outermost.
    settings = services.settings
    app.add_middleware(Bodies, max_bytes=settings.max_body_bytes, wait_s=settings.body_wait_s)
    app.add_middleware(Edge, services=services)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    return answer_error(cast("CattlegridError", error), _correlation(request))


async def _invalid(request: Request, error: Exception) -> Response:
    problems: list[dict[str, Any]] = list(cast("RequestValidationError", error).errors())
    # OpenAI's clients know a request that does not fit as a 400.
    status = 400 if request.scope["path"].startswith("/v1/") else 422
    return answer_invalid(problems, _correlation(request), status=status)


async def _unrouted(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    return answer_http(refused.status_code, _correlation(request), refused.headers)


def _correlation(request: Request) -> str:
    return request.scope[CORRELATION]
