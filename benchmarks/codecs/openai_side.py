"""The official client of OpenAI, run by a Python of its own: imports nothing of Cattlegrid.

python openai_side.py ADDRESS CALLS      one JSON object, figures by wire
"""
# pyright: basic, reportMissingImports=false, reportImplicitRelativeImport=false

import asyncio
import json
import sys
from typing import Any

import openai
from load import Ask, figures

MESSAGES: Any = [{"role": "user", "content": "Where is order 17?"}]


def chat(client: openai.AsyncOpenAI) -> Ask:
    """Chat completions, read chunk by chunk, without the client's own putting together."""

    async def ask(model: str, streamed: bool) -> str:  # noqa: FBT001
        if not streamed:
            whole = await client.chat.completions.create(model=model, messages=MESSAGES)
            return whole.choices[0].message.content or ""
        stream = await client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        shown = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return "".join(shown)

    return ask


def responses(client: openai.AsyncOpenAI) -> Ask:
    """Responses, read event by event."""

    async def ask(model: str, streamed: bool) -> str:  # noqa: FBT001
        if not streamed:
            return (await client.responses.create(model=model, input="Where is order 17?")).output_text
        stream = await client.responses.create(model=model, input="Where is order 17?", stream=True)
        shown = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        return "".join(shown)

    return ask


async def main(address: str, calls: int) -> dict[str, dict[str, float]]:
    """The figures of both wires."""
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client:
        return {
            "openai": await figures(chat(client), calls=calls),
            "openai-responses": await figures(responses(client), calls=calls),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
