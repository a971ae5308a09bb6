"""The seal log on disk: lines are only added, durably, and what a crash left of one is dropped."""

from pathlib import Path

import pytest

from cattlegrid.adapters.seal_log import SealLog
from cattlegrid.core.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


async def test_lines_are_added_and_read_back(tmp_path: Path) -> None:
    log = SealLog(tmp_path / "seals.jsonl")
    assert (log.lines(), await log.last()) == ([], "")
    await log.append('{"n":1}')
    await log.append('{"n":2}')
    assert log.lines() == ['{"n":1}', '{"n":2}']
    assert await SealLog(log.path).last() == '{"n":2}'
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_a_torn_line_does_not_count_and_is_dropped_by_the_next(tmp_path: Path) -> None:
    log = SealLog(tmp_path / "seals.jsonl")
    await log.append('{"n":1}')
    with log.path.open("a") as file:
        file.write('{"n":2,"to')
    assert await log.last() == '{"n":1}'
    await log.append('{"n":2}')
    assert log.lines() == ['{"n":1}', '{"n":2}']


async def test_a_log_that_cannot_be_written_or_read_is_unavailable(tmp_path: Path) -> None:
    log = SealLog(tmp_path)
    with pytest.raises(StoreUnavailable):
        await log.append("{}")
    with pytest.raises(StoreUnavailable):
        await log.last()
