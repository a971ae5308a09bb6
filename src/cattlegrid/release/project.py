"""Finds and reads a project: the folder with `cattlegrid.yaml`, and the folders of its agents."""

from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.errors import BundleInvalid, NotFound, Problem
from cattlegrid.core.money import Price
from cattlegrid.release.files import AGENT_FILE, PROJECT_FILE, ProjectFile
from cattlegrid.release.providers import provider_problems
from cattlegrid.release.validation import choose, validate
from cattlegrid.release.yaml_lines import read_yaml

STATE_FOLDER: Final = ".cattlegrid"
"""Below the project: the store, the cache of bundles, and what else is made at run time."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project whose `cattlegrid.yaml` is valid."""

    root: Path
    file: ProjectFile

    @property
    def agents_folder(self) -> Path:
        return self.root / self.file.agents

    @property
    def state_folder(self) -> Path:
        return self.root / STATE_FOLDER

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the folders that hold an `agent.yaml`, sorted."""
        found = self.agents_folder.glob(f"*/{AGENT_FILE}")
        return tuple(sorted(path.parent.name for path in found if not path.parent.name.startswith(".")))

    def agent_folder(self, agent: str) -> Path:
        """The folder of an agent. Raises NotFound for an agent that the project does not have."""
        if agent not in self.agents:
            fix = choose(agent, self.agents, otherwise="It has none yet")
            raise NotFound(f"The project has no agent `{agent}`. {fix}", detail=str(self.agents_folder))
        return self.agents_folder / agent

    def prices(self) -> dict[tuple[str, str], Price]:
        """The declared prices, by the name of the provider and the provider's name of the model."""
        return {
            (m.provider, m.model): m.price.price() for m in self.file.models.values() if m.price is not None
        }


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards that holds `cattlegrid.yaml`.

    Raises:
        BundleInvalid: there is none.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    problem = Problem(
        file=PROJECT_FILE,
        line=None,
        key="",
        message=f"There is no `{PROJECT_FILE}` in {here} or above it",
        fix="Go to your project's folder, or make one with `cattlegrid init NAME`",
    )
    raise BundleInvalid((problem,))


def load_project(root: Path) -> Project:
    """Read `cattlegrid.yaml`. Raises BundleInvalid with everything that is wrong with it."""
    project, problems = read_project(root)
    if project is None:
        raise BundleInvalid(problems)
    return project


def read_project(root: Path) -> tuple[Project | None, tuple[Problem, ...]]:
    """The project, or None with everything that is wrong with its file."""
    path = root / PROJECT_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, (unreadable(PROJECT_FILE, error),)
    document = read_yaml(content, file=PROJECT_FILE)
    file, problems = validate(ProjectFile, document)
    problems = problems or (provider_problems(file, document) if file is not None else ())
    if file is None or problems:
        return None, problems
    folder = (root / file.agents).resolve()
    if not folder.is_relative_to(root.resolve()):
        problem = Problem(
            file=PROJECT_FILE,
            line=None,
            key="agents",
            message=f"`{file.agents}` is outside the project",
            fix="Name a folder below the one of this file",
        )
        return None, (problem,)
    return Project(root=root.resolve(), file=file), ()


def unreadable(file: str, error: OSError) -> Problem:
    """The problem of a file that is missing or cannot be read."""
    missing = isinstance(error, FileNotFoundError)
    return Problem(
        file=file,
        line=None,
        key="",
        message="The file is missing" if missing else f"The file cannot be read ({error.strerror})",
        fix="Create it" if missing else "Check its permissions",
    )
