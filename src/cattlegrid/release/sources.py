"""Turns an agent's folder into the files that are part of its bundle: path to bytes.

Left out are what Python makes (`__pycache__`, `*.pyc`), names that begin with a dot, and `evals/`, whose datasets are
versioned beside the bundle. Links are refused, since they can point anywhere. Contents are never changed, line endings
neither; paths are written with `/` and in Unicode's composed form, so that they are the same on every machine.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from cattlegrid.core.errors import Problem
from cattlegrid.release.project import unreadable

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024
MAX_FILES: Final = 2_000
MAX_PATH_CHARS: Final = 240
EVALS_FOLDER: Final = "evals"

_CACHE_FOLDER: Final = "__pycache__"
_FORBIDDEN: Final = frozenset('\\:*?"<>|')
"""Characters that some file systems cannot have in a name."""


def belongs(path: PurePosixPath) -> bool:
    """Whether a file at this path of the agent's folder is part of the bundle."""
    hidden = any(part.startswith(".") or part == _CACHE_FOLDER for part in path.parts)
    return not hidden and path.suffix != ".pyc" and path.parts[0] != EVALS_FOLDER


def read_sources(folder: Path) -> tuple[dict[str, bytes], tuple[Problem, ...]]:
    """The files of a folder by path, sorted, and what is wrong with them."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    total_bytes = 0
    for path in _walk(folder, folder):
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        problem = _problem_with(path, name, count=len(files), total_bytes=total_bytes)
        if problem is None:
            try:
                files[name] = path.read_bytes()
            except OSError as error:
                problem = unreadable(name, error)
            else:
                total_bytes += len(files[name])
        if problem is not None:
            problems.append(problem)
            if len(files) >= MAX_FILES:
                break
    problems.extend(_clashes(files))
    return dict(sorted(files.items())), tuple(problems)


def write_sources(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below an empty folder. Raises ValueError, before anything is written, for a path that leaves it."""
    for name in files:
        if (refusal := unsafe(name)) is not None:
            raise ValueError(f"{name[:80]!r} {refusal}")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def unsafe(name: str) -> str | None:
    """Why a path cannot be a file of a bundle, as the rest of a sentence; None when it can."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
        return "is no plain path inside the folder"
    if any(character in _FORBIDDEN or not character.isprintable() for character in name):
        return "has a character that not every file system can have"
    if any(part.endswith((".", " ")) for part in path.parts):
        return "has a name that ends with a dot or a space"
    if len(name) > MAX_PATH_CHARS:
        return f"is longer than {MAX_PATH_CHARS} characters"
    return None if belongs(path) else "is a kind of file that bundles leave out"


def _walk(folder: Path, top: Path) -> Iterator[Path]:
    """Every file and link that belongs, in the order of their names; links are not followed."""
    for path in sorted(folder.iterdir()):
        if not belongs(PurePosixPath(path.relative_to(top).as_posix())):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, top)
        else:
            yield path


def _problem_with(path: Path, name: str, *, count: int, total_bytes: int) -> Problem | None:
    if path.is_symlink() or not path.is_file():
        what = "is a link" if path.is_symlink() else "is no ordinary file"
        return _problem(name, f"It {what}, and a bundle holds files only", "Replace it by what it points to")
    if (refusal := unsafe(name)) is not None:
        return _problem(name, f"The path {refusal}", "Rename it")
    size_bytes = path.stat().st_size
    if size_bytes > MAX_FILE_BYTES:
        message = f"The file has {size_bytes:,} bytes, more than {MAX_FILE_BYTES:,}"
        return _problem(name, message, "Keep data outside the agent's folder")
    if count >= MAX_FILES or total_bytes + size_bytes > MAX_TOTAL_BYTES:
        message = f"The folder has more than {MAX_FILES:,} files or {MAX_TOTAL_BYTES:,} bytes"
        return _problem(name, message, "Keep data outside the agent's folder")
    return None


def _clashes(files: Mapping[str, bytes]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in files:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield _problem(
                name, f"On some file systems this is the same file as `{other}`", "Rename one of them"
            )


def _problem(file: str, message: str, fix: str) -> Problem:
    return Problem(file=file, line=None, key="", message=message, fix=fix)
