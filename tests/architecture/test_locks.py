"""The lock files: complete, hashed, and silent about where the packages come from."""

import re
import tomllib
from pathlib import Path
from typing import cast

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, repository_files

LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")
PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>[^\n]*(?:\n[ ]+[^\n]*)*)", re.MULTILINE
)

pytestmark = pytest.mark.requirement("skeleton:locks")


class Pin(msgspec.Struct, frozen=True):
    """One locked package."""

    version: str
    hashes: int


def _pins(lock: str) -> dict[str, Pin]:
    return {
        canonicalize_name(found["name"]): Pin(found["version"], found["rest"].count("--hash=sha256:"))
        for found in PIN.finditer((ROOT / lock).read_text())
    }


def _declared() -> dict[str, list[str]]:
    """The direct requirements by the lock file that must hold them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = cast("list[str]", project["project"]["dependencies"])
    return {LOCKS[0]: runtime, LOCKS[1]: runtime + cast("list[str]", project["dependency-groups"]["dev"])}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    pins = _pins(lock)
    assert pins
    assert [name for name, pin in pins.items() if not pin.hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_holds_pins_and_hashes_and_nothing_else(lock: str) -> None:
    allowed = re.compile(r"[A-Za-z0-9._-]+==[^ /]+( ; [^/]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    strange = [line for line in (ROOT / lock).read_text().splitlines() if not allowed.fullmatch(line)]
    assert strange == []


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_satisfies_what_the_project_declares(lock: str) -> None:
    pins = _pins(lock)
    unmet = [
        declared
        for declared in _declared()[lock]
        for wanted in [Requirement(declared)]
        if (pin := pins.get(canonicalize_name(wanted.name))) is None
        or not wanted.specifier.contains(pin.version)
    ]
    assert unmet == [], "run `make lock`"


def test_development_uses_the_very_versions_that_users_get() -> None:
    runtime, dev = _pins(LOCKS[0]), _pins(LOCKS[1])
    assert {name: pin for name, pin in runtime.items() if dev.get(name) != pin} == {}


def test_no_lock_file_with_addresses_is_committed() -> None:
    names = {"uv.lock", "poetry.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml"}
    assert [path for path in repository_files() if path.name in names] == []
    npm_locks = [path for path in repository_files() if path.name == "package-lock.json"]
    assert [path for path in npm_locks if '"resolved": "http' in (ROOT / path).read_text()] == []
    assert Path(ROOT / ".npmrc").read_text() == "omit-lockfile-registry-resolved=true\n"
