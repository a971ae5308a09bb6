"""Turns what the runtime returns into answers: plain values in the shapes of `models`, encoded by msgspec.

Who may see what of a run is decided here: arguments, conditions and steps are for staff.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, cast

import msgspec
from starlette.responses import Response

from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.messages import Usage
from cattlegrid.core.money import NANO_PER_USD
from cattlegrid.core.permissions import Permission
from cattlegrid.core.principal import Principal
from cattlegrid.journal.audit import AuditLine
from cattlegrid.runtime.queued import QUEUED
from cattlegrid.runtime.replay import ReplayReport
from cattlegrid.runtime.requests import ApprovalView, RunView, SessionView, StepView
from cattlegrid.server.keys import ApiKey

Json = Mapping[str, object]

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
FINAL: Final = frozenset({"completed", "partial", "denied", "failed", "cancelled", "erased"})
"""Run statuses after which nothing more happens."""


def encode(content: object) -> bytes:
    """JSON of plain values. What is no Unicode text, as a model or tool may have sent it, is replaced by U+FFFD."""
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError:
        return msgspec.json.encode(_mended(msgspec.to_builtins(content)))


def reply(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer as JSON."""
    return Response(
        encode(content), status_code=status, headers=dict(headers or {}), media_type="application/json"
    )


def page(items: Sequence[Json], limit: int) -> Json:
    """A page of a list; `next` is there when it is full."""
    return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}


def usd(amount_nano_usd: int) -> str:
    """The exact amount in dollars, without an exponent: `0.0031`."""
    return f"{(Decimal(amount_nano_usd) / NANO_PER_USD).normalize():f}"


def is_staff(principal: Principal) -> bool:
    """Whether somebody runs the service rather than using it."""
    return principal.may(Permission.READ_ALL)


def session(view: SessionView) -> Json:
    """A session."""
    return {
        "id": view.id,
        "agent": view.agent,
        "bundle": view.bundle,
        "status": view.status,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
    }


def run(view: RunView, principal: Principal, *, steps: bool = True) -> Json:
    """A run as this principal may see it. `steps` says whether staff get them here."""
    staff = is_staff(principal)
    return {
        "id": view.id,
        "session_id": view.session_id,
        "agent": view.agent,
        "bundle": view.bundle,
        "status": view.status,
        "reason": view.reason,
        "input": view.input,
        "output": view.output,
        "files": [msgspec.structs.asdict(one) for one in view.files],
        "started_at": None if view.status == QUEUED else view.started_at,
        "finished_at": view.finished_at,
        "active_s": view.active_s,
        "model_calls": view.model_calls,
        "tool_calls": view.tool_calls,
        "usage": tokens(view.usage),
        "cost_nano_usd": view.cost_nano_usd,
        "cost_usd": usd(view.cost_nano_usd),
        "approvals": [approval(one, principal) for one in view.approvals],
        "steps": [_step(one) for one in view.steps] if steps and staff else None,
        "guards": view.guards if steps and staff else None,
    }


def approval(view: ApprovalView, principal: Principal) -> Json:
    """A held call as this principal may see it."""
    staff = is_staff(principal)
    return {
        "id": view.id,
        "session_id": view.session_id,
        "run_id": view.run_id,
        "agent": view.agent,
        "status": view.status,
        "reason": view.reason,
        "tool": view.tool,
        "user": view.user,
        "requested_at": view.requested_at,
        "expires_at": view.expires_at,
        "arguments": arguments(view.arguments) if staff else None,
        "condition": view.condition if staff else None,
        "decided_by": view.decided_by if staff else None,
        "note": view.note if staff else None,
    }


def arguments(text: str) -> object:
    """The arguments of a call as JSON; as they stand when they are no JSON (of an erased user)."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def tokens(usage: Usage) -> Json:
    """Token counts."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": usage.estimated,
    }


def version(view: BundleVersion) -> Json:
    """One version of an agent."""
    return {
        "agent": view.agent,
        "number": view.number,
        "digest": view.digest,
        "name": str(view),
        "commit": view.commit,
        "dirty": view.dirty,
    }


def replay(report: ReplayReport) -> Json:
    """The result of a replay."""
    difference = report.difference
    return {
        "session_id": report.session_id,
        "bundle": report.bundle,
        "identical": report.identical,
        "steps": report.steps,
        "steps_total": report.steps_total,
        "difference": None if difference is None else msgspec.structs.asdict(difference),
    }


def audit(line: AuditLine) -> dict[str, object]:
    """A line of the audit."""
    return msgspec.structs.asdict(line)


def api_key(key: ApiKey) -> dict[str, object]:
    """A key without its secret."""
    return msgspec.structs.asdict(key)


def _step(view: StepView) -> Json:
    return {
        "id": view.id,
        "kind": view.kind,
        "name": view.name,
        "status": view.status,
        "attempt": view.attempt,
        "started_at": view.started_at,
        "duration_s": view.duration_s,
        "cost_nano_usd": view.cost_nano_usd,
        "cost_usd": usd(view.cost_nano_usd),
        "usage": None if view.usage is None else tokens(view.usage),
        "given": view.given,
        "answer": view.answer,
        "why": view.why,
        "guards": view.guards,
    }


def _mended(value: object) -> object:
    match value:
        case str():
            return _SURROGATES.sub("\ufffd", value)
        case dict():
            parts = cast("dict[object, object]", value)
            return {_mended(key): _mended(part) for key, part in parts.items()}
        case list() | tuple():
            return [_mended(part) for part in cast("Sequence[object]", value)]
        case _:
            return value
