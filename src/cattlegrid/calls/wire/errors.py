"""Turns what a provider says about a failure into the leaves of `ModelError`.

| status | what it says | error |
|---|---|---|
| 429 | quota used up for good | ModelRejected |
| 429 | anything else | ModelRateLimited, with `retry_after_s` |
| 400, 413, 422 | the context is too long | ContextTooLong |
| 408 | | ModelTimeout |
| 5xx (529 too) | | ModelUnavailable, with `retry_after_s` when it is told |
| other 3xx, 4xx | | ModelRejected |
| anything else | | ModelProtocolError |

`message` is the same sentence for everybody; the provider's own words, without keys, are in `detail`.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar, cast

import msgspec

from cattlegrid.core.errors import (
    ContextTooLong,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)

E = TypeVar("E", bound=ModelError)

_PUBLIC: Final[Mapping[type[ModelError], str]] = {
    ModelUnavailable: "The model is not available right now.",
    ModelTimeout: "The model did not answer in time.",
    ModelRateLimited: "The model has too many requests right now.",
    ModelRejected: "The model did not accept the request.",
    ContextTooLong: "The conversation is too long for the model.",
    ModelProtocolError: "The model's answer could not be read.",
}
_DETAIL_CHARS: Final = 500
_KEY_LIKE: Final = re.compile(r"\b(?:sk|rk|pk|key|api)[-_][\w*.-]{6,}|\bAIza[\w-]{6,}|(?i:bearer)\s+\S+")
_TOO_LONG: Final = re.compile(
    r"context[ _-]?(?:length|window|size)|maximum context|prompt (?:is )?too long|too many (?:input )?tokens"
    r"|input (?:is )?too long|reduce the length|exceed(?:s|ed)? (?:the )?context limit"
    r"|token count[^.]{0,40} exceeds the maximum",
    re.IGNORECASE,
)
_TOO_LONG_WORDS: Final = frozenset({"context_length_exceeded", "request_too_large"})
_QUOTA: Final = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
_MAY_BE_TOO_LONG: Final = frozenset({400, 413, 422})
_STATUS_OF_WORD: Final[Mapping[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "insufficient_quota": 429,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "timeout": 408,
    "server_error": 500,
    "vector_store_timeout": 500,
    "invalid_prompt": 400,
    "billing_error": 402,
    "not_found_error": 404,
    "request_too_large": 413,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""Words of OpenAI, then of Anthropic, then of Google; a word that is not here stands for 500."""
_ABOUT_CONTENT: Final = re.compile(r"(?:image_|.*_image|.*_policy)")
"""OpenAI's codes for images that cannot be read and for policies; sending the same again changes neither."""


class _Said(msgspec.Struct, frozen=True):
    """The parts of a provider's error that decide."""

    message: str = ""
    words: tuple[str, ...] = ()
    status: int | None = None
    wait_s: float | None = None


def model_error(kind: type[E], detail: str, *, retry_after_s: float | None = None) -> E:
    """An error of this kind with the sentence that anybody may read; `detail` is for the operator."""
    return kind(_PUBLIC[kind], detail=_redacted(detail), retry_after_s=retry_after_s)


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, now: datetime) -> ModelError:
    """The error of an HTTP response that is no answer.

    Args:
        status: the HTTP status, not 200.
        headers: by lower-case name or in a case-insensitive mapping; `retry-after` (RFC 9110, section 10.2.3) and
            `retry-after-ms` are read; without them, Google's `RetryInfo` in the body.
        body: the body as far as it was read.
        now: the time that an HTTP date is compared with.
    """
    said = _said(body)
    detail = f"HTTP {status}: {' '.join((*said.words, said.message)).strip() or 'no body'}"
    wait_s = retry_after_s(headers, now=now)
    return _classified(status, said, detail, retry_after_s=said.wait_s if wait_s is None else wait_s)


def error_from_object(error: object) -> ModelError:
    """The error of an `error` object that came inside an answer with status 200."""
    said = _said_by(error)
    status = said.status or _status_of(said.words)
    detail = f"error in the answer: {' '.join((*said.words, said.message)).strip()}"
    return _classified(status, said, detail, retry_after_s=said.wait_s)


def _status_of(words: tuple[str, ...]) -> int:
    known = next((_STATUS_OF_WORD[word] for word in words if word in _STATUS_OF_WORD), None)
    if known is None and any(_ABOUT_CONTENT.match(word) for word in words):
        return 400
    return known or 500


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait as the provider asks for: milliseconds, seconds or an HTTP date; None without a usable one."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=now.tzinfo)
    return max(timedelta(0), then - now).total_seconds()


def _classified(status: int, said: _Said, detail: str, *, retry_after_s: float | None) -> ModelError:
    if status == 429:
        kind = ModelRejected if _QUOTA.intersection(said.words) else ModelRateLimited
    elif status in _MAY_BE_TOO_LONG and _is_too_long(said):
        kind = ContextTooLong
    elif status == 408:
        kind = ModelTimeout
    elif 500 <= status <= 599:
        kind = ModelUnavailable
    else:
        kind = ModelRejected if 300 <= status <= 499 else ModelProtocolError
    waits = kind in {ModelRateLimited, ModelUnavailable}
    return model_error(kind, detail, retry_after_s=retry_after_s if waits else None)


def _is_too_long(said: _Said) -> bool:
    return bool(_TOO_LONG_WORDS.intersection(said.words)) or bool(_TOO_LONG.search(said.message))


def _said(body: bytes) -> _Said:
    try:
        parsed: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _Said(message=body[: _DETAIL_CHARS * 4].decode("utf-8", "replace"))
    if isinstance(parsed, list) and parsed:
        # Google wraps the errors of its streams.
        return _said_in(cast("list[object]", parsed)[0])
    return _said_in(cast("object", parsed))


def _said_in(document: object) -> _Said:
    if not isinstance(document, dict):
        return _said_by(document)
    found = cast("dict[str, object]", document)
    return _said_by(found.get("error") or found)


def _said_by(error: object) -> _Said:
    if not isinstance(error, dict):
        return _Said(message=error if isinstance(error, str) else repr(error)[:_DETAIL_CHARS])
    found = cast("dict[str, object]", error)
    message = found.get("message", found.get("detail", ""))
    code = found.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    is_status = isinstance(code, int) and not isinstance(code, bool) and 300 <= code <= 599
    words = (code, found.get("type"), found.get("status"))
    return _Said(
        message=message if isinstance(message, str) else repr(message)[:_DETAIL_CHARS],
        words=tuple(word for word in words if isinstance(word, str) and word),
        status=code if is_status and isinstance(code, int) else None,
        wait_s=_asked_wait_s(found.get("details")),
    )


def _asked_wait_s(details: object) -> float | None:
    """The `retryDelay` of Google's `RetryInfo`, for example `7s`."""
    if isinstance(details, list):
        for detail in cast("list[object]", details):
            delay = cast("dict[str, object]", detail).get("retryDelay") if isinstance(detail, dict) else None
            if isinstance(delay, str) and delay.endswith("s"):
                return _number(delay[:-1])
    return None


def _redacted(text: str) -> str:
    return _KEY_LIKE.sub("[key]", text[: _DETAIL_CHARS * 2])[:_DETAIL_CHARS]


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
