"""Asks git where files come from: the commit, and whether they differ from it. The only module that runs a program.

A machine without git, or a folder outside a repository, is fine: then nobody knows, which is an empty commit.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

_TIMEOUT_S: Final = 20.0
_NOT_INHERITED: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
"""Set while a hook of git runs; they would make git look at another repository."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bundle was built from."""

    commit: str = ""
    """40 or 64 hexadecimal characters; empty when there is none."""
    dirty: bool = False
    """Whether a file differs from the commit, is ignored by git, or cannot be compared."""


def provenance(
    folder: Path, *, beside: tuple[Path, ...], belongs: Callable[[PurePosixPath], bool]
) -> Provenance:
    """Where the files of `folder`, and some files elsewhere in the same repository, come from.

    Args:
        folder: the agent's folder.
        beside: other files that the bundle depends on.
        belongs: tells whether a path below `folder` is part of the bundle; what is not makes nothing dirty.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return Provenance()
    if top.returncode != 0:
        return Provenance(dirty="not a git repository" not in top.stderr.decode(errors="replace"))
    root = Path(os.fsdecode(top.stdout.rstrip(b"\n"))).resolve()
    head = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    commit = head.stdout.decode().strip() if head is not None and head.returncode == 0 else ""
    inside = [path for path in beside if path.resolve().is_relative_to(root)]
    listed = _git(
        folder,
        *("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignored=traditional"),
        *("--", ".", *(str(path.resolve()) for path in inside)),
    )
    if listed is None or listed.returncode != 0 or not commit:
        return Provenance(commit=commit, dirty=True)
    base = folder.resolve().relative_to(root)
    return Provenance(
        commit=commit, dirty=any(_matters(line, base, belongs) for line in listed.stdout.split(b"\0"))
    )


def _matters(line: bytes, base: Path, belongs: Callable[[PurePosixPath], bool]) -> bool:
    """Whether a line of `git status` (two letters, a space, a path from the repository's root) is about a part."""
    if not line:
        return False
    path = PurePosixPath(os.fsdecode(line[3:]))
    below = path.relative_to(base.as_posix()) if path.is_relative_to(base.as_posix()) else None
    return below is None or (bool(below.parts) and belongs(below))


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes] | None":
    """Run git in a folder; None when there is no git or it does not answer."""
    # No optional locks: asking must not disturb a commit that is being made at the same time.
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment = {**inherited, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(  # noqa: S603 - every argument is ours but paths, which stand after `--`
            ["git", "-c", "core.fsmonitor=false", *arguments],  # noqa: S607 - git is found where the user has it
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
