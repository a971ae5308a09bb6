"""The two configuration files: what is accepted, and how each mistake is said."""

from pathlib import Path

import pytest

from cattlegrid.core.errors import BundleInvalid
from cattlegrid.core.messages import ModelParams
from cattlegrid.core.money import Price
from cattlegrid.release.files import AgentFile, ProjectFile
from cattlegrid.release.project import find_root, load_project
from cattlegrid.release.schemas import editor_schemas
from cattlegrid.release.validation import validate
from cattlegrid.release.yaml_lines import read_yaml
from tests.unit.release.agents import AGENT, PROJECT, write_project

REPOSITORY = Path(__file__).resolve().parents[3]


def agent_problems(text: str) -> list[str]:
    _, problems = validate(AgentFile, read_yaml(text.encode(), file="agent.yaml"))
    return [str(problem) for problem in problems]


def project_problems(text: str) -> list[str]:
    _, problems = validate(ProjectFile, read_yaml(text.encode(), file="cattlegrid.yaml"))
    return [str(problem) for problem in problems]


def test_a_short_file_gets_the_defaults() -> None:
    agent, problems = validate(AgentFile, read_yaml(AGENT.encode(), file="agent.yaml"))
    assert problems == ()
    assert agent is not None
    assert (agent.limits.run_s, agent.limits.model_turns, agent.limits.queue) == (60.0, 10, 16)
    assert (agent.context.max_tokens, agent.context.strategy, agent.outcome.idle_s) == (
        16_000,
        "window",
        1_800.0,
    )
    assert agent.tools is None


@pytest.mark.requirement("bundle:problems", "input:yaml")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "limits: {run_z: 5}",
            "agent.yaml:9: limits.run_z: There is no key `run_z` here. Did you mean `run_s`?",
        ),
        ("snapshto: x", "agent.yaml:9: snapshto: There is no key `snapshto` here. Did you mean `snapshot`?"),
        ("schema_: x", "agent.yaml:9: schema_: There is no key `schema_` here. Did you mean `$schema`?"),
        ("loop: natve", "agent.yaml:9: loop: `natve` is none of the possible values. Did you mean `native`?"),
        ("degrade: 5", "agent.yaml:9: degrade: `5` is not text. Put it in quotes"),
        ("features: a", "agent.yaml:9: features: `a` is not a list. Write a list"),
        (
            "limits: {queue: 1.5}",
            "agent.yaml:9: limits.queue: `1.5` is not a whole number. Write a whole number",
        ),
        ("limits: {run_s: fast}", "agent.yaml:9: limits.run_s: `fast` is not a number. Write a number"),
        ("limits: {run_s: '5'}", "agent.yaml:9: limits.run_s: `5` is not a number. Write a number"),
        ("limits: {run_s: 0}", "agent.yaml:9: limits.run_s: `0` must be more than 0. Change the value"),
        (
            "limits: {run_s: .inf}",
            "agent.yaml:9: limits.run_s: `inf` must be a finite number. Change the value",
        ),
        (
            "deny:",
            (
                "agent.yaml:9: deny: The key has no value; a mapping (`key: value` lines) is expected. "
                "Write a value, or remove the line"
            ),
        ),
        (
            "deny: {refund: true}",
            (
                "agent.yaml:9: deny.refund: `true` is not a condition. "
                "Write `always`, or a comparison such as `amount > 50`"
            ),
        ),
    ],
)
def test_a_mistake_is_said_with_file_line_key_and_fix(text: str, problem: str) -> None:
    assert agent_problems(f"{AGENT.strip()}\n# here:\n\n{text}\n") == [problem]


@pytest.mark.requirement("bundle:problems")
def test_all_mistakes_are_said_at_once() -> None:
    found = agent_problems("name: Shop\nmodels: {small: large}\nextra: 1\n")
    assert found == [
        "agent.yaml:1: name: `Shop` must be lower-case letters, digits, `-` and `_`, and begin with a letter. Change it",
        "agent.yaml:1: description: The key `description` is missing. Add `description: What the agent is for`",
        "agent.yaml:2: models: The tier `default` is missing. Add `default: small`",
        (
            "agent.yaml:3: extra: There is no key `extra` here. "
            "Choose one of `$schema`, `approve`, `attachments`, `context`, `degrade`, `deny`, `description`, "
            "`features`, `limits`, `loop`, `models`, `name`, `outcome`, `snapshot`, `tools`"
        ),
    ]


def test_a_duplicate_key_is_said_beside_the_other_mistakes() -> None:
    found = agent_problems(f"{AGENT.strip()}\ndegrade: x\ndegrade: y\nlimits: {{run_z: 1}}\n")
    assert [line.split(" The key is")[0].split(" There is")[0] for line in found] == [
        "agent.yaml:8: degrade:",
        "agent.yaml:9: limits.run_z:",
    ]


def test_a_list_is_no_agent_file() -> None:
    assert agent_problems("- a\n") == [
        "agent.yaml:1: A list is not a mapping (`key: value` lines). Write a mapping (`key: value` lines)"
    ]


def test_models_have_parameters_and_exact_prices() -> None:
    text = """
models:
  small:
    provider: openai
    model: gpt-4.1-mini
    temperature: 0
    stop: [END]
    price: {input: 0.40, cached_input: 0.1, output: 1.60}
"""
    project, problems = validate(ProjectFile, read_yaml(text.encode(), file="cattlegrid.yaml"))
    assert problems == ()
    assert project is not None
    model = project.models["small"]
    assert model.params() == ModelParams(temperature=0.0, stop=("END",))
    assert model.price is not None
    assert model.price.price() == Price(
        input_nano_usd=400_000_000,
        output_nano_usd=1_600_000_000,
        cache_read_nano_usd=100_000_000,
        cache_write_nano_usd=400_000_000,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "models: {}",
            "cattlegrid.yaml:1: models: At least one model is needed. Add `small: {provider: openai, model: gpt-4.1-mini}`",
        ),
        (
            "models:\n  small: {provider: openai, model: m, temprature: 1}",
            (
                "cattlegrid.yaml:2: models.small.temprature: There is no key `temprature` here. "
                "Did you mean `temperature`?"
            ),
        ),
        (
            "models:\n  small: {provider: openai, model: m, price: {input: -1, output: 1}}",
            "cattlegrid.yaml:2: models.small.price.input: `-1` must be 0 or more. Change the value",
        ),
        (
            "models:\n  small: {provider: openai, model: m, price: {input: cheap, output: 1}}",
            "cattlegrid.yaml:2: models.small.price.input: `cheap` is not a number. Write a number",
        ),
    ],
)
def test_a_mistake_in_the_projects_file_is_said(text: str, problem: str) -> None:
    assert project_problems(text) == [problem]


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    assert find_root(root / "agents" / "shop") == root.resolve()
    with pytest.raises(BundleInvalid, match="There is no `cattlegrid"):
        find_root(tmp_path)


def test_agents_outside_the_project_are_refused(tmp_path: Path) -> None:
    write_project(tmp_path / "project", project=f"agents: ../elsewhere\n{PROJECT}")
    with pytest.raises(BundleInvalid, match="is outside the project"):
        load_project(tmp_path / "project")


@pytest.mark.requirement("bundle:schema")
def test_the_schemas_for_editors_are_current() -> None:
    folder = REPOSITORY / "schemas"
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    assert found == editor_schemas(), "write them again: `cattlegrid bundle schemas schemas`"


@pytest.mark.requirement("identity:claims", "bundle:problems")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{audience: a}",
            (
                "cattlegrid.yaml:4: identity.oidc.issuer: The key `issuer` is missing. "
                "Add `issuer: https://login.example.com/realms/shop`"
            ),
        ),
        (
            "{issuer: 'http://login.example.com', audience: a}",
            (
                "cattlegrid.yaml:4: identity.oidc.issuer: `http://login.example.com` is no https address. "
                "Write it as `https://login.example.com/realms/shop`; http is for this machine only"
            ),
        ),
        (
            "{issuer: 'https://l.example.com', audience: a, algorithms: [HS256]}",
            (
                "cattlegrid.yaml:4: identity.oidc.algorithms[0]: `HS256` is none of the possible values. "
                "Did you mean `RS256`?"
            ),
        ),
        (
            "{issuer: 'https://l.example.com', audience: a, tenant: t, tenant_claim: c}",
            "cattlegrid.yaml:4: identity.oidc: `tenant` and `tenant_claim` exclude each other. Remove one of them",
        ),
        (
            "{issuer: 'https://l.example.com', audience: a, admit: mapped}",
            (
                "cattlegrid.yaml:4: identity.oidc: With `admit: mapped` and no `roles` nobody gets in. "
                "Add `roles_claim` and `roles`"
            ),
        ),
        (
            "{issuer: 'https://l.example.com', audience: a, roles: {ops: [root]}, roles_claim: g}",
            (
                "cattlegrid.yaml:4: identity.oidc.roles.ops[0]: `root` is none of the possible values. "
                "Choose one of `admin`, `approver`, `author`, `operator`, `reviewer`, `security`, `user`"
            ),
        ),
        (
            "{issuer: 'https://l.example.com', audience: a, roles: {ops: [operator]}}",
            (
                "cattlegrid.yaml:4: identity.oidc: `roles` and `roles_claim` belong together. "
                "Name the claim, and what its values grant"
            ),
        ),
    ],
)
def test_mistakes_in_who_may_come_in_are_said_with_their_fix(text: str, problem: str) -> None:
    models = "models:\n  small: {provider: openai, model: gpt-4.1-mini}\nidentity:\n"
    assert project_problems(f"{models}  oidc: {text}\n") == [problem]
