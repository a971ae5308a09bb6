"""Counters and histograms by label, bounded: what exceeds a metric's number of series is counted as `other`.

Rendered in the text format of Prometheus (version 0.0.4, https://prometheus.io/docs/instrumenting/exposition_formats).
"""

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

from cattlegrid.telemetry.histogram import GAMMA, Histogram

MAX_SERIES: Final = 200
OTHER: Final = "other"
SECONDS: Final = range(-72, 49, 8)
"""Borders from 1 ms to 97 s: every eighth of a histogram, each 2.14 times the one before, their counts exact."""
TOKENS: Final = range(0, 145, 8)
"""Borders from 1 to 912,000."""

Labels = tuple[str, ...]
Value = TypeVar("Value")


class _Family(Generic[Value]):
    kind = ""

    def __init__(
        self, name: str, description: str, labels: Labels = (), *, max_series: int = MAX_SERIES
    ) -> None:
        self.name = name
        self._description = description
        self._labels = labels
        self._max_series = max_series
        self._series: dict[Labels, Value] = {}

    @property
    def series(self) -> Mapping[Labels, Value]:
        """The value of each combination of labels."""
        return self._series

    def _admit(self, labels: Labels) -> Labels:
        """The labels themselves, or `other` for all of them once there are too many combinations."""
        if len(labels) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {len(labels)} of them")
        if labels in self._series or len(self._series) < self._max_series:
            return labels
        return (OTHER,) * len(labels)

    def render(self) -> Iterator[str]:
        """The lines of this metric; none when nothing was counted."""
        if self._series:
            yield f"# HELP {self.name} {self._description}"
            yield f"# TYPE {self.name} {self.kind}"
            for labels in sorted(self._series):
                yield from self._lines(dict(zip(self._labels, labels, strict=True)), self._series[labels])

    def _lines(self, labels: Mapping[str, str], value: Value) -> Iterator[str]:
        raise NotImplementedError


class Counter(_Family[int]):
    """Integers that only grow."""

    kind = "counter"

    def add(self, *labels: str, amount: int = 1) -> None:
        """Count. Raises ValueError for another number of labels."""
        place = self._admit(labels)
        self._series[place] = self._series.get(place, 0) + amount

    def _lines(self, labels: Mapping[str, str], value: int) -> Iterator[str]:
        yield f"{self.name}{_braced(labels)} {value}"


class Gauge(_Family[float]):
    """Numbers that go up and down."""

    kind = "gauge"

    def set(self, *labels: str, value: float) -> None:
        """Replace the number. Raises ValueError for another number of labels."""
        self._series[self._admit(labels)] = value

    def _lines(self, labels: Mapping[str, str], value: float) -> Iterator[str]:
        yield f"{self.name}{_braced(labels)} {_number(value)}"


class Histograms(_Family[Histogram]):
    """A histogram for each combination of labels, shown at borders that never change."""

    kind = "histogram"

    def __init__(self, name: str, description: str, labels: Labels = (), *, borders: range) -> None:
        super().__init__(name, description, labels)
        self._borders = borders

    def add(self, *labels: str, value: float) -> None:
        """Count a value. Raises ValueError for another number of labels, or for no finite number."""
        place = self._admit(labels)
        self._series.setdefault(place, Histogram()).add(value)

    def _lines(self, labels: Mapping[str, str], value: Histogram) -> Iterator[str]:
        for border in self._borders:
            at_most = _braced({**labels, "le": _number(GAMMA**border)})
            yield f"{self.name}_bucket{at_most} {value.at_most(border)}"
        yield f"{self.name}_bucket{_braced({**labels, 'le': '+Inf'})} {value.count}"
        yield f"{self.name}_sum{_braced(labels)} {_number(value.total)}"
        yield f"{self.name}_count{_braced(labels)} {value.count}"


def _braced(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.9g}"
