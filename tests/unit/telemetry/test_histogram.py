"""Histograms: quantiles within five per cent at any scale, exact borders, merging that loses nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.telemetry.histogram import GAMMA, MAX_RELATIVE_ERROR, Histogram, bucket_of

POSITIVE = st.floats(min_value=1e-9, max_value=1e12)
VALUES = st.lists(POSITIVE, min_size=1, max_size=60)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(POSITIVE)
def test_a_bucket_holds_what_is_above_its_lower_border_and_not_above_its_upper(value: float) -> None:
    index = bucket_of(value)
    assert GAMMA ** (index - 1) < value <= GAMMA**index


@given(st.integers(min_value=-100, max_value=300))
def test_a_value_on_a_border_belongs_below_it(index: int) -> None:
    assert bucket_of(GAMMA**index) == index


@given(VALUES, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_its_error_of_a_value_at_that_rank(values: list[float], q: float) -> None:
    ordered = sorted(values)
    rank = q * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    error = MAX_RELATIVE_ERROR * 1.000001
    assert low * (1 - error) <= of(values).quantile(q) <= high * (1 + error)


@given(VALUES, VALUES)
def test_merging_is_the_same_as_counting_everything_in_one(first: list[float], second: list[float]) -> None:
    merged, whole = of(first), of([*first, *second])
    merged.merge(of(second))
    assert merged.buckets == whole.buckets
    assert merged.count == whole.count
    assert merged.total == pytest.approx(whole.total)


@given(VALUES, st.integers(min_value=-200, max_value=300))
def test_how_many_are_not_above_a_border_is_exact(values: list[float], index: int) -> None:
    assert of(values).at_most(index) == sum(value <= GAMMA**index for value in values)


def test_zero_and_less_are_counted_as_not_positive() -> None:
    histogram = of([0.0, -3.0, 5.0])
    assert (histogram.count, histogram.at_most(-50), histogram.quantile(0)) == (3, 2, 0.0)
    other = Histogram()
    other.merge(histogram)
    assert (other.count, other.at_most(-50)) == (3, 2)


def test_nothing_counted_has_the_quantile_nought() -> None:
    assert Histogram().quantile(0.5) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_counted(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="finite"):
        histogram.add(value)
    assert histogram.count == 0


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_nought_to_one_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between"):
        of([1.0]).quantile(q)
