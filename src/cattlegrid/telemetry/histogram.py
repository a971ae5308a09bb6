"""Counts values in buckets that grow by a tenth each, so that a quantile is known within 5 % whatever the scale.

Bucket `i` holds values in (1.1^(i-1), 1.1^i]; what is not positive has a bucket of its own. Two histograms are merged
by adding their buckets, which loses nothing: that is what makes roll-ups of roll-ups right. (The layout of DDSketch,
Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019.)
"""

import math
from collections.abc import Mapping
from typing import Final

GAMMA: Final = 1.1
_LOG_GAMMA: Final = math.log(GAMMA)
_LEAST: Final = -400
_MOST: Final = 400
"""Values below 1.1^-400 (3e-17) and above 1.1^400 (4e16) share the outermost buckets."""
MAX_RELATIVE_ERROR: Final = (GAMMA - 1) / (GAMMA + 1)


class Histogram:
    """A sparse log-bucket histogram."""

    __slots__ = ("_buckets", "_not_positive", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._not_positive = 0
        self._buckets: dict[int, int] = {}

    @property
    def buckets(self) -> Mapping[int, int]:
        """How many values each bucket holds, those that are not positive left out."""
        return self._buckets

    def add(self, value: float, times: int = 1) -> None:
        """Count a value. Raises ValueError for what is no finite number."""
        if not math.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
        self.count += times
        self.total += value * times
        if value <= 0:
            self._not_positive += times
        else:
            index = bucket_of(value)
            self._buckets[index] = self._buckets.get(index, 0) + times

    def merge(self, other: "Histogram") -> None:
        """Count everything that another one has counted."""
        self.count += other.count
        self.total += other.total
        self._not_positive += other.count - sum(other.buckets.values())
        for index, times in other.buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + times

    def quantile(self, q: float) -> float:
        """The value below which the part `q` of all lies, within 5 %; 0 when nothing was counted.

        Raises:
            ValueError: q is not between 0 and 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"not between 0 and 1: {q}")
        rank = q * (self.count - 1)
        seen = self._not_positive
        if not self.count or seen > rank:
            return 0.0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            if seen > rank:
                return 2 * GAMMA**index / (GAMMA + 1)
        return 2 * GAMMA ** max(self._buckets) / (GAMMA + 1)

    def at_most(self, bucket: int) -> int:
        """How many values are not above 1.1^bucket. Exact."""
        return self._not_positive + sum(times for index, times in self._buckets.items() if index <= bucket)


def bucket_of(value: float) -> int:
    """The bucket of a positive value."""
    index = math.ceil(math.log(value) / _LOG_GAMMA)
    # Logarithms round: a value on a border belongs below it.
    if GAMMA ** (index - 1) >= value:
        index -= 1
    elif GAMMA**index < value:
        index += 1
    return min(max(index, _LEAST), _MOST)
