"""What somebody does who has just cloned the repository: the demo, then an agent of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.demo.__main__ import promises_kept
from cattlegrid.app.demo.acts import Line
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.settings import load_settings
from cattlegrid.core.principal import Principal
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.scripted.server import ScriptedModelServer
from tests.scenario.server import Server
from tests.scenario.till import clean_environ

ROOT = Path(__file__).parents[2]
YOU = Principal(tenant="default", user="you@example.com")

pytestmark = pytest.mark.timeout(120)


@pytest.mark.requirement("newcomer:demo-acts")
@pytest.mark.requirement("newcomer:demo-kill")
@pytest.mark.requirement("newcomer:demo-why")
@pytest.mark.requirement("newcomer:demo-json")
def test_the_demo_keeps_its_promises_and_tells_them_as_json() -> None:
    command = [sys.executable, "-m", "cattlegrid.app.demo", "--json"]
    played = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False, timeout=110
    )
    assert played.returncode == 0, played.stderr
    report = json.loads(played.stdout)
    assert report["kept"]
    acts: dict[int, Any] = {act["act"]: act for act in report["acts"]}
    assert sorted(acts) == [2, 6]
    kill = acts[2]["figures"]
    assert (kill["kills"], kill["refunds"], kill["refunded_cents"], kill["lost_events"]) == (2, 1, 7_990, 0)
    why = acts[6]["figures"]
    assert why["identical"]
    assert why["steps"] == why["steps_total"] > 0
    assert "scripted model, simulated customers, real server, real database, real SIGKILL" in played.stderr


@pytest.mark.requirement("newcomer:demo-fails")
def test_a_broken_promise_fails_the_demo() -> None:
    line = Line(act=2, name="kill -9", scene="", result="", kept=True, figures={})
    broken = Line(act=6, name="why?", scene="", result="", kept=False, figures={})
    assert promises_kept([line], error="", took_s=1.0)
    assert not promises_kept([line, broken], error="", took_s=1.0)
    assert not promises_kept([line], error="act 6: the server did not start", took_s=1.0)
    assert not promises_kept([line], error="", took_s=61.0)
    assert not promises_kept([], error="", took_s=1.0)


@pytest.mark.requirement("newcomer:own-agent")
def test_an_agent_of_ones_own_runs_within_a_handful_of_commands(tmp_path: Path) -> None:
    outside = Server(tmp_path)
    assert "Made shop" in outside.cli("init", "shop")
    own = Server(tmp_path / "shop")
    lint = own.cli("lint")
    assert "3 tools, 1 needs a person (refund: amount > 50)" in lint
    assert lint.rstrip().endswith("ok")
    own.cli("dev", "--detach", "--port", str(own.port))
    try:
        assert "[waiting: apr_" in own.cli("chat", "shop", "Order 17 came broken, I want my 79.90 back")
        approved = own.cli("approvals", "approve", "last")
        assert "done once" in approved
        assert "79.9" in approved
        shown = own.cli("runs", "show", "last")
        assert "refund(" in shown
        assert "held for a person: amount > 50" in shown
        assert "identical" in own.cli("replay", "last")
    finally:
        own.cli("dev", "--stop")
    assert "whole" in own.cli("verify")


@pytest.mark.anyio
@pytest.mark.requirement("newcomer:scripted-or-real")
async def test_a_model_that_is_set_up_answers_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "shop"
    write_scaffold(root, "shop")
    monkeypatch.setenv("SHOP_DB", str(tmp_path / "shop.db"))
    outputs: list[str] = []
    async with ScriptedModelServer() as real:
        for environ in ({}, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": real.base_url}):
            settings = load_settings(root, environ)
            async with open_project(settings) as project:
                await register_agents(project.registry, settings)
                engine = project.services.engine
                accepted = await engine.start("shop", YOU, RunRequest(text="Where is my order 17?"))
                outputs.append((await engine.wait(accepted, YOU, timeout_s=20)).output)
        assert real.app.completions == 2
    assert outputs[0] == outputs[1] != ""
