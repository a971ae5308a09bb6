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
_IDS: Final[Mapping[str, str]] = {"openai-responses": "openai", "gemini": "google"}
"""Where the table has another name for a provider."""


class ModelPrices:
    """A `Prices`.

    Args:
        declared: by the name of the provider and the provider's name of the model, as requests carry them.
        clock: published prices change with the time.
        addresses: of providers by name; a published table of prices may know the address of one that it names otherwise.
        development: charges an unknown model at the dearest price instead of refusing it.
    """

    def __init__(
        self,
        declared: Mapping[tuple[str, str], Price],
        *,
        clock: Clock,
        addresses: Mapping[str, str] = {},
        development: bool = False,
    ) -> None:
        self._declared = dict(declared)
        self._clock = clock
        self._addresses = dict(addresses)
        self._development = development
        self._found: dict[tuple[str, str], tuple[float, Price]] = {}
        self._warned: set[str] = set()
        self._dearest: Price | None = None

    def price(self, provider: str, model: str) -> Price:
        """See `Prices.price`."""
        key = (provider, model)
        declared = self._declared.get(key)
        if declared is not None:
            return declared
        kept = self._found.get(key)
        now_s = self._clock.monotonic_s()
        if kept is not None and now_s < kept[0]:
            return kept[1]
        price = self._published(provider, model)
        if price is None:
            if not self._development:
                raise _unknown(provider, model)
            price = self._dearest_known()
            self._warn(model, "The price of %s is unknown; it is charged at the dearest known price.", model)
        self._found[key] = (now_s + _KEPT_S, price)
        return price

    def _published(self, provider: str, model: str) -> Price | None:
        from genai_prices import Usage, calc_price

        now = self._clock.now()
        for name, provider_id, address in self._references(provider, model):
            try:
                found = (
                    calc_price(Usage(), name, provider_api_url=address, genai_request_timestamp=now)
                    if address
                    else calc_price(Usage(), name, provider_id=provider_id, genai_request_timestamp=now)
                )
            except LookupError:
                continue
            rises, price = _converted(found.model_price)
            if price is None:
                continue
            if rises:
                self._warn(model, "The price of %s rises with long contexts; its base price is used.", model)
            return price
        return None

    def _references(self, provider: str, model: str) -> Iterator[tuple[str, str | None, str | None]]:
        """The names, providers and addresses under which a model may stand in the table, the likeliest first."""
        yield model, _IDS.get(provider, provider), None
        if address := self._addresses.get(provider):
            yield model, None, address
        yield model, None, None
        before, slash, name = model.partition("/")
        if slash:
            yield model, "openrouter", None
            yield name, before, None

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


def _unknown(provider: str, model: str) -> ConfigurationError:
    return ConfigurationError(
        "The price of the agent's model is not known, so it is not asked.",
        detail=f"""no price for {model!r}; declare it in cattlegrid.yaml, in US dollars per million tokens:

models:
  NAME:  # as your agents call it
    provider: {provider}
    model: {model}
    price: {{input: DOLLARS, cached_input: DOLLARS, output: DOLLARS}}
""",
    )
