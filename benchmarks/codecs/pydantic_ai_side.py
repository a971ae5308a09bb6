"""pydantic-ai's model of chat completions, without an agent, run by a Python of its own: imports nothing of Cattlegrid.

python pydantic_ai_side.py ADDRESS CALLS      one JSON object, figures by wire
"""
# pyright: basic, reportMissingImports=false, reportImplicitRelativeImport=false

import asyncio
import json
import sys

from load import figures
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelRequest, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

MESSAGES = [ModelRequest.user_text_prompt("Where is order 17?")]


async def main(address: str, calls: int) -> dict[str, dict[str, float]]:
    """The figures of chat completions."""
    provider = OpenAIProvider(base_url=f"{address}/v1", api_key="k")
    models: dict[str, OpenAIChatModel] = {}

    async def ask(model: str, streamed: bool) -> str:  # noqa: FBT001
        made = models.setdefault(model, OpenAIChatModel(model, provider=provider))
        if not streamed:
            return "".join(
                p.content for p in (await model_request(made, MESSAGES)).parts if isinstance(p, TextPart)
            )
        shown: list[str] = []
        async with model_request_stream(made, MESSAGES) as stream:
            async for event in stream:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    shown.append(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    shown.append(event.delta.content_delta)
        return "".join(shown)

    return {"openai": await figures(ask, calls=calls)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
