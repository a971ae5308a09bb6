"""Writes a new project for `cattlegrid init`: a small, complete agent to be changed into one's own.

The files lie in `files/`; those that end in `.template` hold `$name`, the name of the agent.
"""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from pydantic import TypeAdapter, ValidationError

from cattlegrid.core.errors import Conflict, InvalidRequest
from cattlegrid.release.files import AgentName

FILES = {
    ".gitignore": "gitignore",
    "README.md": "README.md.template",
    "cattlegrid.yaml": "cattlegrid.yaml.template",
    "requirements.lock": "requirements.lock",
    "agents/$name/agent.yaml": "agent/agent.yaml.template",
    "agents/$name/evals/golden.yaml": "agent/golden.yaml",
    "agents/$name/prompts/system.md": "agent/system.md",
    "agents/$name/tools.py": "agent/tools.py",
}
"""Where each file goes in the project, and where it comes from."""


def write_scaffold(target: Path, name: str) -> tuple[Path, ...]:
    """Write a project with one agent into a new or empty folder; the paths that were written, in order.

    Raises:
        InvalidRequest: the name is no name for an agent.
        Conflict: `target` is a file, or a folder with something in it. Nothing was written.
        OSError: the file system refused.
    """
    try:
        TypeAdapter(AgentName).validate_python(name)
    except ValidationError as error:
        raise InvalidRequest(
            f"'{name}' cannot name an agent: lower-case letters, digits, '-' and '_', beginning with a letter"
        ) from error
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists and is not an empty folder. Choose another name, or empty it first")
    files = {
        Path(Template(path).substitute(name=name)): _content(source, name) for path, source in FILES.items()
    }
    for path, content in files.items():
        whole = target / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        with whole.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    return tuple(target / path for path in files)


def _content(source: str, name: str) -> str:
    found: Traversable = resources.files(__name__).joinpath("files", *source.split("/"))
    text = found.read_text(encoding="utf-8")
    return Template(text).substitute(name=name) if source.endswith(".template") else text
