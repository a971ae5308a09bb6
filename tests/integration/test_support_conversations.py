"""The reference agent in production dress: its golden cases over the real engine, store, guards and tools."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cattlegrid.app.compose import OpenProject, open_project, register_agents
from cattlegrid.app.settings import load_settings
from cattlegrid.core.principal import Principal
from cattlegrid.journal.events import ApprovalDecision
from cattlegrid.runtime.requests import RunRequest, RunView
from tests.unit.talk import golden_cases

ROOT = Path(__file__).parents[2]
CASES = golden_cases(ROOT / "agents" / "support" / "evals" / "golden.yaml")
STAFF = Principal(tenant="shop", user="staff@example.com", roles=frozenset({"operator", "approver"}))
WAIT_S = 20.0

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.mark.requirement("support:conversation")
async def test_the_reference_agent_handles_every_golden_case_and_replays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(ROOT, {"CATTLEGRID_STATE": str(tmp_path / "state")})
    fresh = tmp_path / "fresh.db"
    wrong: list[str] = []
    async with open_project(settings) as project:
        await register_agents(project.registry, settings, only="support")
        for number, case in enumerate(CASES):
            database = tmp_path / f"shop-{number}.db"
            if fresh.exists():
                shutil.copy(fresh, database)
            monkeypatch.setenv("SUPPORT_DB", str(database))
            if not fresh.exists():
                # The first reading call seeds the shop; every further case begins with a copy of it.
                await _ask(project, "Do you sell kettles?", "ana@example.com", "")
                shutil.copy(database, fresh)
            wrong.extend(f"{case['id']}: {problem}" for problem in await _problems(project, case))
    assert wrong == []


async def _problems(project: OpenProject, case: dict[str, Any]) -> list[str]:
    user = case.get("user", "ana@example.com")
    said = [case["input"]] if isinstance(case["input"], str) else case["input"]
    runs: list[RunView] = []
    for text in said:
        runs.append(await _ask(project, text, user, runs[-1].session_id if runs else ""))
    made = [step for run in runs for step in run.steps if step.kind == "execute_tool" and step.attempt]
    names = {step.name for step in made}
    problems = [f"{run.status} {run.reason}" for run in runs if run.status != "completed"]
    problems += [f"no {name}" for expected in case.get("calls", []) for name in expected if name not in names]
    problems += [f"called {name}" for name in case.get("never", []) if name in names]
    last = runs[-1].output.lower()
    problems += [f"no {fact!r} in {last!r}" for fact in case["facts"] if fact.lower() not in last]
    everything = " ".join(run.output for run in runs).lower()
    problems += [f"said {words!r}" for words in case.get("not_said", []) if words.lower() in everything]
    report = await project.services.replayer.exact(runs[-1].session_id)
    return problems if report.identical else [*problems, f"replay: {report.difference}"]


async def _ask(project: OpenProject, text: str, user: str, session_id: str) -> RunView:
    """One message of the customer; a colleague approves whatever waits."""
    engine, customer = project.services.engine, Principal(tenant="shop", user=user)
    request = RunRequest(text=text)
    if session_id:
        accepted = await engine.submit(session_id, customer, request)
    else:
        accepted = await engine.start("support", customer, request)
    run = await engine.wait(accepted, STAFF, timeout_s=WAIT_S)
    while run.status == "held":
        waiting = next(approval for approval in run.approvals if approval.status == "pending")
        await engine.decide(waiting.id, STAFF, ApprovalDecision.APPROVE)
        run = await engine.wait(accepted, STAFF, timeout_s=WAIT_S)
    return run
