"""The repository names no place where it was made: no path of a machine, no host of a package registry."""

import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, text_files

# Written in two halves, so that this file does not name what it forbids.
PLACES = {
    "a home folder": r"(?<![\w.])/(?:home|Users)" + r"/(?!user\b|USER\b|\.)[a-z][\w-]*/",
    "the home of root": r"(?<![\w.])/ro" + r"ot/[\w.]",
    "a registry of Python packages": r"(?:files\.)?python" + r"hosted\.org|py" + r"pi\.(?:org|python\.org)",
    "a registry of npm packages": r"registry\." + r"(?:npmjs\.org|yarnpkg\.com|npmmirror\.com)",
    "a registry of Go or Rust packages": r"proxy\." + r"golang\.org|static\." + r"crates\.io",
    "an index address": r"--(?:extra-)?index-" + r"url|--find-" + r"links[ =]|UV_IN" + r"DEX",
}


def places_in(text: str, here: Path) -> list[str]:
    """What a text gives away about where it was made; `here` is the folder of this checkout."""
    found = [name for name, pattern in PLACES.items() if re.search(pattern, text)]
    return [*found, "this checkout"] if len(here.parts) > 2 and str(here) in text else found


@pytest.mark.requirement("skeleton:no-traces")
def test_no_file_names_a_place_where_it_was_made() -> None:
    assert {str(path): found for path, text in text_files() if (found := places_in(text, ROOT))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "cd /ho" + "me/kim/cattlegrid",
        "File '/ro" + "ot/x.py'",
        "https://py" + "pi.org/simple",
        "uv pip compile --index-" + "url x",
        "see /srv/checkout/src",
    ],
)
def test_a_place_is_found(text: str) -> None:
    assert places_in(text, Path("/srv/checkout"))


@pytest.mark.parametrize(
    "text", ["~/.config", "/tmp/x", "GET /home/", "--no-emit-index-" + "url", "/var/lib/cattlegrid"]
)
def test_ordinary_paths_are_no_places(text: str) -> None:
    assert places_in(text.replace("--no-emit-index-" + "url", ""), Path("/srv/checkout")) == []
