"""Schemathesis against the OpenAPI document: generated requests, good and bad, to a real server on loopback.

Every answer must be one that the document promises, in status, headers and shape; none may be a 5xx.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, cast

import httpx2
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from cattlegrid.core.messages import ModelRequest
from cattlegrid.testing.models import Answer, answer, call
from tests.unit.server.site import open_site, until

EXAMPLES = 20
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def _model(request: ModelRequest) -> Answer:
    """Asks for a refund that needs a person, now and then."""
    if request.messages[-1].text.startswith("refund"):
        return answer(calls=[call("refund", order=17, amount=79.9)])
    return answer("Yes.")


FITS = cast("Callable[..., object]", checks.positive_data_acceptance)  # pyright: ignore[reportUnknownMemberType]

UNSAID = frozenset(
    {"/approvals/{approval_id}/decision", "/v1/responses", "/v1/chat/completions", "/agents/{name}/agui"}
)
"""Where no document can say what fits: the arguments of the held call's own tool, whose word the last message is."""


class Case(Protocol):
    """What is used here of a generated request."""

    path_parameters: dict[str, str]
    headers: dict[str, str]
    body: object

    def call_and_validate(
        self, *, headers: Mapping[str, str], excluded_checks: Sequence[Callable[..., object]]
    ) -> object: ...


class Served:
    """A site on a loopback port, in a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self.site = await open_site(model=_model, settings={"run_wait_s": 0.2, "heartbeat_s": 0.05})
        config = uvicorn.Config(self.site.app, port=0, lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        await until(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await serving

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    served = Served()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def ids(served: Served) -> Mapping[str, str]:
    """One real thing of each kind, so that not every generated id leads nowhere."""
    headers = served.site.headers("admin")
    ended, held = (
        httpx2.post(
            f"{served.url}/runs", json={"agent": "support", "input": text}, headers=served.site.headers("ana")
        ).json()
        for text in ("hello", "refund")
    )
    keys = httpx2.get(f"{served.url}/keys", headers=headers).json()["items"]
    return {
        "run_id": ended["id"],
        "session_id": ended["session_id"],
        "approval_id": held["approvals"][0]["id"],
        "key_id": keys[-1]["id"],
        "name": "support",
        "response_id": f"resp_{ended['id'].removeprefix('run_')}",
    }


DOCUMENT: dict[str, Any] = asyncio.run(open_site()).app.openapi()
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]


@pytest.mark.requirement("server:schemathesis")
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part.strip("/"))
def test_every_generated_request_is_answered_as_the_document_says(
    path: str, method: str, mode: GenerationMode, served: Served, ids: Mapping[str, str]
) -> None:
    schema: Any = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig())
    schema.config.update(base_url=served.url)
    operation = schema[path][method]

    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)
    def ask(*, case: Case, known: bool) -> None:
        if known and mode is GenerationMode.POSITIVE:
            case.path_parameters = {name: ids[name] for name in case.path_parameters}
            case.headers.pop("X-Cattlegrid-User", None)  # this key is bound to its own user
        # Nor whether a file is what it says it is.
        files = "attachments" in str(case.body)
        excluded = [FITS] if path in UNSAID or files else []
        case.call_and_validate(headers=served.site.headers("admin"), excluded_checks=excluded)

    # A route that takes nothing cannot be asked wrongly.
    with contextlib.suppress(*[Unsatisfiable] if mode is GenerationMode.NEGATIVE else []):
        ask()
