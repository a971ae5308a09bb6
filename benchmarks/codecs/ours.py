"""Our side: `HttpModelClient` in each wire format.

python -m benchmarks.codecs.ours ADDRESS CALLS      one JSON object, figures by wire
"""

import asyncio
import json
import sys

from benchmarks.codecs.load import Ask, figures
from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.calls.wire.formats import WIRE_NAMES
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.messages import Message, ModelDelta, ModelRequest, Role, TextDelta

MESSAGES = (Message(role=Role.USER, text="Where is order 17?"),)


def asking(client: HttpModelClient, clock: SystemClock) -> Ask:
    """Asks through the client, as `calls.perform` does."""

    async def ask(model: str, streamed: bool) -> str:  # noqa: FBT001 - every side is asked alike
        shown: list[str] = []

        def on_delta(delta: ModelDelta) -> None:
            if isinstance(delta, TextDelta):
                shown.append(delta.text)

        request = ModelRequest(provider="p", model=model, messages=MESSAGES)
        deadline = Deadline.after(clock, 60.0)
        answer = await client.chat(request, deadline=deadline, on_delta=on_delta if streamed else None)
        return "".join(shown) if streamed else answer.message.text

    return ask


async def main(address: str, calls: int) -> dict[str, dict[str, float]]:
    """The figures of every wire."""
    clock = SystemClock()
    found: dict[str, dict[str, float]] = {}
    for wire in WIRE_NAMES:
        base = f"{address}/v1" if wire.startswith("openai") else address
        client = HttpModelClient(Endpoint(name="p", base_url=base, wire=wire), api_key="k", clock=clock)
        found[wire] = await figures(asking(client, clock), calls=calls)
        await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
