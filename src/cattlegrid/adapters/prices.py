"""Implements `Prices`: what the project declares, and below it the table of published prices that genai-prices brings.

The table lies in the installed package; nothing is fetched. It is loaded when the first model without a declared
price is asked for, which takes some tenths of a second, so ask for every configured model once before serving. What
is found becomes integers, kept per model for a quarter of an hour: a published price may begin on a date or hold for
some hours of the day.

A price that rises with the length of the context counts with its base; a warning names the model, so that its owner
may declare another. `development` charges an unknown model at the dearest price there is; everywhere else it is
refused.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.money import Price, nano_usd
from cattlegrid.core.ports import Clock

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_LOG: Final = logging.getLogger(__name__)
_KEPT_S: Final = 900.0


class ModelPrices:
    """A `Prices`. `declared` is by the provider's name of the model, as requests carry it."""

    def __init__(self, declared: Mapping[str, Price], *, clock: Clock, development: bool = False) -> None:
        self._declared = dict(declared)
        self._clock = clock
        self._development = development
        self._found: dict[str, tuple[float, Price]] = {}
        self._warned: set[str] = set()
        self._dearest: Price | None = None

    def price(self, model: str) -> Price:
        """See `Prices.price`."""
        declared = self._declared.get(model)
        if declared is not None:
            return declared
        kept = self._found.get(model)
        now_s = self._clock.monotonic_s()
        if kept is not None and now_s < kept[0]:
            return kept[1]
        price = self._published(model)
        if price is None:
            if not self._development:
                raise _unknown(model)
            price = self._dearest_known()
            self._warn(model, "The price of %s is unknown; it is charged at the dearest known price.", model)
        self._found[model] = (now_s + _KEPT_S, price)
        return price

    def _published(self, model: str) -> Price | None:
        from genai_prices import Usage, calc_price

        now = self._clock.now()
        for name, provider in _references(model):
            try:
                found = calc_price(Usage(), name, provider_id=provider, genai_request_timestamp=now)
            except LookupError:
                continue
            rises, price = _converted(found.model_price)
            if price is None:
                continue
            if rises:
                self._warn(model, "The price of %s rises with long contexts; its base price is used.", model)
            return price
        return None

    def _dearest_known(self) -> Price:
        """Each part at the highest price of any model, published or declared."""
        if self._dearest is None:
            known = [*self._declared.values(), *_all_published(self._clock.now())]
            self._dearest = Price(
                input_nano_usd=max(price.input_nano_usd for price in known),
                output_nano_usd=max(price.output_nano_usd for price in known),
                cache_read_nano_usd=max(price.cache_read_nano_usd for price in known),
                cache_write_nano_usd=max(price.cache_write_nano_usd for price in known),
            )
        return self._dearest

    def _warn(self, model: str, message: str, *values: object) -> None:
        if model not in self._warned:
            self._warned.add(model)
            _LOG.warning(message, *values)


def _references(model: str) -> Iterator[tuple[str, str | None]]:
    """The names and providers under which a model may stand in the table, the likeliest first."""
    yield model, None
    provider, slash, name = model.partition("/")
    if slash:
        yield model, "openrouter"
        yield name, provider


def _all_published(now: datetime) -> Iterator[Price]:
    from genai_prices.data_snapshot import get_snapshot

    for provider in get_snapshot().providers:
        for model in provider.models:
            if model.prices:
                price = _converted(model.get_prices(now))[1]
                if price is not None:
                    yield price


def _converted(published: "ModelPrice") -> tuple[bool, Price | None]:
    """Whether the price rises with the context, and its base; None without prices for both input and output."""
    from genai_prices.types import TieredPrices

    fields: Mapping[str, object] = vars(published)
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    rises = any(isinstance(fields.get(name), TieredPrices) for name in names)
    per_million: list[int | None] = []
    for name in names:
        value = fields.get(name)
        value = value.base if isinstance(value, TieredPrices) else value
        per_million.append(nano_usd(value) if isinstance(value, Decimal) else None)
    fresh, output, read, written = per_million
    if fresh is None or output is None:
        return rises, None
    return rises, Price(
        input_nano_usd=fresh,
        output_nano_usd=output,
        cache_read_nano_usd=fresh if read is None else read,
        cache_write_nano_usd=fresh if written is None else written,
    )


def _unknown(model: str) -> ConfigurationError:
    return ConfigurationError(
        "The price of the agent's model is not known, so it is not asked.",
        detail=f"""no price for {model!r}; declare it in cattlegrid.yaml, in US dollars per million tokens:

models:
  NAME:  # as your agents call it
    model: {model}
    price: {{input: DOLLARS, cached_input: DOLLARS, output: DOLLARS}}
""",
    )
