"""The project that `cattlegrid init` writes: complete, playable by the scripted model, and safe where it matters."""

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from cattlegrid import Context, NotExecuted
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.core.errors import Conflict, InvalidRequest
from cattlegrid.core.principal import Principal
from cattlegrid.release.build import build
from cattlegrid.release.project import load_project
from tests.unit.talk import Talk, golden_cases, judge


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "shop"
    write_scaffold(root, "shop")
    monkeypatch.delenv("SHOP_DB", raising=False)
    monkeypatch.chdir(root / "agents")
    return root


@pytest.fixture
def tools(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaffold_tools", project / "agents" / "shop" / "tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context(key: str = "key-1", user: str = "you@example.com") -> Context:
    return Context(
        principal=Principal(tenant="local", user=user),
        session_id="ses_1",
        run_id="run_1",
        idempotency_key=key,
        deadline_s=10.0,
        log=logging.getLogger("test"),
    )


def test_a_project_is_written_whole_with_its_name_in_place(tmp_path: Path) -> None:
    written = write_scaffold(tmp_path / "new" / "project", "my-shop")
    assert {path.relative_to(tmp_path / "new" / "project").as_posix() for path in written} == {
        ".gitignore",
        "README.md",
        "cattlegrid.yaml",
        "requirements.lock",
        "agents/my-shop/agent.yaml",
        "agents/my-shop/evals/golden.yaml",
        "agents/my-shop/prompts/system.md",
        "agents/my-shop/tools.py",
    }
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert all(texts)
    assert not any("$" in text for text in texts)
    assert 'name: "my-shop"' in "".join(texts)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert write_scaffold(tmp_path, "shop")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="is not an empty folder"):
        write_scaffold(tmp_path, "shop")
    with pytest.raises(Conflict, match="is not an empty folder"):
        write_scaffold(tmp_path / "mine.txt", "shop")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["", "Shop", "../shop", "a b", "1shop", "$name", "shop\n"])
def test_what_cannot_name_an_agent_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name an agent"):
        write_scaffold(tmp_path / "new", name)
    assert not (tmp_path / "new").exists()


def test_the_scripted_model_plays_the_golden_cases(project: Path, tools: ModuleType) -> None:
    cases = golden_cases(project / "agents" / "shop" / "evals" / "golden.yaml")
    for case in cases:
        (project / ".cattlegrid" / "shop.db").unlink(missing_ok=True)
        judge(case, Talk(tools, user="you@example.com"))
    assert len(cases) == 5


def test_the_database_lies_in_the_project(project: Path, tools: ModuleType) -> None:
    tools.find_order(17, context())
    assert (project / ".cattlegrid" / "shop.db").is_file()


def test_what_is_written_builds_as_a_bundle(project: Path) -> None:
    bundle = build(load_project(project), "shop").bundle
    assert [tool.name for tool in bundle.offered_tools] == ["find_order", "refund", "search"]
    assert bundle.approve == {"refund": "amount > 50"}


def test_twenty_threads_with_one_key_refund_once(tools: ModuleType) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: tools.refund(17, 79.9, "broken", context()), range(20)))
    assert made == [tools.Refund(1, 17, 79.9)] * 20
    assert tools.find_order(17, context()).refunded_eur == 79.9


def test_different_keys_never_refund_more_than_was_paid(tools: ModuleType) -> None:
    tools.refund(17, 50.05, "broken", context("a"))
    with pytest.raises(NotExecuted, match=r"At most 29\.85 euros"):
        tools.refund(17, 29.86, "broken", context("b"))
    tools.refund(17, 29.85, "broken", context("c"))
    assert tools.find_order(17, context()).refunded_eur == 79.9


@pytest.mark.parametrize(
    ("order", "amount", "why"),
    [
        (1041, 1.0, "no order 1041"),
        (99, 1.0, "no order 99"),
        (12, 1.0, "is shipped"),
        (17, -1.0, "not an amount"),
        (17, 0.001, "not an amount"),
        (17, float("nan"), "not an amount"),
    ],
)
def test_a_refund_that_must_not_be_is_refused(tools: ModuleType, order: int, amount: float, why: str) -> None:
    with pytest.raises(NotExecuted, match=why):
        tools.refund(order, amount, "please", context())


def test_a_key_cannot_be_used_for_another_refund(tools: ModuleType) -> None:
    tools.refund(17, 10.0, "lid", context())
    with pytest.raises(NotExecuted, match="belongs to another refund"):
        tools.refund(17, 11.0, "lid", context())
