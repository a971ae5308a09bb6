"""The benchmarks of the journal end with what they promise; what does not depend on the machine is held to its goal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def last_line(*arguments: str, within_s: float = 55) -> Any:  # noqa: ANN401 - whatever JSON it is
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.requirement("bench:json-line")
def test_the_journal_benchmark_ends_with_its_figures_at_1_8_and_100_sessions() -> None:
    result = last_line("benchmarks.journal", "--rounds", "1", "--share", "0.1", "--without-langgraph")
    promised = {"runs_per_s", "p50_ms", "p99_ms", "cpu_ms_per_run", "bytes_per_run", "fdatasync_p50_ms"}
    assert promised | {"ratio_cpu_to_floor"} <= set(result)
    assert set(result["sessions"]) == {"1", "8", "100"}
    assert all(result[key] > 0 for key in promised)


@pytest.mark.requirement("bench:growth")
def test_a_late_turn_stores_and_reads_as_much_as_an_early_one() -> None:
    result = last_line("benchmarks.growth", "--turns", "10", "30", "60", "--sessions", "1")
    assert result["ratio_stored"] <= 1.1
    assert result["ratio_read"] <= 1.1
    assert set(result["turns"]) == {"10", "30", "60"}
    assert result["ratio_turn_60_to_turn_10"] > 0


@pytest.mark.timeout(180)
@pytest.mark.requirement("bench:json-line")
def test_the_benchmark_on_postgres_ends_with_its_figures_with_1_and_3_processes() -> None:
    result = last_line(
        "benchmarks.journal_pg", "--rounds", "1", "--share", "0.1", "--ours-only", within_s=170
    )
    promised = {"runs_per_s", "p50_ms", "p99_ms", "cpu_ms_per_run", "takeover_p95_s", "fdatasync_p50_ms"}
    assert set(result["processes"]) == {"1", "3"}
    assert all(result[key] > 0 for key in promised)
    assert result["transactions_per_run"] < 1
