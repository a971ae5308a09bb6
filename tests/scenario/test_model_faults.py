"""The model is down, slow, cut off or talks nonsense: another attempt helps, or the answer says honestly that it failed."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from cattlegrid.testing.scripted.app import Receive, Scope, ScriptedModel, Send, create_app
from tests.scenario.server import Customer, Server, until
from tests.scenario.till import write_project

DEGRADED = "I could not finish this."
ALWAYS = 1_000

pytestmark = pytest.mark.timeout(120)


class Model:
    """A scripted model at one address, which comes and goes, and goes wrong as it is told to."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.app: ScriptedModel = create_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the model that counts now."""
        await self.app(scope, receive, send)

    def come(self) -> None:
        """Be there."""
        config = uvicorn.Config(
            self,
            port=self._port,
            lifespan="off",
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        until(lambda: self._server.started, 20, lambda: "the scripted model did not start")

    def go(self) -> None:
        """Be away; connections are refused."""
        self._server.should_exit = True
        self._thread.join(timeout=20)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    """The model, there."""
    model = Model()
    model.come()
    yield model
    model.go()


@pytest.fixture(scope="module")
def ana(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Customer]:
    """A customer of a server with little patience: a model call may take a second and a half, a run four."""
    root = write_project(tmp_path_factory.mktemp("hasty"))
    agent = root / "agents" / "till" / "agent.yaml"
    agent.write_text(agent.read_text().replace("run_s: 120", "run_s: 4\n  model_call_s: 1.5"))
    server = Server(root, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="unused")
    server.start()
    ana, staff = server.customer("ana@example.com"), server.staff()
    yield ana
    try:
        for session in ana.insist("GET", "/sessions")["items"]:
            assert staff.insist("POST", "/debug/replay", {"session_id": session["id"]})["identical"]
        assert server.stop() == 0
        server.cli("verify")
    finally:
        server.end()


@pytest.mark.requirement("fault:model-down")
@pytest.mark.parametrize("fault", ["500", "429;delay=0.1", "cut", "malformed", "slow;delay=0.05"])
def test_a_fault_that_passes_is_met_with_another_attempt(fault: str, model: Model, ana: Customer) -> None:
    model.app = create_app(fault=f"{fault};count=1")
    run = ana.insist("POST", "/runs", {"agent": "till", "input": "Are you there?"})
    assert (run["status"], run["output"]) == ("completed", 'You said: "Are you there?"')
    assert model.app.completions == (1 if fault.startswith("slow") else 2)


@pytest.mark.requirement("fault:model-down")
@pytest.mark.parametrize(
    "fault", ["500", "429;delay=0.1", "stall", "stall;at=1", "cut", "malformed", "slow;delay=5"]
)
def test_a_fault_that_stays_leads_to_an_honest_answer_in_time(
    fault: str, model: Model, ana: Customer
) -> None:
    model.app = create_app(fault=f"{fault};count={ALWAYS}")
    answer = ana.call("POST", "/runs", {"agent": "till", "input": "Are you there?"})
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert run["status"] == "failed"
    assert run["output"].startswith(DEGRADED)
    assert run["active_s"] < 3


@pytest.mark.requirement("fault:model-down")
def test_a_model_that_is_away_leads_to_an_honest_answer_and_to_a_real_one_when_it_is_back(
    model: Model, ana: Customer
) -> None:
    model.app = create_app()
    first = ana.insist("POST", "/runs", {"agent": "till", "input": "One."})
    path = f"/sessions/{first['session_id']}/runs"
    model.go()
    away = ana.insist("POST", path, {"input": "Two."})
    model.come()
    back = ana.insist("POST", path, {"input": "Three."})
    assert (away["status"], away["output"][: len(DEGRADED)]) == ("failed", DEGRADED)
    assert (back["status"], back["output"]) == ("completed", 'You said: "Three."')
