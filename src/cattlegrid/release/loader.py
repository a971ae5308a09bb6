"""Imports the code of an agent from a folder, as a package of its own name, so that versions stand side by side.

`tools.py` becomes `<package>.tools`; `from .db import connect` finds the sibling file. `sys.path` is not touched: the
package is known by its name only. Whatever importing raises becomes a `Problem` with file and line.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from cattlegrid.core.errors import Problem
from cattlegrid.core.tools import declaration_of

TOOLS_FILE: Final = "tools.py"

Function = Callable[..., Any]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The imported code of one version of an agent."""

    package: str
    folder: Path
    module: ModuleType | None
    """`tools.py`; None for an agent without tools."""

    @property
    def tools(self) -> Mapping[str, Function]:
        """The declared functions, by the name that `tools.py` gives them."""
        found = vars(self.module) if self.module else {}
        return {
            name: value
            for name, value in found.items()
            if not name.startswith("_") and declaration_of(value) is not None
        }

    def plain_function(self, name: str) -> Function | None:
        """The function of that name that is no tool; None when there is none."""
        found = vars(self.module).get(name) if self.module else None
        return found if inspect.isfunction(found) and declaration_of(found) is None else None


class CodeBroken(Exception):
    """The code cannot be imported; `problem` names the file from the agent's folder."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def package_name(digest: str) -> str:
    """The package under which the code of a bundle runs."""
    return f"cattlegrid_bundle_{digest[:12]}"


def load_code(folder: Path, *, package: str) -> Code:
    """Import the code in a folder. What is already imported from there under that name is taken as it is.

    Not for several threads at once.

    Raises:
        CodeBroken: importing raised something.
    """
    loaded = sys.modules.get(package)
    if loaded is not None and list(loaded.__path__) != [str(folder)]:
        unload_code(package)
        loaded = None
    try:
        if loaded is None:
            _make_package(folder, package)
        has_tools = (folder / TOOLS_FILE).is_file()
        module = importlib.import_module(f"{package}.tools") if has_tools else None
    # The agent's code may raise anything, an attempt to leave the process too.
    except (Exception, SystemExit) as error:
        unload_code(package)
        raise CodeBroken(_problem_of(error, folder)) from error
    return Code(package=package, folder=folder, module=module)


def unload_code(package: str) -> None:
    """Forget a package and its modules. What still refers to their functions keeps them."""
    loaded = sys.modules.get(package)
    for place in getattr(loaded, "__path__", []):
        for known in [path for path in sys.path_importer_cache if Path(path).is_relative_to(place)]:
            del sys.path_importer_cache[known]
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _make_package(folder: Path, package: str) -> None:
    importlib.invalidate_caches()
    initial = folder / "__init__.py"
    if initial.is_file():
        spec = spec_from_file_location(package, initial, submodule_search_locations=[str(folder)])
    else:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    if spec is None:
        raise ImportError(f"{initial} cannot be imported")
    module = module_from_spec(spec)
    sys.modules[package] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)


def _problem_of(error: BaseException, folder: Path) -> Problem:
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        file = Path(error.filename).relative_to(folder).as_posix()
        message = f"This is not valid Python: {error.msg}"
        return Problem(file=file, line=error.lineno, key="", message=message, fix="Correct it")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    file = Path(frames[-1].filename).relative_to(folder).as_posix() if frames else TOOLS_FILE
    message = f"Importing it fails: {type(error).__name__}: {error}".replace(f"{folder}/", "")
    return Problem(
        file=file,
        line=frames[-1].lineno if frames else None,
        key="",
        message=message,
        fix=_fix(error, folder),
    )


def _fix(error: BaseException, folder: Path) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        first = error.name.partition(".")[0]
        if (folder / f"{first}.py").is_file() or (folder / first).is_dir():
            return f"Write `from .{first} import ...`: files of an agent are modules of one package"
        return "Install it in this environment, and add it to the project's requirements"
    if isinstance(error, TypeError) and str(error).startswith("tool() takes 0 positional"):
        return "Write `@tool()`, with parentheses"
    return "Correct it; nothing but definitions should run when the file is imported"
