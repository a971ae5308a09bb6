"""Models and providers of `cattlegrid.yaml`: what goes together, and how each mistake is said."""

import re
from pathlib import Path

import pytest

from cattlegrid.release.project import read_project
from cattlegrid.release.providers import providers_of

pytestmark = pytest.mark.requirement("model:providers", "bundle:problems")


def problems(root: Path, text: str) -> list[str]:
    (root / "cattlegrid.yaml").write_text(text)
    _, found = read_project(root)
    return [str(problem).removeprefix("cattlegrid.yaml:") for problem in found]


def models(line: str) -> str:
    return f"models:\n  main: {{{line}}}\n"


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic", "gemini"])
def test_four_providers_are_known_by_name(tmp_path: Path, provider: str) -> None:
    text = models(f"provider: {provider}, model: m, temperature: 0.5, max_output_tokens: 100")
    assert problems(tmp_path, text) == []


def test_a_server_of_ones_own_needs_an_address_and_nothing_else(tmp_path: Path) -> None:
    text = models("provider: vllm, model: m, seed: 1, stop: [END]")
    assert problems(tmp_path, f"{text}providers:\n  vllm: {{base_url: 'http://10.0.0.7:8000/v1'}}") == []
    project, _ = read_project(tmp_path)
    assert project is not None
    found = providers_of(project.file)["vllm"]
    assert (found.wire, found.base_url, found.api_key_env, found.needs_key) == (
        "openai",
        "http://10.0.0.7:8000/v1",
        "",
        False,
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "provider: antropic, model: m",
            (
                "2: models.main.provider: There is no provider `antropic`. Did you mean `anthropic`?, or declare it: "
                "`providers: {antropic: {base_url: http://127.0.0.1:8000/v1}}`"
            ),
        ),
        (
            "provider: anthropic, model: m, seed: 1",
            "2: models.main.seed: The format `anthropic` has no `seed`. Remove it",
        ),
        (
            "provider: openai-responses, model: m, stop: [END]",
            "2: models.main.stop: The format `openai-responses` has no `stop`. Remove it",
        ),
        (
            "provider: gemini, model: m, parallel_tool_calls: false",
            "2: models.main.parallel_tool_calls: The format `gemini` has no `parallel_tool_calls`. Remove it",
        ),
        (
            "provider: anthropic, model: m, temperature: 1.5",
            "2: models.main.temperature: `1.5` must be 1 or less for `anthropic`. Change the value",
        ),
        (
            "provider: gemini, model: google/gemini-2.5-flash",
            (
                "2: models.main.model: `google/gemini-2.5-flash` is no name of a Gemini model. "
                "Write, for example, `gemini-2.5-flash`"
            ),
        ),
        (
            "provider: anthropic, model: m, reasoning_effort: hihg",
            (
                "2: models.main.reasoning_effort: `hihg` is no effort that `anthropic` knows. "
                "Did you mean `high`?, or write a number of tokens in quotes"
            ),
        ),
        (
            "provider: anthropic, model: m, reasoning_effort: '9000'",
            (
                "2: models.main.reasoning_effort: A budget of `9000` tokens is not from 1024 to below the 8192 of an "
                "answer. Change it, or raise `max_output_tokens`"
            ),
        ),
    ],
)
def test_what_a_model_cannot_have_is_said_with_the_fix(tmp_path: Path, line: str, problem: str) -> None:
    assert problems(tmp_path, models(line)) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "{wire: openai}",
            "4: providers.own: The address of `own` is missing. Add `base_url: http://127.0.0.1:8000/v1`",
        ),
        (
            "{wire: antropic, base_url: 'http://h/v1'}",
            "4: providers.own.wire: `antropic` is none of the possible values. Did you mean `anthropic`?",
        ),
        (
            "{base_url: 'h:8000/v1'}",
            (
                "4: providers.own.base_url: This is not the address of a server. Write it without user, query and "
                "fragment, for example `http://127.0.0.1:8000/v1`"
            ),
        ),
        (
            "{base_url: 'http://h/v1', api_key: x}",
            "4: providers.own.api_key: There is no key `api_key` here. Did you mean `api_key_env`?",
        ),
    ],
)
def test_what_a_provider_cannot_have_is_said_with_the_fix(tmp_path: Path, line: str, problem: str) -> None:
    text = models("provider: own, model: m")
    assert problems(tmp_path, f"{text}providers:\n  own: {line}") == [problem]


@pytest.mark.parametrize(
    "secret", ["sk-proj-abcdef", "https://user:secret-word@h/v1", "http://h/v1?key=secret-word"]
)
def test_a_key_in_the_file_is_refused_and_not_shown_again(tmp_path: Path, secret: str) -> None:
    key = "api_key_env" if secret.startswith("sk-") else "base_url"
    lines = {"base_url": "http://h/v1", key: secret}
    written = ", ".join(f"{name}: '{value}'" for name, value in lines.items())
    found = problems(tmp_path, f"{models('provider: own, model: m')}providers:\n  own: {{{written}}}")
    assert len(found) == 1
    assert "secret-word" not in found[0]
    assert "sk-proj" not in found[0]


def test_the_examples_of_the_documents_are_right(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    assert len(examples) >= 3
    assert [problems(tmp_path, example) for example in examples] == [[]] * len(examples)
