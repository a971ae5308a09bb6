"""What providers say about failures becomes the leaves of the error tree, and nothing leaks."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.wire.openai_chat import error_from_response
from cattlegrid.core.errors import (
    ContextTooLong,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOO_LONG = b'{"error":{"message":"This model\'s maximum context length is 8192 tokens","type":"x"}}'


def error(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> ModelError:
    return error_from_response(status, headers or {}, body, now=NOW)


@pytest.mark.requirement("model:errors")
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":{"message":"no","code":"context_length_exceeded"}}', ContextTooLong),
        (400, TOO_LONG, ContextTooLong),
        (422, b'{"message":"prompt is too long: 9 > 8","object":"error","code":400}', ContextTooLong),
        (413, b'{"detail":"too many input tokens"}', ContextTooLong),
        (400, b'{"error":{"message":"temperature must be a number"}}', ModelRejected),
        (401, b'{"error":"bad key"}', ModelRejected),
        (403, b"", ModelRejected),
        (404, b"<html>no such page</html>", ModelRejected),
        (301, b"", ModelRejected),
        (408, b"", ModelTimeout),
        (429, b"", ModelRateLimited),
        (429, b'{"error":{"message":"pay","type":"insufficient_quota"}}', ModelRejected),
        (500, b"", ModelUnavailable),
        (503, b"\xff\xfe", ModelUnavailable),
        (529, b"[1]", ModelUnavailable),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', ModelUnavailable),
        (
            400,
            b'{"type":"error","error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}',
            ContextTooLong,
        ),
        (413, b'{"type":"error","error":{"type":"request_too_large","message":"no"}}', ContextTooLong),
        (429, b'[{"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED"}}]', ModelRateLimited),
        (400, b'{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}', ModelRejected),
        (204, b"", ModelProtocolError),
        (600, b"", ModelProtocolError),
    ],
)
def test_a_status_and_a_body_become_an_error_of_the_tree(
    status: int, body: bytes, kind: type[ModelError]
) -> None:
    found = error(status, body)
    assert type(found) is kind
    assert found.detail.startswith(f"HTTP {status}: ")


@pytest.mark.requirement("model:errors")
def test_the_users_sentence_holds_nothing_of_the_provider() -> None:
    body = (
        b'{"error":{"message":"Incorrect key sk-proj-abc***xyz for org-internal","code":"invalid_api_key"}}'
    )
    found = error(401, body)
    assert found.message == "The model did not accept the request."
    assert found.detail == "HTTP 401: invalid_api_key Incorrect key [key] for org-internal"


@pytest.mark.requirement("model:retries")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({}, None),
    ],
)
def test_the_wait_is_read_from_seconds_milliseconds_or_a_date(
    headers: dict[str, str], expected: float | None
) -> None:
    assert error(429, headers=headers).retry_after_s == expected
    assert error(503, headers=headers).retry_after_s == expected
    assert error(400, headers=headers).retry_after_s is None


@pytest.mark.requirement("model:retries")
@pytest.mark.parametrize(
    ("delay", "expected"), [('"7s"', 7.0), ('"0.5s"', 0.5), ('"soon"', None), ("7", None), ('"s"', None)]
)
def test_the_wait_is_read_from_the_details_of_a_google_error(delay: str, expected: float | None) -> None:
    info = b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":%b}' % delay.encode()
    body = b'{"error":{"code":429,"message":"no","details":[5,{},%b]}}' % info
    assert error(429, body).retry_after_s == expected
    assert error(429, body, {"retry-after": "3"}).retry_after_s == 3.0


def test_keys_of_every_provider_are_left_out_of_the_detail() -> None:
    for key in ("sk-ant-api03-abcdef", "sk-proj-abc***xyz", "AIzaSyD-abcdefghijk_1", "Bearer abc.def"):
        assert key not in error(401, f'{{"error":{{"message":"bad key {key}"}}}}'.encode()).detail


@given(st.integers(100, 700), st.binary(max_size=200), st.text(max_size=20))
def test_every_failure_has_an_error_with_a_bounded_detail(status: int, body: bytes, wait: str) -> None:
    found = error(status, body * 50, headers={"retry-after": wait})
    assert isinstance(found, ModelError)
    assert len(found.detail) <= 500
