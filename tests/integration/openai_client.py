"""The official openai client, and a site of the unit tests for it on a loopback port."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import openai
from openai.types.responses import Response, ResponseStreamEvent

from cattlegrid.core.messages import Message
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import ALLOWED, Finding, GuardContext
from tests.integration.serving import serving
from tests.unit.server.site import Site


@asynccontextmanager
async def client_of(site: Site, who: str = "ana", *, retries: int = 0) -> AsyncGenerator[openai.AsyncOpenAI]:
    """A client with somebody's key."""
    async with (
        serving(site) as (http, _),
        openai.AsyncOpenAI(
            api_key=site.keys[who], base_url=f"{http.base_url}/v1", max_retries=retries, timeout=10
        ) as client,
    ):
        yield client


def ours(of: Any) -> dict[str, Any]:  # noqa: ANN401 - what the client does not know has no type
    """What is ours in an object of the client's."""
    return cast("dict[str, Any]", of.cattlegrid)


async def events_of(stream: openai.AsyncStream[ResponseStreamEvent]) -> list[ResponseStreamEvent]:
    """Every event of a stream, which are numbered without a gap."""
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


def snapshot(event: Any) -> Response:  # noqa: ANN401
    return cast("Response", event.response)


class NoPasswords:
    """A guard that lets no answer about passwords out."""

    name = "no_passwords"
    version = 1
    crossings = frozenset({Crossing.OUTPUT})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        found = isinstance(content, Message) and "password" in content.text
        return Finding(decision=Decision.DENY, reason="password") if found else ALLOWED
