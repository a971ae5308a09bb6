"""Runs every static check to its end, one line each with its time, and fails afterwards if one of them did."""

import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "format": ("ruff", "format", "--check", "--diff", "."),
    "lint": ("ruff", "check", "."),
    "types": ("basedpyright",),
    "import contracts": ("lint-imports", "--no-cache"),
    "dependencies": ("deptry", "src"),
    "architecture": ("pytest", "--quiet", "--no-header", "tests/architecture"),
}
"""The last one holds the documents' links, the lock files and the rules of the code that no tool knows."""


def passes(name: str, command: tuple[str, ...]) -> bool:
    """Run one check; say how it went, with everything it printed when it failed."""
    started_s = time.monotonic()
    tool, *arguments = command
    done = subprocess.run([BIN / tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{name:<18}{verdict:<8}{time.monotonic() - started_s:6.1f} s", flush=True)
    if done.returncode != 0:
        print("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()), flush=True)
    return done.returncode == 0


def main() -> int:
    """Run them all; 0 when all passed."""
    failed = [name for name, command in CHECKS.items() if not passes(name, command)]
    print(f"check: failed: {', '.join(failed)}" if failed else f"check: all {len(CHECKS)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
