"""LiteLLM's `acompletion` in front of chat completions, run by a Python of its own: imports nothing of Cattlegrid.

python litellm_side.py ADDRESS CALLS      one JSON object, figures by wire
"""
# pyright: basic, reportMissingImports=false, reportImplicitRelativeImport=false

import asyncio
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from load import figures

MESSAGES = [{"role": "user", "content": "Where is order 17?"}]


async def main(address: str, calls: int) -> dict[str, dict[str, float]]:
    """The figures of chat completions."""
    litellm.telemetry = False
    litellm.suppress_debug_info = True

    async def ask(model: str, streamed: bool) -> str:  # noqa: FBT001
        found = await litellm.acompletion(
            model=f"openai/{model}",
            messages=MESSAGES,
            api_base=f"{address}/v1",
            api_key="k",
            stream=streamed,
            **({"stream_options": {"include_usage": True}} if streamed else {}),
        )
        if not streamed:
            return found.choices[0].message.content or ""
        shown = [chunk.choices[0].delta.content or "" async for chunk in found if chunk.choices]
        return "".join(shown)

    return {"openai": await figures(ask, calls=calls)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
