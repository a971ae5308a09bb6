"""A project whose model speaks one of the wire formats: from `cattlegrid.yaml` to an answer, its cost and its replay."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from cattlegrid.app.compose import open_project, register_agents
from cattlegrid.app.settings import load_settings
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.messages import FinishReason, Usage
from cattlegrid.core.principal import Principal
from cattlegrid.runtime.requests import RunRequest
from tests.contract.model_endpoint import STREAM_END, STREAM_HEAD, Step, model_endpoint, piece, response
from tests.wires.answers import AGAIN, HM, PARIS, WHERE, Answer
from tests.wires.every import WIRES
from tests.wires.wire import RecordedWire

pytestmark = pytest.mark.anyio

YOU: Final = Principal(tenant="t", user="you", roles=frozenset({"operator"}))
USAGE: Final = Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=600, reasoning_tokens=50)
ASKING: Final = Answer(parts=(HM, WHERE, AGAIN, PARIS), reason=FinishReason.TOOL_CALLS, usage=USAGE)
ANSWERING: Final = Answer(parts=(WHERE,), usage=USAGE)
TOOLS: Final = '''
"""What the guide can do."""

from cattlegrid import tool


@tool()
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"
'''


def write(root: Path, models: str) -> Path:
    folder = root / "agents" / "guide"
    (folder / "prompts").mkdir(parents=True)
    (root / "cattlegrid.yaml").write_text(models)
    (folder / "agent.yaml").write_text("name: guide\ndescription: A guide\nmodels: {default: main}\n")
    (folder / "prompts" / "system.md").write_text("Be kind.")
    (folder / "tools.py").write_text(TOOLS)
    return root


def steps(wire: RecordedWire, answer: Answer) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (STREAM_HEAD, piece(wire.stream(answer)), STREAM_END), (response(200, wire.body(answer)),)


@pytest.mark.requirement("model:wires", "model:reasoning", "model:providers", "model:prices")
@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
async def test_an_agent_thinks_asks_for_a_tool_and_answers_in_every_format(
    tmp_path: Path, wire: RecordedWire
) -> None:
    async with model_endpoint() as endpoint:
        models = f"""
models:
  main: {{provider: mine, model: m-1, price: {{input: 3, cached_input: 0.3, output: 15}}}}
providers:
  mine: {{wire: {wire.name}, base_url: '{endpoint.url}', api_key_env: MY_KEY}}
"""
        settings = load_settings(write(tmp_path, models), {"MY_KEY": "a-key-of-mine"})
        endpoint.first.append(steps(wire, ASKING))
        endpoint.play(*steps(wire, ANSWERING))
        async with open_project(settings) as project:
            await register_agents(project.registry, settings)
            engine = project.services.engine
            accepted = await engine.start("guide", YOU, RunRequest(text="Where to?"))
            run = await engine.wait(accepted, YOU, timeout_s=20)
            report = await project.services.replayer.exact(run.session_id)
    assert (run.status, run.output) == ("completed", WHERE.text)
    assert [(step.kind, step.status) for step in run.steps][1] == ("execute_tool", "done")
    assert report.identical
    one = 400 * 3_000 + 600 * 300 + 100 * 15_000
    assert run.cost_nano_usd == 2 * one
    assert "a-key-of-mine" in endpoint.asked[0].head
    back = wire.sent_back(msgspec.json.decode(endpoint.asked[1].body))
    thoughts = sum(isinstance(part, dict) for part in back)
    assert [part for part in back if not isinstance(part, dict)] == [WHERE.text, ("a1", {"city": "Paris"})]
    assert thoughts == (0 if wire.name == "openai" else 2)


@pytest.mark.requirement("model:providers", "newcomer:scripted-or-real")
@pytest.mark.parametrize("provider", ["openai-responses", "anthropic", "gemini"])
async def test_without_any_key_the_scripted_model_plays_every_provider(tmp_path: Path, provider: str) -> None:
    models = f"models:\n  main: {{provider: {provider}, model: m, price: {{input: 0, output: 0}}}}\n"
    settings = load_settings(write(tmp_path, models), {})
    async with open_project(settings) as project:
        await register_agents(project.registry, settings)
        engine = project.services.engine
        accepted = await engine.start("guide", YOU, RunRequest(text="Hello"))
        run = await engine.wait(accepted, YOU, timeout_s=20)
    assert run.status == "completed"
    assert run.output


@pytest.mark.requirement("model:providers")
async def test_a_model_whose_key_is_missing_stops_the_start_with_its_name(tmp_path: Path) -> None:
    models = """
models:
  main: {provider: openai, model: gpt-4.1-mini}
  second: {provider: anthropic, model: claude-sonnet-4-5}
  third: {provider: local, model: llama, price: {input: 0, output: 0}}
providers:
  local: {base_url: 'http://127.0.0.1:9/v1'}
"""
    root = write(tmp_path, models)
    settings = load_settings(root, {"OPENAI_API_KEY": "k"})
    with pytest.raises(ConfigurationError, match="set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL for a server"):
        async with open_project(settings):
            pass
    async with open_project(settings, background=False):
        """What only reads needs no model."""
    async with open_project(load_settings(root, {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})):
        """All three can be asked."""
