"""A registry in memory with a tool client over it, and bundles that tests write tool by tool."""

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.python_tools import PythonToolClient
from cattlegrid.adapters.tool_threads import ToolThreads
from cattlegrid.core.bundle import Bundle, Tool
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import CattlegridError
from cattlegrid.core.principal import Principal
from cattlegrid.core.requests import ToolRequest
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.vault import Vault
from cattlegrid.release.registry import BundleRegistry
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from tests.unit.release.agents import built, tools_with

# What the test and the tools of a bundle share: the tools find it by importing this name.
HEADER = """
import asyncio, threading
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from typing_extensions import TypedDict
"""


KEY: Final = "key-1"


class Bench:
    """A registry in memory, a client with little room, and the bundle whose tools are called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store, clock = MemoryJournal(ManualClock()), ManualClock()
        self.registry = BundleRegistry(
            store,
            Vault(store, Kek(bytes(32)), clock),
            clock=clock,
            cache=folder / "cache",
            holder="test",
        )
        self.clock = SystemClock()
        self.threads = ToolThreads(running=4, stuck_per_tool=2, stuck=3)
        self.client = PythonToolClient(self.registry, clock=self.clock, threads=self.threads)
        self._builds = 0

    async def bundle(self, code: str, *, agent: str = "") -> Bundle:
        """Build and register an agent with these tools; its folder is gone afterwards."""
        self._builds += 1
        files = tools_with(HEADER + code)
        files["agent.yaml"] = f"{files['agent.yaml']}{agent}"
        found = built(self._folder / str(self._builds), files)
        await self.registry.register(found)
        return found.bundle

    async def call(
        self, bundle: Bundle, name: str, *, timeout_s: float = 20.0, undone: str = "", **arguments: object
    ) -> object:
        """The decoded result of one call."""
        request = request_for(bundle, bundle.tools[name], arguments, undone)
        return json.loads(await self.client.call(request, deadline=Deadline.after(self.clock, timeout_s)))


def request_for(bundle: Bundle, tool: Tool, arguments: dict[str, object], undone: str = "") -> ToolRequest:
    return ToolRequest(
        bundle=bundle.digest,
        tool=tool,
        arguments=json.dumps(arguments),
        principal=Principal(tenant="shop", user="ana"),
        session_id="ses_1",
        run_id="run_1",
        idempotency_key=KEY,
        undone_result=undone,
    )


async def refusal(call: Awaitable[object], kind: type[CattlegridError]) -> CattlegridError:
    with pytest.raises(kind) as raised:
        await call
    return raised.value
