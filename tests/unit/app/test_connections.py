"""Which models a process can ask, by what the environment holds."""

from pathlib import Path

import pytest

from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.core.errors import ConfigurationError

pytestmark = pytest.mark.requirement("model:providers", "newcomer:scripted-or-real")

DECLARED = """
models:
  main: {provider: PROVIDER, model: m}
providers:
  local: {base_url: 'http://127.0.0.1:8000/v1'}
  keyed: {base_url: 'https://llm.example/v1', api_key_env: LLM_KEY, wire: anthropic}
"""


def settings(root: Path, provider: str, **environ: str) -> Settings:
    (root / "cattlegrid.yaml").write_text(DECLARED.replace("PROVIDER", provider))
    return load_settings(root, environ)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("openai", "OPENAI_BASE_URL"),
        ("openai-responses", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("anthropic", "ANTHROPIC_BASE_URL"),
        ("gemini", "GEMINI_API_KEY"),
        ("keyed", "LLM_KEY"),
    ],
)
def test_the_variable_of_a_provider_makes_its_model_real(
    tmp_path: Path, provider: str, variable: str
) -> None:
    assert settings(tmp_path, provider).scripted
    assert settings(tmp_path, provider, COHERE_API_KEY="k").scripted
    assert not settings(tmp_path, provider, **{variable: "http://127.0.0.1:9"}).scripted


def test_a_server_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    found = settings(tmp_path, "local")
    assert not found.scripted
    assert found.missing_keys == ""


def test_a_key_is_in_no_picture_of_the_settings(tmp_path: Path) -> None:
    found = settings(tmp_path, "anthropic", ANTHROPIC_API_KEY="do-not-show")
    assert found.connections["anthropic"].api_key.value == "do-not-show"
    assert "do-not-show" not in repr(found)


def test_production_is_refused_without_a_model_and_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No model is set up: set LLM_KEY\. The scripted model"):
        settings(tmp_path, "keyed", CATTLEGRID_ENV="production")
