"""What benchmarks share: texts like people's, percentiles, the disk's own speed, and how a result is printed."""

import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

WORDS_TEXT = (
    "order parcel refund account address delivery return broken arrived yesterday please thank Friday invoice the a "
    "of and to is was not my your we it on for with from number seventeen status shipped late courier email phone"
)


def texts(count: int, size_bytes: int, *, seed: int = 1) -> list[str]:
    """Texts of a size: plain words, each text another one, and no easier to compress than what people write."""
    rng = random.Random(seed)
    words_of_shops = WORDS_TEXT.split()
    made: list[str] = []
    for _ in range(count):
        words: list[str] = []
        size = 0
        while size < size_bytes:
            word = (
                rng.choice(words_of_shops)
                if rng.random() < 0.6
                else "".join(rng.choices("aeioulnrstdhm", k=rng.randint(3, 9)))
            )
            words.append(word)
            size += len(word) + 1
        made.append(" ".join(words)[:size_bytes])
    return made


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def fdatasync_p50_ms(folder: Path, *, count: int = 200, size_bytes: int = 4_096) -> float:
    """How long the disk under `folder` takes for one appended page to be durable."""
    path = folder / "sync"
    block = os.urandom(size_bytes)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    times_s: list[float] = []
    try:
        for _ in range(count):
            os.write(handle, block)
            started_s = time.perf_counter()
            os.fdatasync(handle)
            times_s.append(time.perf_counter() - started_s)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times_s) * 1000


def environment(state: Path, name: str) -> Path:
    """The Python of another project's environment, made below `state` when its lock file is a new one.

    Args:
        state: a folder that is kept.
        name: of the lock file in `benchmarks/requirements`, hashes included.
    """
    lock = Path(__file__).with_name("requirements") / f"{name}.txt"
    folder = state / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say(f"installing {name} from its lock file")
        uv = str(Path(sys.executable).parent / "uv")
        made = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
        subprocess.run(made, check=True)
        install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    return python


def machine() -> dict[str, object]:
    """Where and under which load this was measured."""
    return {
        "cpus": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def say(text: str) -> None:
    """Something for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def finish(result: Mapping[str, object]) -> None:
    """The result, as the last line of stdout."""
    print(json.dumps(result, separators=(", ", ": ")), flush=True)
