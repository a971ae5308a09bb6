"""The documents: links that lead somewhere, headings that exist, and one place for every decision."""

import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, text_files

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[ ]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)

DOCUMENTS = {path: text for path, text in text_files() if path.suffix == ".md"}
DECISIONS = Path("docs/decisions")


def _anchors(text: str) -> set[str]:
    """The anchors that the headings of a document get where it is shown (lower case, dashes, no punctuation)."""
    bare = re.sub(r"^(```|~~~).*?^\1[ ]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in HEADING.findall(bare)
    }


def _is_broken(document: Path, target: str) -> bool:
    place, _, anchor = target.partition("#")
    found = ROOT / document if not place else (ROOT / document).parent / place
    if not found.exists() or not found.resolve().is_relative_to(ROOT):
        return True
    return bool(anchor) and found.suffix == ".md" and anchor not in _anchors(found.read_text())


@pytest.mark.requirement("skeleton:docs")
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_of_a_document_leads_somewhere(document: Path) -> None:
    prose = FENCE.sub("", DOCUMENTS[document])
    targets = [link for link in LINK.findall(prose) if not re.match(r"[a-z][a-z0-9+.-]*:", link)]
    assert [target for target in targets if _is_broken(document, target)] == []


@pytest.mark.requirement("skeleton:decisions")
def test_the_index_of_decisions_lists_every_record_and_no_other() -> None:
    records = {path.name for path in DOCUMENTS if path.parent == DECISIONS and path.name != "README.md"}
    listed = set(re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", DOCUMENTS[DECISIONS / "README.md"]))
    assert records
    assert listed == records


@pytest.mark.requirement("skeleton:decisions")
@pytest.mark.parametrize(
    "record", sorted(p for p in DOCUMENTS if re.match(r"\d{4}-", p.name)), ids=lambda p: p.name
)
def test_a_decision_says_its_context_choice_and_consequences(record: Path) -> None:
    headings = HEADING.findall(DOCUMENTS[record])
    assert re.match(rf"{record.name[:4]}\. ", headings[0]), "the title begins with the number"
    assert {"Context", "Decision", "Consequences"} <= set(headings)


@pytest.mark.requirement("skeleton:decisions")
def test_every_runtime_dependency_has_its_reason_on_record() -> None:
    declared = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    extras = re.search(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[",
        (ROOT / "pyproject.toml").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert declared is not None
    assert extras is not None
    names = set(re.findall(r'^  "([a-z0-9-]+)', declared[1], re.MULTILINE))
    names |= set(re.findall(r'"([a-z0-9-]+)', extras[1]))
    reasons = set(
        re.findall(r"^\| ([a-z0-9-]+) \|", DOCUMENTS[DECISIONS / "0002-dependencies.md"], re.MULTILINE)
    )
    assert names
    assert reasons - {"package"} == names
