"""Logs: one JSON object a line, ids and sizes and words of the code, and never a payload."""

import io
import logging
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.telemetry.logs import configure, only_words
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import answer, call
from tests.unit.server.site import open_site, while_time_passes

SECRET = "hippopotamus"


@pytest.fixture
def written() -> Generator[io.StringIO]:
    """What is logged, with everything put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(clock=ManualClock(), stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in written.getvalue().splitlines()]


@pytest.mark.requirement("server:errors")
def test_a_line_is_an_object_with_time_level_and_ids(written: io.StringIO) -> None:
    structlog.get_logger("cattlegrid.x").info(
        "run_stopped", run_id="run_1", count=2, bundle="support#1 (3f9c2ab1)"
    )
    assert lines(written) == [
        {
            "at": "2026-01-01T00:00:00.000+00:00",
            "logger": "cattlegrid.x",
            "level": "info",
            "event": "run_stopped",
            "run_id": "run_1",
            "count": 2,
            "bundle": "support#1 (3f9c2ab1)",
        }
    ]


def test_sentences_and_unknown_fields_are_replaced_by_their_size(written: io.StringIO) -> None:
    log = structlog.get_logger("x")
    log.info(
        "e", reason="My name is Ana", text=SECRET, error=ValueError(SECRET), agent={"a": SECRET}, run_id=b"x"
    )
    [line] = lines(written)
    assert line["reason"] == "<14 characters>"
    assert line["text"] == "<12 characters>"
    assert SECRET not in written.getvalue()


@given(st.dictionaries(st.text(min_size=1), st.text() | st.binary() | st.lists(st.text())))
def test_nothing_with_a_blank_in_it_gets_through(fields: dict[str, object]) -> None:
    for name, value in only_words(None, "info", dict(fields)).items():
        assert value == fields[name] or str(value).startswith("<")
        if isinstance(value, str) and not value.startswith("<"):
            assert name == "template" or " " not in value


def test_records_of_the_standard_library_show_their_template_and_not_their_values(
    written: io.StringIO, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that another test has started may have kept uvicorn's records to itself.
    caplog.set_level(logging.INFO, logger="uvicorn.error")
    for name in ("uvicorn", "uvicorn.error"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    log = logging.getLogger("tools.refund")
    log.warning("refunded %s of %d", SECRET, 17)
    log.error(f"could not refund {SECRET}")  # noqa: G004 - what a careless tool does
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("failed for %s", SECRET)
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s", "http://127.0.0.1:8700")
    assert SECRET not in written.getvalue()
    told = lines(written)
    assert [line.get("template") for line in told] == [
        "refunded %s of %d",
        None,
        "failed for %s",
        "Uvicorn running on http://127.0.0.1:8700",
    ]
    assert told[2]["error"] == "ValueError"
    assert all(line["place"].startswith("test_logs.py:") for line in told)


@pytest.mark.anyio
@pytest.mark.requirement("server:errors")
async def test_no_word_of_a_conversation_is_ever_logged_whatever_happens_to_it(written: io.StringIO) -> None:
    site = await open_site(
        model=[
            answer(f"Looking for {SECRET}.", calls=[call("find_order", order=1)]),
            answer(f"Here is your {SECRET}."),
            answer(calls=[call("refund", order=17, amount=79.9)]),
        ],
        functions={"find_order": _broken, "refund": _broken},
    )
    body = {"agent": "support", "input": f"Find my {SECRET}"}
    asked = site.post("/runs", body, X_Correlation_Id="cor-7")
    run = (await while_time_passes(site.world.clock, asked)).json()
    assert SECRET in run["output"]
    await site.post("/runs", {**body, "secret": SECRET})
    await site.post("/runs", {"agent": SECRET, "input": SECRET})
    await site.get(f"/{SECRET}?q={SECRET}")
    await site.get(f"/runs/{SECRET}?q={SECRET}", X_Api_Key=SECRET)
    await site.post(f"/runs/{run['id']}/feedback", {"text": SECRET})
    held = (await site.post("/runs", body)).json()
    decision = {"decision": "modify", "arguments": {"order": SECRET}, "note": SECRET}
    await site.post(f"/approvals/{held['approvals'][0]['id']}/decision", decision, "staff")
    await site.post("/users/erase", {"user": "ana@example.com"}, "admin")
    assert SECRET not in written.getvalue()
    assert "ana@example.com" not in written.getvalue()
    assert site.keys["ana"][30:] not in written.getvalue()
    requests = [line for line in lines(written) if line["event"] == "request"]
    assert len(requests) == 9
    first = requests[0]
    assert (first["method"], first["route"], first["status"]) == ("POST", "/runs", 200)
    assert (first["correlation_id"], first["bytes_in"]) == ("cor-7", len(msgspec.json.encode(body)))
    assert first["key_id"].startswith("key_")
    assert requests[3]["route"] == ""
    assert (requests[4]["route"], "run_id" in requests[4]) == ("/runs/{run_id}", False)
    assert requests[5]["run_id"] == run["id"]


@pytest.mark.anyio
@pytest.mark.requirement("server:errors")
async def test_an_unexpected_exception_is_found_in_the_log_by_its_correlation_id_without_its_text(
    written: io.StringIO,
) -> None:
    site = await open_site()

    async def broken() -> None:
        raise RuntimeError(SECRET)

    site.rebuilt(msgspec.structs.replace(site.services, ready=broken))
    answered = await site.get("/ready")
    broke, request = (line for line in lines(written) if line["event"] != "log")
    assert broke["correlation_id"] == request["correlation_id"] == answered.json()["error"]["correlation_id"]
    assert (broke["event"], broke["error"], request["status"]) == ("request_broke", "RuntimeError", 500)
    assert broke["place"].startswith("test_logs.py:")
    assert SECRET not in written.getvalue()


def _broken(order: int) -> object:
    raise RuntimeError(f"no {SECRET} for {order}")
