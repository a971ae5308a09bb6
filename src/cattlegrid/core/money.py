"""Turns prices and token counts into integer nano-dollars, without a float on the way.

1 dollar = 10^9 nano-dollars. A price is kept in nano-dollars for a million tokens, so that the smallest published
prices stay whole numbers; the cost of a call rounds up to the next nano-dollar, once.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

import msgspec

from cattlegrid.core.messages import Usage

NANO_PER_USD: Final = 1_000_000_000
_TOKENS_PER_PRICE: Final = 1_000_000


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs, each in nano-dollars for a million tokens."""

    input_nano_usd: int
    output_nano_usd: int
    cache_read_nano_usd: int
    cache_write_nano_usd: int

    def cost_nano_usd(self, usage: Usage) -> int:
        """The cost of one call. `usage.input_tokens` counts cached and uncached input together."""
        uncached = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        total = (
            uncached * self.input_nano_usd
            + usage.cache_read_tokens * self.cache_read_nano_usd
            + usage.cache_write_tokens * self.cache_write_nano_usd
            + usage.output_tokens * self.output_nano_usd
        )
        return -(-total // _TOKENS_PER_PRICE)


def nano_usd(dollars: Decimal) -> int:
    """Whole nano-dollars of an amount in dollars."""
    return int((dollars * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def format_usd(amount_nano_usd: int) -> str:
    """An amount for people: `$0.0031`, `$12.50`; four decimals below ten cents."""
    dollars = Decimal(amount_nano_usd) / NANO_PER_USD
    if amount_nano_usd and abs(dollars) < Decimal("0.0001"):
        return f"${dollars:.6f}"
    return f"${dollars:.4f}" if abs(dollars) < Decimal("0.1") else f"${dollars:.2f}"
