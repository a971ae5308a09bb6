"""Turns the token counts that a provider reports, or their absence, into `Usage`.

Input counts cached tokens too, output counts reasoning tokens too, whatever the provider's own convention. Where
nothing usable is reported, the upper bound that was fixed when the request was encoded stands in, and is marked.
A token of a byte-level vocabulary covers at least one byte, so bytes bound tokens from above; the JSON around each
message is longer than the tokens that a chat template adds.
"""

from typing import Final, cast

import msgspec

from cattlegrid.core.messages import ModelRequest, Usage

_MOST_TOKENS: Final = 2**53
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
    """The bound of a request that is `body_bytes` long on the wire."""
    return UsageBound(
        input_tokens=body_bytes,
        max_output_tokens=request.params.max_output_tokens,
        hidden_output=request.params.reasoning_effort not in _NO_REASONING,
    )


def reported_usage(reported: object) -> Usage | None:
    """The usage object of a chat completion; None when it lacks either count or holds nonsense.

    Some providers leave reasoning out of `completion_tokens` and in `total_tokens`; what is missing is added, since
    it is charged.
    """
    fields = _fields(reported)
    prompt = _count(fields.get("prompt_tokens"))
    completion = _count(fields.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(fields.get("total_tokens")) or 0
    of_prompt = _fields(fields.get("prompt_tokens_details"))
    of_completion = _fields(fields.get("completion_tokens_details"))
    cached = _count(of_prompt.get("cached_tokens"))
    if cached is None:
        cached = _count(fields.get("prompt_cache_hit_tokens")) or 0
    cache_read = min(cached, prompt)
    written = _count(of_prompt.get("cache_write_tokens")) or 0
    return Usage(
        input_tokens=prompt,
        output_tokens=max(completion, total - prompt),
        cache_read_tokens=cache_read,
        cache_write_tokens=min(written, prompt - cache_read),
        reasoning_tokens=_count(of_completion.get("reasoning_tokens")) or 0,
    )


def _fields(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_TOKENS:
        return None
    return value
