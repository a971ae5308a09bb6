"""Prices: what is declared, what is published, and what nobody knows."""

import logging
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from genai_prices import Usage as PublishedUsage
from genai_prices import calc_price

from cattlegrid.adapters.prices import ModelPrices
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.messages import Usage
from cattlegrid.core.money import Price, nano_usd
from cattlegrid.testing.clock import ManualClock

pytestmark = pytest.mark.requirement("model:prices")

OURS = Price(input_nano_usd=1, output_nano_usd=2, cache_read_nano_usd=3, cache_write_nano_usd=4)


def test_a_declared_price_counts_before_the_published_one() -> None:
    prices = ModelPrices({("openai", "gpt-4.1-mini"): OURS}, clock=ManualClock())
    assert prices.price("openai", "gpt-4.1-mini") == OURS
    assert prices.price("openai", "gpt-4.1") != OURS


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-4o-2024-08-06", "claude-3-5-haiku-latest"])
def test_a_call_costs_what_the_table_says_cached_tokens_included(model: str) -> None:
    clock = ManualClock()
    usage = Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=600)
    cost = ModelPrices({}, clock=clock).price("openai", model).cost_nano_usd(usage)
    published = calc_price(
        PublishedUsage(input_tokens=1_000, output_tokens=100, cache_read_tokens=600),
        model,
        genai_request_timestamp=clock.now(),
    )
    assert cost == nano_usd(published.total_price)


def test_one_model_may_cost_differently_at_two_providers() -> None:
    prices = ModelPrices({("mine", "gpt-4.1-mini"): OURS}, clock=ManualClock())
    assert prices.price("mine", "gpt-4.1-mini") == OURS
    assert prices.price("openai", "gpt-4.1-mini") != OURS


@pytest.mark.parametrize(
    ("provider", "model", "table"),
    [
        ("anthropic", "claude-sonnet-4-5", "anthropic"),
        ("gemini", "gemini-2.5-flash", "google"),
        ("openai-responses", "gpt-4.1-mini", "openai"),
        ("our-groq", "llama-3.3-70b-versatile", "groq"),
    ],
)
def test_the_published_price_is_that_of_the_provider(provider: str, model: str, table: str) -> None:
    """By name, or by the address of a provider that has a name of its own here."""
    clock = ManualClock()
    addresses = {"our-groq": "https://api.groq.com/openai/v1"}
    usage = Usage(input_tokens=1_000, output_tokens=100)
    published = calc_price(
        PublishedUsage(input_tokens=1_000, output_tokens=100),
        model,
        provider_id=table,
        genai_request_timestamp=clock.now(),
    )
    price = ModelPrices({}, clock=clock, addresses=addresses).price(provider, model)
    assert price.cost_nano_usd(usage) == nano_usd(published.total_price)


def test_written_tokens_have_a_price_of_their_own() -> None:
    price = ModelPrices({}, clock=ManualClock()).price("anthropic", "claude-sonnet-4-5")
    assert price.cache_read_nano_usd < price.input_nano_usd < price.cache_write_nano_usd


def test_a_name_with_its_provider_before_it_is_found() -> None:
    prices = ModelPrices({}, clock=ManualClock())
    assert prices.price("openai", "anthropic/claude-3-5-haiku-latest") == prices.price(
        "openai", "claude-3-5-haiku-latest"
    )


@pytest.mark.parametrize("model", ["our-own-model", "", "/", "text-embedding-3-small"])
def test_a_model_without_a_price_is_refused_with_the_lines_to_paste(model: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ModelPrices({}, clock=ManualClock()).price("openai", model)
    assert "price: {input: DOLLARS, cached_input: DOLLARS, output: DOLLARS}" in raised.value.detail
    assert f"model: {model}\n" in raised.value.detail
    assert "DOLLARS" not in raised.value.message


def test_in_development_it_is_charged_at_the_dearest_price_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dear = Price(input_nano_usd=10**15, output_nano_usd=1, cache_read_nano_usd=1, cache_write_nano_usd=1)
    prices = ModelPrices({("local", "dear"): dear}, clock=ManualClock(), development=True)
    caplog.set_level(logging.WARNING)
    price = prices.price("openai", "our-own-model")
    assert prices.price("openai", "our-own-model") == price
    assert price.input_nano_usd == 10**15
    assert price.output_nano_usd >= prices.price("openai", "gpt-4.1").output_nano_usd
    assert caplog.messages == [
        "The price of our-own-model is unknown; it is charged at the dearest known price."
    ]


def test_a_price_that_rises_with_the_context_is_its_base_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prices = ModelPrices({}, clock=ManualClock())
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        assert prices.price("gemini", "gemini-2.5-pro").input_nano_usd == 1_250_000_000
    assert caplog.messages == [
        "The price of gemini-2.5-pro rises with long contexts; its base price is used."
    ]


def test_a_price_that_begins_on_a_date_counts_from_that_date() -> None:
    clock = ManualClock(datetime(2025, 6, 9, 23, 50, tzinfo=UTC))
    prices = ModelPrices({}, clock=clock)
    before = prices.price("openai", "o3")
    clock.advance(900.0)
    after = prices.price("openai", "o3")
    assert before.input_nano_usd == 10_000_000_000
    assert after.input_nano_usd == 2_000_000_000


def test_the_table_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from cattlegrid.adapters.prices import ModelPrices;"
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
