"""Long sessions: what a turn stores, reads and keeps in memory does not grow with the turns before it."""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest
from msgspec.structs import replace

from cattlegrid.core.bundle import ContextPolicy
from cattlegrid.core.messages import ModelRequest, Usage
from cattlegrid.journal.store import Append, BodyRow, Row
from cattlegrid.runtime.requests import RunRequest
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import Answer, answer
from cattlegrid.testing.world import ANA, World
from tests.unit.runtime.support import LOOK, Disk, bundle, calls, check

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("bench:growth")]

TURNS = 300
MAX_TOKENS = 4_000


class Scale(Disk):
    """A disk that weighs what is written, and counts what is read."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.written_bytes = 0
        self.read = 0

    def append(self, batch: Append) -> asyncio.Future[None]:
        self.written_bytes += sum(len(row.data) + 200 for row in batch.rows)
        self.written_bytes += sum(len(body.sealed) + 100 for body in batch.bodies)
        return super().append(batch)

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        found = await super().rows(stream, after_seq=after_seq, limit=limit)
        self.read += len(found)
        return found

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        self.read += len(digests)
        return await super().bodies(owner, digests)


@pytest.mark.parametrize("strategy", ["window", "summarise"])
async def test_a_turn_stores_and_keeps_as_much_after_three_hundred_as_after_ten(
    strategy: Literal["window", "summarise"],
) -> None:
    clock = ManualClock()
    scale = Scale(clock)
    asked = 0

    def model(request: ModelRequest) -> Answer:
        nonlocal asked
        asked += 1
        given = calls(("look", asked)) if asked % 2 else answer(f"Answer {asked}. " + "word " * 40)
        if not request.tools_allowed:
            given = answer("Summary. " + "word " * 40)
        counted = Usage(input_tokens=len(msgspec.json.encode(request.messages)) // 4)
        return replace(given, usage=counted)

    def look(id: int) -> object:
        return {"seen": id, "text": "some " * 20}

    of = bundle(LOOK, context=ContextPolicy(max_tokens=MAX_TOKENS, strategy=strategy))
    world = World(of, model=model, functions={"look": look}, store=scale, clock=clock)
    session_id = await world.engine.open_session("support", ANA)
    turns: list[int] = []
    kept: list[int] = []
    for number in range(TURNS):
        before = scale.written_bytes
        await world.engine.submit(session_id, ANA, RunRequest(text=f"Turn {number}. " + "please " * 40))
        await world.settled()
        turns.append(scale.written_bytes - before)
        kept.append(world.engine.runners[session_id].texts.kept_bytes)
    early, late = sum(turns[10:60]) / 50, sum(turns[-50:]) / 50
    assert late <= early * 1.1
    assert max(turns[10:]) <= early * 3
    assert max(kept[100:]) <= max(kept[:100]) * 1.1 <= 3 * MAX_TOKENS * 3
    assert scale.read == 0
    assert world.engine.open_streams == 0
    await check(world)
