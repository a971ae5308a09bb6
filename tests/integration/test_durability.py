"""An acknowledgement comes after the disk's own: seen in the system calls, since a killed process would not show it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("durable_child.py")
COUNT = 12
CALLS = "trace=fdatasync,fsync,write,pwrite64"

LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
CALL = re.compile(r"^(?P<name>\w+)\((?P<fd>\d+)<(?P<path>[^>]*)>(?P<arguments>.*)$")
RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>")


def traced(tmp_path: Path, *arguments: str) -> list[str]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("STRACE IS NOT INSTALLED: nothing shows here that acknowledged writes are on the disk")
    trace = tmp_path / "trace"
    child = [sys.executable, str(CHILD), str(tmp_path / "journal.db"), str(COUNT), *arguments]
    done = subprocess.run(
        [strace, "-f", "-y", "-s", "64", "-e", CALLS, "-o", str(trace), *child],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if done.returncode != 0 and "ptrace" in done.stderr:
        pytest.skip(f"THIS MACHINE LETS NOBODY TRACE: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return trace.read_text().splitlines()


def happenings(lines: list[str]) -> Iterator[str]:
    """`begin`, `write`, `synced` (when the call has returned) and `acknowledged`, in the order of the trace."""
    syncing: dict[str, bool] = {}
    for line in lines:
        found = LINE.match(line)
        assert found is not None, line
        call = CALL.match(found["rest"])
        resumed = RESUMED.match(found["rest"])
        if call is not None:
            of_log = call["path"].endswith("journal.db-wal")
            unfinished = call["arguments"].endswith("<unfinished ...>")
            if call["name"] in {"fsync", "fdatasync"}:
                syncing[found["pid"]] = of_log and unfinished
                if of_log and not unfinished:
                    assert call["arguments"].endswith("= 0"), line
                    yield "synced"
            elif of_log:
                yield "write"
            elif '"acknowledged' in call["arguments"]:
                yield "acknowledged"
            elif '"begin' in call["arguments"]:
                yield "begin"
        elif (
            resumed is not None
            and resumed["name"] in {"fsync", "fdatasync"}
            and syncing.pop(found["pid"], False)
        ):
            assert found["rest"].endswith("= 0"), line
            yield "synced"


def unsynced_acknowledgements(lines: list[str]) -> tuple[int, int]:
    """How many acknowledgements there are, and before how many of them the log was written and then not synced."""
    acknowledged = unsynced = 0
    wrote = dirty = False
    begun = False
    for what in happenings(lines):
        if what == "begin":
            begun, wrote, dirty = True, False, False
        elif what == "write":
            wrote = dirty = True
        elif what == "synced":
            dirty = False
        elif begun:
            acknowledged += 1
            unsynced += dirty or not wrote
            wrote = dirty = False
    return acknowledged, unsynced


@pytest.mark.requirement("fault:fdatasync", "journal:barrier")
def test_the_log_is_synced_between_its_last_write_and_every_acknowledgement(tmp_path: Path) -> None:
    assert unsynced_acknowledgements(traced(tmp_path)) == (COUNT, 0)


def test_a_store_that_does_not_sync_would_be_found(tmp_path: Path) -> None:
    acknowledged, unsynced = unsynced_acknowledgements(traced(tmp_path, "careless"))
    assert acknowledged == COUNT
    assert unsynced >= COUNT - 1
