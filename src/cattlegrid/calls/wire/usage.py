"""Turns the token counts that a provider reports, or their absence, into `Usage`.

Input counts cached tokens too, output counts reasoning tokens too, whatever the provider's own convention. Where
nothing usable is reported, the upper bound that was fixed when the request was encoded stands in, and is marked.
A token of a byte-level vocabulary covers at least one byte, so bytes bound tokens from above; the JSON around each
message is longer than the tokens that a chat template adds.
"""

from typing import Final

import msgspec

from cattlegrid.calls.wire.parsing import count, fields
from cattlegrid.core.messages import ModelRequest, Usage

IMAGE_TOKENS: Final = 50_000
"""More than any published model charges for one image; the dearest is gpt-4o-mini with 48,169 for eight tiles."""
_NO_REASONING: Final = frozenset({None, "none"})


class UsageBound(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one call can use, known before it is made."""

    input_tokens: int = 0
    max_output_tokens: int | None = None
    """The limit that the request sets, if any."""
    hidden_output: bool = False
    """Whether the model may have written reasoning that the answer does not show."""

    def usage(self, output_bytes: int) -> Usage:
        """An estimate from above for an answer of so many bytes."""
        output = output_bytes
        if self.max_output_tokens is not None:
            output = self.max_output_tokens if self.hidden_output else min(output, self.max_output_tokens)
        return Usage(input_tokens=self.input_tokens, output_tokens=output, estimated=True)


def usage_bound(request: ModelRequest, body_bytes: int) -> UsageBound:
    """The bound of a request that is `body_bytes` long on the wire. Images count by themselves, not by their bytes."""
    shown = [request.images.get(image.ref, b"") for message in request.messages for image in message.images]
    return UsageBound(
        input_tokens=body_bytes - sum(4 * -(-len(data) // 3) - IMAGE_TOKENS for data in shown),
        max_output_tokens=request.params.max_output_tokens,
        hidden_output=request.params.reasoning_effort not in _NO_REASONING,
    )


def reported_usage(reported: object) -> Usage | None:
    """The usage object of a chat completion; None when it lacks either count or holds nonsense.

    Some providers leave reasoning out of `completion_tokens` and in `total_tokens`; what is missing is added, since
    it is charged.
    """
    found = fields(reported)
    prompt = count(found.get("prompt_tokens"))
    completion = count(found.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = count(found.get("total_tokens")) or 0
    of_prompt = fields(found.get("prompt_tokens_details"))
    of_completion = fields(found.get("completion_tokens_details"))
    cached = count(of_prompt.get("cached_tokens"))
    if cached is None:
        cached = count(found.get("prompt_cache_hit_tokens")) or 0
    cache_read = min(cached, prompt)
    written = count(of_prompt.get("cache_write_tokens")) or 0
    return Usage(
        input_tokens=prompt,
        output_tokens=max(completion, total - prompt),
        cache_read_tokens=cache_read,
        cache_write_tokens=min(written, prompt - cache_read),
        reasoning_tokens=count(of_completion.get("reasoning_tokens")) or 0,
    )


def responses_usage(reported: object) -> Usage | None:
    """The usage object of an OpenAI response; cached and written tokens are part of the input, reasoning of the output."""
    found = fields(reported)
    prompt, output = count(found.get("input_tokens")), count(found.get("output_tokens"))
    if prompt is None or output is None:
        return None
    of_prompt, of_output = (
        fields(found.get("input_tokens_details")),
        fields(found.get("output_tokens_details")),
    )
    cache_read = min(count(of_prompt.get("cached_tokens")) or 0, prompt)
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=min(count(of_prompt.get("cache_write_tokens")) or 0, prompt - cache_read),
        reasoning_tokens=count(of_output.get("reasoning_tokens")) or 0,
    )


def anthropic_usage(reported: object) -> Usage | None:
    """The usage object of an Anthropic message, whose `input_tokens` count neither cached nor written tokens."""
    found = fields(reported)
    fresh, output = count(found.get("input_tokens")), count(found.get("output_tokens"))
    if fresh is None or output is None:
        return None
    cache_read = count(found.get("cache_read_input_tokens")) or 0
    written = count(found.get("cache_creation_input_tokens")) or 0
    return Usage(
        input_tokens=fresh + cache_read + written,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=written,
        reasoning_tokens=count(fields(found.get("output_tokens_details")).get("thinking_tokens")) or 0,
    )


def gemini_usage(reported: object) -> Usage | None:
    """The usage metadata of Gemini, which counts thoughts beside the candidates and cached tokens in the prompt."""
    found = fields(reported)
    prompt = count(found.get("promptTokenCount"))
    if prompt is None:
        return None
    thoughts = count(found.get("thoughtsTokenCount")) or 0
    output = (count(found.get("candidatesTokenCount")) or 0) + thoughts
    prompt += count(found.get("toolUsePromptTokenCount")) or 0
    return Usage(
        input_tokens=prompt,
        output_tokens=max(output, (count(found.get("totalTokenCount")) or 0) - prompt),
        cache_read_tokens=min(count(found.get("cachedContentTokenCount")) or 0, prompt),
        reasoning_tokens=thoughts,
    )
