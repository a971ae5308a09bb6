"""Lines of standard input: as they come, whole, without holding up the loop."""

import asyncio
import os
from pathlib import Path

import pytest

from cattlegrid.app.lines import lines_of

pytestmark = pytest.mark.anyio


async def test_lines_come_one_by_one_while_others_work() -> None:
    reading, writing = os.pipe()
    lines = lines_of(reading)
    waiting = asyncio.ensure_future(anext(lines))
    turns = 0
    while turns < 5:
        await asyncio.sleep(0)
        turns += 1
    assert not waiting.done()
    os.write(writing, b"first\r\nsecond\nthi")
    assert await asyncio.wait_for(waiting, 5) == "first"
    assert await anext(lines) == "second"
    os.write(writing, b"rd \xff")
    os.close(writing)
    assert await anext(lines) == "third \ufffd"
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    os.close(reading)


async def test_a_file_is_read_like_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_text("one\n\ntwo\n")
    with path.open() as file:
        assert [line async for line in lines_of(file.fileno())] == ["one", "", "two"]
