"""The benchmark of the codecs ends with what it promises; without the others it needs no packages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.requirement("bench:json-line")
def test_the_codecs_benchmark_ends_with_its_figures_in_every_wire_format() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.codecs",
        "--without-others",
        "--rounds",
        "1",
        "--share",
        "0.02",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert all(
        result[key] > 0 for key in ("us_per_chunk", "us_per_call", "us_per_stream", "us_per_whole_call")
    )
    wires = {"openai", "openai-responses", "anthropic", "gemini"}
    assert set(result["sides"]["ours"]) == set(result["in_memory"]) == wires
