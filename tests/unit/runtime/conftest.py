"""Worlds for the tests of the runtime; each is checked, and each of its sessions replayed, when its test ends."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import pytest

from cattlegrid.core.bundle import Bundle
from cattlegrid.guards.chain import Guard
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.world import World
from tests.unit.runtime.support import Build, CrashAt, Disk, Script, check


@pytest.fixture
async def build() -> AsyncGenerator[Build]:
    """Builds worlds, and checks them in the end."""
    made: list[tuple[World, bool]] = []

    def world(
        bundle: Bundle,
        script: Script,
        *,
        functions: Mapping[str, Callable[..., object]] | None = None,
        guards: Sequence[Guard] = (),
        crash: CrashAt | None = None,
        replayed: bool = True,
    ) -> World:
        clock = ManualClock()
        new = World(
            bundle,
            model=script,
            functions=functions,
            guards=guards,
            crash=crash,
            store=Disk(clock),
            clock=clock,
        )
        made.append((new, replayed))
        return new

    yield world
    for new, replayed in made:
        await new.settled()
        await check(new, replayed=replayed)
