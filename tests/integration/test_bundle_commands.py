"""The commands over agents' files, run as people run them, on a project that `init` made."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cattlegrid.app.cli import run


class Shell:
    """Runs command lines in a project's folder."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """What the command prints; when it must fail, what it complains."""
        code = run(arguments)
        printed = self._capture.readouterr()
        assert (code != 0) is fails, printed
        return printed.out + printed.err if fails else printed.out

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - a document
        """The document that the command prints."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    for name in [name for name in os.environ if name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))]:
        monkeypatch.delenv(name)
    found = Shell(capsys)
    monkeypatch.chdir(tmp_path)
    found("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    return found


def edit(file: str, old: str, new: str) -> None:
    path = Path("agents/shop", file)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_init_refuses_a_folder_with_something_in_it_and_a_name_that_is_none(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "not an empty folder" in shell("init", "shop", fails=True)
    assert "cannot name an agent" in shell("init", "Shop", fails=True)
    assert shell.json("init", "other")["agent"] == "other"


@pytest.mark.requirement("bundle:lint")
def test_lint_says_what_the_agent_may_do_on_one_line(shell: Shell) -> None:
    digest = shell.json("lint")["agents"][0]["digest"]
    assert shell("lint") == (
        f"shop#1 ({digest[:8]})  3 tools, 1 needs a person (refund: amount > 50)  "
        "limits: 60 s and 10 model turns a run  ok\n"
    )
    assert not Path(".cattlegrid").exists(), "looking at files makes no store"


@pytest.mark.requirement("bundle:lint")
def test_lint_gives_the_number_that_the_agent_has_or_would_get(shell: Shell) -> None:
    shell("bundle", "build")
    assert shell("lint").startswith("shop#1 (")
    edit("prompts/system.md", "shop", "store")
    assert shell("lint").startswith("shop#2 (")
    edit("prompts/system.md", "store", "shop")
    assert shell("lint", "shop").startswith("shop#1 (")


@pytest.mark.requirement("bundle:lint")
def test_lint_tells_every_problem_of_every_file_and_fails(shell: Shell) -> None:
    edit("agent.yaml", "amount > 50", "amont > 50")
    edit("agent.yaml", "run_s: 60", "run_z: 60")
    edit("tools.py", "def find_order(order: int,", "def find_order(order,")
    Path("cattlegrid.yaml").write_text("models: 5\n")
    lines = shell("lint", fails=True).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["cattlegrid.yaml:1", "models"],
        ["agents/shop/agent.yaml:11", "approve.refund"],
        ["agents/shop/agent.yaml:13", "limits.run_z"],
        ["agents/shop/tools.py:90", "find_order"],
        ["shop  3 problems"],
    ]
    document = json.loads(shell("lint", "--json", fails=True))
    assert (document["ok"], len(document["problems"]), len(document["agents"][0]["problems"])) == (
        False,
        1,
        3,
    )


def test_lint_of_an_unknown_agent_names_the_nearest(shell: Shell) -> None:
    assert "Did you mean `shop`?" in shell("lint", "shp", fails=True)


@pytest.mark.requirement("bundle:numbers", "bundle:diff")
def test_versions_are_built_listed_shown_and_compared(shell: Shell) -> None:
    first = shell.json("bundle", "build")[0]
    assert (first["name"], first["dirty"]) == ("shop#1", False)
    edit("agent.yaml", "amount > 50", "amount > 80")
    changed = shell("bundle", "diff", "shop")
    assert 'approve.refund\n- "amount > 50"\n+ "amount > 80"\n' in changed
    assert "-  refund: amount > 50\n+  refund: amount > 80\n" in changed
    second = shell.json("bundle", "build", "shop")[0]
    assert second["number"] == 2
    assert [version["number"] for version in shell.json("bundle", "list")] == [2, 1]
    assert shell("bundle", "list", "shop").splitlines()[0].endswith("newest")
    assert shell("bundle", "diff", "shop#1", "shop#1") == ""
    document = shell.json("bundle", "diff", first["digest"][:8], "shop#2")
    assert [change["field"] for change in document["fields"]] == ["approve.refund"]
    shown = shell.json("bundle", "show", "shop#1")
    assert shown["manifest"]["approve"] == {"refund": "amount > 50"}
    assert "refund, write, retry keyed, 10 s" in shell("bundle", "show", "shop")
    assert "refund: amount > 50" in shell("bundle", "show", "shop#1", "--file", "agent.yaml")
    assert "no file `nothing`" in shell("bundle", "show", "shop", "--file", "nothing", fails=True)
    assert "no version called `shop#7`" in shell("bundle", "show", "shop#7", fails=True)


def test_nothing_is_built_when_an_agent_is_wrong(shell: Shell) -> None:
    edit("agent.yaml", "run_s: 60", "run_z: 60")
    assert "Did you mean `run_s`?" in shell("bundle", "build", fails=True)
    assert shell.json("bundle", "list") == []


@pytest.mark.requirement("bundle:portable")
def test_a_version_moves_to_another_project(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = shell.json("bundle", "build")[0]
    printed = shell("bundle", "export", "shop")
    archive = Path(printed.split("  ")[0])
    assert archive.name == f"shop-1-{built['digest'][:8]}.tar"
    assert "exists" in shell("bundle", "export", "shop", fails=True)
    target = (Path.cwd() / archive).resolve()
    monkeypatch.chdir(tmp_path)
    shell("init", "other")
    monkeypatch.chdir(tmp_path / "other")
    imported = shell.json("bundle", "import", str(target))
    assert (imported["name"], imported["digest"]) == ("shop#1", built["digest"])
    content = bytearray(target.read_bytes())
    content[content.rindex(b"You are")] ^= 1
    target.write_bytes(content)
    assert "Its content is not what the manifest says" in shell("bundle", "import", str(target), fails=True)
    assert "cannot be read" in shell("bundle", "import", "missing.tar", fails=True)


@pytest.mark.requirement("bundle:provenance")
def test_production_refuses_what_differs_from_its_commit(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "First")):
        subprocess.run(["git", *identity, *arguments], check=True)
    monkeypatch.setenv("CATTLEGRID_ENV", "production")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    edit("prompts/system.md", "shop", "store")
    assert "production takes committed ones only" in shell("bundle", "build", fails=True)
    edit("prompts/system.md", "store", "shop")
    assert len(shell.json("bundle", "build")[0]["commit"]) == 40


@pytest.mark.requirement("bundle:schema")
def test_the_schemas_are_written_for_an_editor(shell: Shell) -> None:
    shell("bundle", "schemas", ".vscode")
    document = json.loads(Path(".vscode/agent.schema.json").read_text())
    assert "approve" in document["properties"]
