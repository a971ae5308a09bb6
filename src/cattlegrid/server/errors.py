"""Turns errors into answers: the one table from error code to HTTP status, and the one shape of every refusal.

    {"error": {"code": "not_found", "message": "There is no session with this id.", "type": "not_found_error",
               "param": null, "correlation_id": "cor_..."}}

`message`, `type`, `param` and `code` are where OpenAI's clients look for them, at every address. What may be shown is `CattlegridError.message`; `detail`, exceptions of other kinds and what the client sent are not.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, cast

import msgspec
from starlette.responses import Response

from cattlegrid.core.errors import CattlegridError, InvalidRequest

STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "internal": 500,
        "invalid_request": 400,
        "too_large": 413,
        "bundle_invalid": 400,
        "unauthenticated": 401,
        "identity_unavailable": 503,
        "forbidden": 403,
        "not_found": 404,
        "conflict": 409,
        "session_busy": 409,
        "session_ended": 409,
        "idempotency_mismatch": 409,
        "already_decided": 409,
        "limited": 429,
        "denied": 403,
        "model_error": 502,
        "model_unavailable": 503,
        "model_timeout": 504,
        "model_rate_limited": 503,
        "model_rejected": 502,
        "context_too_long": 413,
        "model_protocol": 502,
        "tool_error": 502,
        "tool_arguments_invalid": 502,
        "tool_failed": 502,
        "tool_timeout": 504,
        "tool_result_invalid": 502,
        "tool_not_executed": 502,
        "store_error": 503,
        "store_unavailable": 503,
        "append_conflict": 503,
        "lease_held": 503,
        "key_missing": 503,
        "integrity": 500,
        "replay_diverged": 500,
        "configuration": 500,
    }
)
"""Each code of `core.errors`, and `tool_not_executed` of `core.tools`."""

_HTTP_CODES: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("invalid_request", "The request could not be read."),
        404: ("not_found", "There is nothing at this address."),
        405: ("method_not_allowed", "This address does not take this method."),
        413: ("too_large", "The request is too large."),
        415: ("unsupported_media_type", "Send the body as application/json."),
    }
)
_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        429: "rate_limit_error",
    }
)
_RETRY_IN_VAIN: Final = frozenset({409, 500})
"""Official clients try these again by themselves, unless they are told not to."""
_INTERNAL: Final = "Something went wrong on our side. The operator finds it by the correlation id."
_RETRY_AFTER_S: Final = 1.0
_SHOWN_PROBLEMS: Final = 5
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

CORRELATION: Final = "cattlegrid.correlation_id"
"""Where `edge` leaves the correlation id in the ASGI scope."""


def status_of(error: CattlegridError) -> int:
    """The HTTP status of an error; 500 for a code that the table does not know."""
    return STATUS.get(error.code, 500)


def problem(
    status: int, code: str, message: str, *, correlation_id: str, param: str = ""
) -> dict[str, str | None]:
    """What went wrong, in the one shape that all refusals have."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {
        "code": code,
        "message": message,
        "type": _TYPES.get(status, kind),
        "param": param or None,
        "correlation_id": correlation_id,
    }


def answer(
    status: int,
    code: str,
    message: str,
    *,
    correlation_id: str,
    headers: Mapping[str, str] | None = None,
    param: str = "",
) -> Response:
    """A refusal in the one shape that all have."""
    error = problem(status, code, message, correlation_id=correlation_id, param=param)
    again = {"X-Should-Retry": "false"} if status in _RETRY_IN_VAIN else {}
    return Response(
        msgspec.json.encode({"error": error}),
        status_code=status,
        headers={**again, **(headers or {})},
        media_type="application/json",
    )


def answer_error(error: CattlegridError, correlation_id: str) -> Response:
    """What the client is told of an error of the tree."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="cattlegrid"'
    if error.retry_after_s is not None or status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = retry_after(error.retry_after_s)
    message = error.message if status != HTTPStatus.INTERNAL_SERVER_ERROR else _INTERNAL
    param = error.param if isinstance(error, InvalidRequest) else ""
    return answer(status, error.code, message, correlation_id=correlation_id, headers=headers, param=param)


def answer_http(status: int, correlation_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """What the client is told when no route takes the request, or the framework refuses it."""
    code, message = _HTTP_CODES.get(status, ("invalid_request", "The request was refused."))
    return answer(status, code, message, correlation_id=correlation_id, headers=headers)


def answer_unknown(correlation_id: str) -> Response:
    """What the client is told of an exception that nobody expected: nothing but where to ask."""
    return answer(500, "internal", _INTERNAL, correlation_id=correlation_id)


def answer_invalid(
    problems: Sequence[Mapping[str, object]], correlation_id: str, *, status: int = 422
) -> Response:
    """What the client is told of a request that was read but does not fit; values that it sent are not repeated.

    Args:
        problems: as pydantic lists them (`loc`, `type`, `msg`).
        correlation_id: of this request.
        status: 400 at doors whose protocol says so.
    """
    shown = [_problem(problem) for problem in problems[:_SHOWN_PROBLEMS]]
    more = len(problems) - len(shown)
    text = "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
    param = _where(problems[0]).removeprefix("body.") if problems else ""
    message = f"The request does not fit: {text}."
    return answer(status, "invalid_request", message, correlation_id=correlation_id, param=param)


def retry_after(seconds_s: float | None) -> str:
    """The header's value: whole seconds, at least one (RFC 9110, section 10.2.3)."""
    return str(max(1, round(seconds_s if seconds_s is not None else _RETRY_AFTER_S)))


def _where(problem: Mapping[str, object]) -> str:
    parts = [str(part) for part in cast("Sequence[object]", problem.get("loc", ()))]
    # A client that mixes up keys and values may have put a secret into a name: long and odd names are not repeated.
    return ".".join(part if _NAME.fullmatch(part) or part.isdecimal() else "(a name)" for part in parts)


def _problem(problem: Mapping[str, object]) -> str:
    where = _where(problem)
    kind = problem.get("type")
    if kind == "extra_forbidden":
        return f"{where}: there is no such field"
    if kind == "json_invalid":
        return "the body is not JSON"
    said = str(problem.get("msg", "not acceptable")).removeprefix("Value error, ")
    return f"{where}: {said}"
