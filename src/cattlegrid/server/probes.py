"""Whether the process lives, whether it takes runs, what it counts, and what it is."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cattlegrid.core.errors import CattlegridError, Forbidden, Unauthenticated
from cattlegrid.core.permissions import Permission
from cattlegrid.server import models, views
from cattlegrid.server.auth import ONE_KEY, Call, Caller, maybe_authenticated, require, services_of
from cattlegrid.server.bind import is_loopback
from cattlegrid.server.contract import open_refusals, refusals, success
from cattlegrid.server.errors import retry_after
from cattlegrid.server.operate import current_versions
from cattlegrid.server.services import Services
from cattlegrid.telemetry.metrics import CONTENT_TYPE, Process

router = APIRouter(tags=["probes"])

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4_096
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@router.get(
    "/health",
    operation_id="health",
    summary="Whether the process answers",
    response_model=models.Alive,
    responses={200: success("It does."), **open_refusals()},
)
@router.get(
    "/live",
    operation_id="live",
    summary="Whether the process lives",
    response_model=models.Alive,
    responses={200: success("It does."), **open_refusals()},
)
async def live() -> Response:
    """Says nothing about the store: a process that waits for it need not be killed."""
    return views.reply({"status": "ok"})


@router.get(
    "/ready",
    operation_id="ready",
    summary="Whether runs are taken",
    response_model=models.Ready,
    responses={
        200: success("They are."),
        503: {"model": models.Ready, **success("They are not, and why.")},
        **open_refusals(),
    },
)
async def ready(request: Request) -> Response:
    """Red while the journal cannot be written to, and while the process stops."""
    reasons = await _reasons(services_of(request))
    if reasons:
        headers = {"Retry-After": retry_after(None)}
        return views.reply({"status": "not_ready", "reasons": reasons}, status=503, headers=headers)
    return views.reply({"status": "ready", "reasons": []})


async def _operator_or_local(
    request: Request, call: Annotated[Call | None, Depends(maybe_authenticated)]
) -> None:
    """This machine itself, but not what a proxy on it passes on; else the role `operator`."""
    host = request.client.host if request.client is not None else ""
    if call is None and is_loopback(host) and not any(name in request.headers for name in _FORWARDED):
        return
    if call is None:
        raise Unauthenticated(ONE_KEY)
    require(call.principal, Permission.METRICS)
    if call.principal.tenant != call.services.settings.home_tenant:
        raise Forbidden("Metrics count all tenants together: they are for the one that operates the service.")


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="What is counted",
    response_class=Response,
    responses={
        200: {
            **success("Counters and histograms in the text format of Prometheus."),
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **refusals(),
    },
    openapi_extra={"security": [{"bearer": []}, {"api_key": []}, {}]},
)
async def metrics(request: Request, _: Annotated[None, Depends(_operator_or_local)]) -> Response:
    """Counted from the journal. Needs the role `operator`, unless the request comes from this machine itself."""
    services = services_of(request)
    await services.metrics.read(services.store)
    process = Process(
        rss_bytes=_rss_bytes(),
        started_at=services.settings.started_at,
        version=services.settings.version,
        environment=services.settings.environment,
    )
    return Response(services.metrics.render(process), media_type=CONTENT_TYPE)


@router.get(
    "/info",
    operation_id="info",
    summary="What runs here",
    response_model=models.Info,
    responses={200: success("Version, environment and agents."), **refusals()},
)
async def info(call: Caller) -> Response:
    """No paths, no addresses, no secrets."""
    settings = call.services.settings
    return views.reply(
        {
            "name": "cattlegrid",
            "version": settings.version,
            "environment": settings.environment,
            "started_at": settings.started_at,
            "agents": await current_versions(call),
        }
    )


async def _reasons(services: Services) -> list[str]:
    """Why runs are not taken, each as a sentence without internals."""
    engine = services.engine
    stopping = engine.leaving.is_set() or engine.draining.is_set()
    reasons = ["The service is stopping."] if stopping else []
    try:
        async with asyncio.timeout(services.settings.ready_wait_s):
            await services.ready()
    except TimeoutError:
        reasons.append("The journal does not answer.")
    except CattlegridError as error:
        reasons.append(error.message)
    return reasons


def _rss_bytes() -> int:
    """Memory that this process holds; 0 where the system does not tell (proc(5), statm)."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
