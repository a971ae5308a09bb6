"""A folder becomes a bundle: what is in it, what its digest covers, where it comes from, and how code is imported."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.bundle import AttachmentLimits, Bundle
from cattlegrid.core.errors import BundleInvalid, IntegrityError, NotFound
from cattlegrid.release.build import build, examine, require_clean
from cattlegrid.release.loader import CodeBroken, load_code, unload_code
from cattlegrid.release.manifest import read_manifest, sha256_hex, write_manifest
from cattlegrid.release.project import load_project
from cattlegrid.release.sources import MAX_FILE_BYTES, read_sources
from tests.unit.release.agents import (
    AGENT,
    FILES,
    PROJECT,
    TOOLS,
    built,
    examined,
    said,
    tools_with,
    write_project,
)


@pytest.mark.requirement("bundle:load")
def test_a_folder_becomes_a_bundle(tmp_path: Path) -> None:
    found = built(tmp_path)
    bundle = found.bundle
    assert (bundle.agent, bundle.description) == ("shop", "Customer service of a small shop")
    assert bundle.system_prompt == FILES["prompts/system.md"]
    tier = bundle.models["default"]
    assert (tier.name, tier.provider, tier.model, tier.params.temperature) == (
        "small",
        "openai",
        "gpt-4.1-mini",
        0.0,
    )
    assert bundle.approve == {"refund": "amount > 50"}
    assert sorted(bundle.tools) == ["find_order", "refund", "take_back"]
    assert sorted(bundle.files) == ["agent.yaml", "prices.py", "prompts/system.md", "tools.py"]
    assert bundle.files["prices.py"] == sha256_hex(found.files["prices.py"])
    assert bundle.digest == sha256_hex(found.manifest)
    assert read_manifest(found.manifest, digest=bundle.digest) == bundle


def test_an_agent_needs_no_tools(tmp_path: Path) -> None:
    files = {**tools_with(""), "tools.py": None}
    assert built(tmp_path, files).bundle.tools == {}


@pytest.mark.requirement("bundle:hash")
def test_the_same_content_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    here = built(tmp_path / "here").bundle.digest
    root = write_project(tmp_path / "there" / "deeper", dict(reversed(FILES.items())))
    folder = root / "agents" / "shop"
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "tools.cpython-311.pyc").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    (folder / "evals").mkdir()
    (folder / "evals" / "golden.yaml").write_text("cases: []")
    for path in folder.rglob("*.py"):
        os.utime(path, (1, 1))
    assert build(load_project(root), "shop").bundle.digest == here


PARTS = {
    "prompt": ("agents/shop/prompts/system.md", "You are", "You were"),
    "line ending": ("agents/shop/prompts/system.md", "\n", "\r\n"),
    "code": ("agents/shop/prices.py", "/ 100", "/ 10"),
    "tool": ("agents/shop/tools.py", 'retry="keyed"', 'retry="free"'),
    "policy": ("agents/shop/agent.yaml", "> 50", "> 60"),
    "model": ("cattlegrid.yaml", "gpt-4.1-mini", "gpt-4.1-nano"),
    "parameter": ("cattlegrid.yaml", "temperature: 0", "temperature: 1"),
    "lock": ("requirements.lock", "a==1", "a==2"),
}


@pytest.mark.requirement("attachments:limits")
def test_limits_of_attachments_are_part_of_the_version_once_they_are_declared(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    before = build(load_project(root), "shop").bundle
    assert before.attachment_limits == AttachmentLimits()
    assert b"attachments" not in write_manifest(before)
    file = root / "agents" / "shop" / "agent.yaml"
    file.write_text(file.read_text() + "\nattachments:\n  rows: 7\n")
    after = build(load_project(root), "shop").bundle
    assert after.attachment_limits == AttachmentLimits(rows=7)
    assert after.digest != before.digest
    assert read_manifest(write_manifest(after), digest=after.digest) == after


@pytest.mark.requirement("bundle:hash")
@pytest.mark.parametrize("part", PARTS)
def test_whatever_defines_the_version_changes_the_digest(tmp_path: Path, part: str) -> None:
    root = write_project(tmp_path)
    (root / "requirements.lock").write_text("a==1")
    before = build(load_project(root), "shop").bundle.digest
    file, old, new = PARTS[part]
    text = (root / file).read_bytes()
    assert old.encode() in text
    (root / file).write_bytes(text.replace(old.encode(), new.encode(), 1))
    assert build(load_project(root), "shop").bundle.digest != before


@pytest.mark.requirement("bundle:hash")
def test_prices_and_other_agents_models_do_not_change_the_digest(tmp_path: Path) -> None:
    before = built(tmp_path / "a").bundle.digest
    project = PROJECT.replace("gpt-4.1}", "o4}").replace(
        "temperature: 0", "temperature: 0, price: {input: 1, output: 2}"
    )
    assert project.count("o4") == project.count("price") == 1
    assert built(tmp_path / "b", project=f"environment: staging\n{project}").bundle.digest == before


def test_classes_of_one_name_do_not_bring_the_place_of_the_build_into_the_digest(tmp_path: Path) -> None:
    code = """
from .other import Order as Other
@dataclass
class Order:
    a: int
@tool()
def f(a: Order, b: Other) -> Order:
    \"\"\"Do.\"\"\"
"""
    files = {
        **tools_with(code),
        "other.py": "from dataclasses import dataclass\n@dataclass\nclass Order:\n    b: int\n",
    }
    first, second = built(tmp_path / "a", files).bundle, built(tmp_path / "b", files).bundle
    assert "agent__other__Order" in first.tools["f"].spec.parameters
    assert first.digest == second.digest


@pytest.fixture(scope="module")
def some_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return built(tmp_path_factory.mktemp("some")).bundle


file_names = st.text("abc/", min_size=1, max_size=6)
contents = st.dictionaries(file_names, st.binary(max_size=8), min_size=1, max_size=6)


def digest_of(bundle: Bundle, files: dict[str, bytes]) -> str:
    described = {name: sha256_hex(content) for name, content in files.items()}
    return sha256_hex(write_manifest(msgspec.structs.replace(bundle, files=described)))


@pytest.mark.requirement("bundle:hash")
@given(files=contents, data=st.data())
def test_the_digest_is_stable_under_order_and_changes_with_any_byte(
    some_bundle: Bundle, files: dict[str, bytes], data: st.DataObject
) -> None:
    digest = digest_of(some_bundle, files)
    shuffled = dict(data.draw(st.permutations(list(files.items()))))
    assert digest_of(some_bundle, shuffled) == digest
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    place = data.draw(st.integers(0, len(content)))
    changed = content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place:]
    assert digest_of(some_bundle, {**files, name: changed}) != digest
    assert digest_of(some_bundle, {**files, name + "x": content}) != digest
    without = {other: files[other] for other in files if other != name}
    assert digest_of(some_bundle, without) != digest


def test_a_changed_manifest_does_not_verify(tmp_path: Path) -> None:
    found = built(tmp_path)
    with pytest.raises(IntegrityError, match="does not verify"):
        read_manifest(found.manifest.replace(b"> 50", b"> 51"), digest=found.bundle.digest)
    for other in (b'{"agent": 1}', b"[]", b"", b'{"agent": "\xff"}'):
        with pytest.raises(IntegrityError, match="cannot be read"):
            read_manifest(other, digest=sha256_hex(other))


@pytest.mark.requirement("input:prompt")
@pytest.mark.parametrize(
    ("prompt", "message"),
    [(None, "The system prompt is missing"), ("  \n", "The system prompt is empty")],
)
def test_a_missing_prompt_is_said(tmp_path: Path, prompt: str | None, message: str) -> None:
    (problem,) = examined(tmp_path, {"prompts/system.md": prompt}).problems
    assert problem.file == "agents/shop/prompts/system.md"
    assert problem.message == message


@pytest.mark.requirement("bundle:problems")
@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"agent.yaml": AGENT.replace("default: small", "default: smal")},
            (
                "agents/shop/agent.yaml:5: models.default: There is no model `smal` in `cattlegrid.yaml`. "
                "Did you mean `small`?"
            ),
        ),
        (
            {"agent.yaml": AGENT.replace("name: shop", "name: store")},
            "agents/shop/agent.yaml:2: name: The agent is called `store`, but its folder `shop`.",
        ),
        ({"prices.py": "def euros(:\n"}, "agents/shop/prices.py:1: This is not valid Python: "),
        (
            {"prices.py": "\n\nimport nowhere_at_all\n"},
            "agents/shop/prices.py:3: Importing it fails: ModuleNotFound",
        ),
        (
            {"prices.py": "open('data.csv')\n"},
            "agents/shop/prices.py:1: Importing it fails: FileNotFoundError",
        ),
        (
            {"prices.py": "raise SystemExit(3)\n"},
            "agents/shop/prices.py:1: Importing it fails: SystemExit: 3",
        ),
        ({"tools.py": TOOLS.replace("from .prices", "from prices")}, "Write `from .prices import ...`"),
        ({"tools.py": TOOLS.replace("@tool()", "@tool", 1)}, "Write `@tool()`, with parentheses"),
    ],
)
def test_broken_files_are_said_with_their_place(
    tmp_path: Path, files: dict[str, str | None], problem: str
) -> None:
    (found,) = said(examined(tmp_path, files).problems)
    assert problem in found
    assert "cattlegrid-build" not in found


def test_a_folder_without_its_file_is_no_agent(tmp_path: Path) -> None:
    root = write_project(tmp_path, {"agent.yaml": None})
    assert load_project(root).agents == ()
    found = examine(root / "agents" / "shop", root=root, project=load_project(root))
    assert [(p.file, p.message) for p in found.problems] == [
        ("agents/shop/agent.yaml", "The file is missing")
    ]


def test_links_and_large_files_are_refused(tmp_path: Path) -> None:
    folder = write_project(tmp_path) / "agents" / "shop"
    (folder / "secret").symlink_to(tmp_path / "cattlegrid.yaml")
    (folder / "parent").symlink_to(tmp_path)
    (folder / "big.bin").write_bytes(bytes(MAX_FILE_BYTES + 1))
    (folder / "a:b").write_text("x")
    _, problems = read_sources(folder)
    assert sorted((p.file, p.message.split(",")[0]) for p in problems) == [
        ("a:b", "The path has a character that not every file system can have"),
        ("big.bin", "The file has 8"),
        ("parent", "It is a link"),
        ("secret", "It is a link"),
    ]


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    folder = write_project(tmp_path) / "agents" / "shop"
    (folder / "Prices.py").write_text("")
    _, problems = read_sources(folder)
    assert [problem.message for problem in problems] == [
        "On some file systems this is the same file as `Prices.py`"
    ]


def test_an_unknown_agent_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    project = load_project(write_project(tmp_path))
    with pytest.raises(NotFound, match="Did you mean `shop`"):
        build(project, "shp")


def test_an_agent_is_looked_at_when_the_projects_file_is_wrong(tmp_path: Path) -> None:
    root = write_project(tmp_path, {"agent.yaml": f"{AGENT}\nextra: 1\n"}, project="models: 5")
    found = examine(root / "agents" / "shop", root=root, project=None)
    assert [problem.key for problem in found.problems] == ["extra"]


def test_a_prompt_that_fills_the_context_is_a_warning(tmp_path: Path) -> None:
    (warning,) = examined(tmp_path, {"prompts/system.md": "word " * 6_000}).warnings
    assert warning.key == "context.max_tokens"


def test_building_leaves_nothing_behind_in_the_process_or_the_folder(tmp_path: Path) -> None:
    before = (set(sys.modules), list(sys.path), set(sys.path_importer_cache))
    root = write_project(tmp_path)
    files = sorted(root.rglob("*"))
    build(load_project(root), "shop")
    assert {name for name in set(sys.modules) - before[0] if "draft" in name} == set()
    assert sys.path == before[1]
    assert {place for place in set(sys.path_importer_cache) - before[2] if "cattlegrid" in place} == set()
    assert sorted(root.rglob("*")) == files


@pytest.mark.requirement("bundle:side-by-side")
def test_two_versions_of_the_code_stand_side_by_side(tmp_path: Path) -> None:
    for name, cents in (("one", 100), ("two", 1000)):
        folder = write_project(tmp_path / name) / "agents" / "shop"
        (folder / "prices.py").write_text(f"def euros(cents): return cents / {cents}")
    one = load_code(tmp_path / "one" / "agents" / "shop", package="test_version_one")
    two = load_code(tmp_path / "two" / "agents" / "shop", package="test_version_two")
    try:
        assert [code.tools["find_order"](1, None).total_eur for code in (one, two)] == [79.9, 7.99]
        assert one.tools["refund"].__globals__ is not two.tools["refund"].__globals__
        assert load_code(one.folder, package="test_version_one").module is one.module
    finally:
        unload_code("test_version_one")
        unload_code("test_version_two")
    assert [name for name in sys.modules if name.startswith("test_version_")] == []


def test_an_import_that_fails_leaves_no_half_package(tmp_path: Path) -> None:
    folder = write_project(tmp_path, {"prices.py": "1 / 0"}) / "agents" / "shop"
    with pytest.raises(CodeBroken, match="ZeroDivisionError"):
        load_code(folder, package="test_broken")
    assert [name for name in sys.modules if name.startswith("test_broken")] == []


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=root, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = write_project(tmp_path / "project")
    (root / ".gitignore").write_text("*.tmp\n__pycache__\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "First")
    return root


@pytest.mark.requirement("bundle:provenance")
def test_a_committed_folder_is_clean(repository: Path) -> None:
    (repository / "elsewhere.txt").write_text("not part of the agent")
    (repository / "agents" / "shop" / "evals").mkdir()
    (repository / "agents" / "shop" / "evals" / "new.yaml").write_text("not part of the bundle")
    (repository / "agents" / "shop" / "__pycache__").mkdir()
    (repository / "agents" / "shop" / "__pycache__" / "x.pyc").write_text("")
    found = build(load_project(repository), "shop")
    assert (found.commit, found.dirty) == (git(repository, "rev-parse", "HEAD"), False)


@pytest.mark.requirement("bundle:provenance")
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("agents/shop/prompts/system.md", "Changed."),
        ("agents/shop/new.txt", "Not added."),
        ("agents/shop/ignored.tmp", "Ignored by git, but part of the bundle."),
        ("cattlegrid.yaml", f"# changed\n{PROJECT}"),
        ("requirements.lock", "a==1"),
    ],
)
def test_what_differs_from_the_commit_makes_a_bundle_dirty_and_keeps_it_from_production(
    repository: Path, file: str, text: str
) -> None:
    (repository / file).write_text(text)
    found = build(load_project(repository), "shop")
    assert (len(found.commit), found.dirty) == (40, True)
    with pytest.raises(BundleInvalid, match="Commit the changes"):
        require_clean(found, "production")
    require_clean(found, "staging")


def test_a_removed_file_makes_a_bundle_dirty(repository: Path) -> None:
    (repository / "agents" / "shop" / "extra.md").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Second")
    (repository / "agents" / "shop" / "extra.md").unlink()
    assert build(load_project(repository), "shop").dirty


def test_without_a_repository_the_origin_is_unknown(tmp_path: Path) -> None:
    found = built(tmp_path)
    assert (found.commit, found.dirty) == ("", False)


def test_without_git_the_origin_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("git")
    monkeypatch.setenv("PATH", "")
    found = build(load_project(repository), "shop")
    assert (found.commit, found.dirty) == ("", False)


def test_a_repository_without_a_commit_is_dirty(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    git(root, "init", "-q")
    assert build(load_project(root), "shop").dirty
