"""The command line beside a real server in a process of its own: started in the background, used, stopped."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from cattlegrid.app.background import stop
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.state import StateFolder

PROGRAM = (sys.executable, "-m", "cattlegrid.app.cli")
Line = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "shop"
    write_scaffold(folder, "shop")
    return folder


def environ(**more: str) -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))
    }
    return {**own, **more}


@pytest.fixture
def line(root: Path) -> Iterator[Line]:
    """Runs one command line; whatever server it leaves is stopped."""

    def call(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=root,
            env=environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done

    yield call
    stop(StateFolder(root / ".cattlegrid"))


@pytest.mark.requirement("cli:dev")
def test_a_server_in_the_background_says_where_it_is_serves_and_is_stopped(line: Line, root: Path) -> None:
    told = line("dev", "--detach", "--port", "0").stdout
    assert "shop#1 (" in told
    assert "3 tools, 1 needs a person (refund: amount > 50)" in told
    assert "the scripted model answers" in told
    server = StateFolder(root / ".cattlegrid").server()
    assert server is not None
    assert server.url in told
    assert f"Process {server.pid}" in told
    assert httpx2.get(f"{server.url}/ready").status_code == 200

    again = line("dev", "--detach", code=1).stderr
    assert f"already at {server.url} by process {server.pid}" in again
    assert f"by process {server.pid}" in line("serve", "--port", "0", code=1).stderr

    chat = line("chat", "shop", "Order 17 came broken, I want my 79.90 back", "--stream").stdout
    assert "[waiting: apr_" in chat
    assert "done once" in line("approvals", "approve", "last").stdout
    runs = json.loads(line("runs", "list", "--json").stdout)
    assert [run["status"] for run in runs["items"]] == ["completed"]
    assert "identical" in line("replay", "last").stdout
    assert "whole" in line("verify").stdout

    assert f"Stopped process {server.pid}." in line("dev", "--stop").stdout
    assert StateFolder(root / ".cattlegrid").server() is None
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}/live")
    assert "79.90" in line("sessions", "show", "last").stdout, "what was served is still there"


def test_an_unchanged_agent_keeps_its_number_and_a_changed_one_gets_the_next(line: Line, root: Path) -> None:
    assert "shop#1 (" in line("bundle", "build").stdout
    assert "shop#1 (" in line("bundle", "build").stdout
    prompt = root / "agents/shop/prompts/system.md"
    prompt.write_text(prompt.read_text() + "\nBe brief.\n")
    assert "shop#2 (" in line("dev", "--detach", "--port", "0").stdout


def test_a_server_that_does_not_start_says_why(line: Line, root: Path) -> None:
    taken = root / "cattlegrid.yaml"
    whole = taken.read_text()
    taken.write_text(whole.replace("environment:", "enviroment:"))
    try:
        assert "enviroment" in line("dev", "--detach", code=1).stderr
    finally:
        taken.write_text(whole)
    with ServedElsewhere() as port:
        refused = line("dev", "--detach", "--port", str(port), code=1).stderr
        assert "Cannot listen at 127.0.0.1" in refused
        assert "--port" in refused


class ServedElsewhere:
    """A port that somebody else has."""

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_without_keys_this_machine_talks_as_the_customer_of_development(root: Path) -> None:
    with serving(root, "--no-auth") as url:
        answer = httpx2.post(
            f"{url}/runs", json={"agent": "shop", "input": "Where is my order 12?"}, timeout=30
        ).json()
        assert "shipped" in answer["output"]
        assert answer["steps"] is None, "a customer, not an operator"
        assert httpx2.get(f"{url}/keys").status_code == 403
        assert httpx2.get(f"{url}/runs", headers={"Origin": "http://evil.example"}).status_code == 401
    with serving(root) as url:
        assert httpx2.get(f"{url}/runs").status_code == 401


class serving:  # noqa: N801 - used like a function
    """`cattlegrid serve` on a free port; ended by SIGTERM, which must be a clean end."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self._state = StateFolder(root / ".cattlegrid")
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", *arguments],
            cwd=root,
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> str:
        assert self._process.stdout is not None
        for said in iter(self._process.stdout.readline, ""):
            if said.startswith("Serving at "):
                return str(said.split()[2])
        raise AssertionError(self._process.communicate())

    def __exit__(self, *how: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        _, logged = self._process.communicate(timeout=45)
        assert self._process.returncode == 0, logged
        assert all(json.loads(one) for one in logged.splitlines()), "standard error is JSON lines"
        assert not self._state.locked


@pytest.mark.anyio
async def test_ctrl_c_cancels_the_request_of_a_chat(line: Line, root: Path) -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    chat = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "chat", "shop", "hello"),
        cwd=root,
        env=environ(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", OPENAI_API_KEY="unused"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await asyncio.wait_for(asked.wait(), 30)
    chat.send_signal(signal.SIGINT)
    _, told = await asyncio.wait_for(chat.communicate(), 30)
    server.close()
    assert chat.returncode == 130, told
    assert b"Traceback" not in told
    assert json.loads(line("runs", "show", "last", "--json").stdout)["status"] == "cancelled"
