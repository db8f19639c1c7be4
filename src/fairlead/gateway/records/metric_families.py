"""Families of metrics, and their Prometheus text form.

A family's values can be taken out (`FamilyState`) and added to those of other workers, since a
scrape reaches any one worker of several behind the same socket.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

from fairlead.gateway.limits import SERIES_MAX
from fairlead.gateway.records.values import Histogram, Number

Labels = tuple[str, ...]
Kind = Literal["counter", "gauge", "histogram"]


class FamilyState(msgspec.Struct, frozen=True):
    """One metric family with its values.

    Attributes:
        series: Label values with: one number, or for a histogram the count per bucket (the last
            one is +Inf) followed by the sum.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    series: list[tuple[Labels, list[float]]]


class Family:
    """One metric family of this worker."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        help_text: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = (),
    ) -> None:
        self._name = name
        self._kind: Kind = kind
        self._help = help_text
        self._labels = labels
        self._buckets = buckets
        self._numbers: dict[Labels, Number] = {}
        self._histograms: dict[Labels, Histogram] = {}
        if labels:
            return
        if kind == "histogram":
            self.histogram(())
        else:
            self.number(())

    def inc(self, labels: Labels, by: float = 1) -> None:
        """Add to a counter."""
        self.number(labels).value += by

    def set(self, labels: Labels, value: float) -> None:
        """Set a gauge."""
        self.number(labels).value = value

    def reset(self) -> None:
        """Forget the values of a gauge whose series come and go."""
        self._numbers.clear()

    def drop(self, labels: Labels) -> None:
        """Show a gauge's value no longer."""
        self._numbers.pop(labels, None)

    def observe(self, labels: Labels, value: float) -> None:
        """Count a value in a histogram."""
        self.histogram(labels).observe(value)

    def get(self, labels: Labels = ()) -> float:
        """The present value of a counter or gauge, or a histogram's count."""
        if self._kind == "histogram":
            histogram = self._histograms.get(labels)
            return 0.0 if histogram is None else sum(histogram.counts)
        number = self._numbers.get(labels)
        return 0.0 if number is None else number.value

    def state(self) -> FamilyState:
        """The values, to be shown or added to others."""
        # Another thread may count in a new series meanwhile.
        series = [(labels, [number.value]) for labels, number in list(self._numbers.items())]
        for labels, histogram in list(self._histograms.items()):
            series.append((labels, [*map(float, histogram.counts), histogram.total]))
        return FamilyState(
            name=self._name,
            kind=self._kind,
            help=self._help,
            labels=self._labels,
            buckets=self._buckets,
            series=series,
        )

    def number(self, labels: Labels) -> Number:
        """What a counter's or gauge's value of these labels is counted in."""
        number = self._numbers.get(labels)
        if number is None:
            labels = self._bounded(labels, len(self._numbers))
            number = self._numbers.setdefault(labels, Number())
        return number

    def histogram(self, labels: Labels) -> Histogram:
        """What a histogram's values of these labels are counted in."""
        histogram = self._histograms.get(labels)
        if histogram is None:
            labels = self._bounded(labels, len(self._histograms))
            histogram = self._histograms.setdefault(labels, Histogram(self._buckets))
        return histogram

    def _bounded(self, labels: Labels, count: int) -> Labels:
        """Where a new series is counted: with very many, all further ones in one."""
        return labels if count < SERIES_MAX else ("other",) * len(self._labels)


def add_up(groups: Iterable[list[FamilyState]]) -> list[FamilyState]:
    """The sum of several workers' families, series by series."""
    families: dict[str, FamilyState] = {}
    series: dict[str, dict[Labels, list[float]]] = {}
    for group in groups:
        for state in group:
            known = families.setdefault(state.name, state)
            if (known.kind, known.buckets, known.labels) != (
                state.kind,
                state.buckets,
                state.labels,
            ):
                continue  # Written by another version of fairlead; not comparable.
            sums = series.setdefault(state.name, {})
            for labels, values in state.series:
                before = sums.get(labels)
                sums[labels] = (
                    values
                    if before is None
                    else [a + b for a, b in zip(before, values, strict=True)]
                )
    return [
        msgspec.structs.replace(state, series=sorted(series[name].items()))
        for name, state in families.items()
    ]


def render(states: Iterable[FamilyState]) -> bytes:
    """Prometheus' text format 0.0.4."""
    lines: list[str] = []
    for state in states:
        lines.append(f"# HELP {state.name} {_escape_help(state.help)}")
        lines.append(f"# TYPE {state.name} {state.kind}")
        for labels, values in state.series:
            pairs = [
                f'{name}="{_escape(value)}"'
                for name, value in zip(state.labels, labels, strict=True)
            ]
            if state.kind == "histogram":
                lines.extend(_histogram_lines(state, pairs, values))
            else:
                lines.append(f"{state.name}{_braces(pairs)} {_number(values[0])}")
    return ("\n".join(lines) + "\n").encode()


def _histogram_lines(state: FamilyState, pairs: list[str], values: list[float]) -> Iterable[str]:
    total = 0.0
    for bound, count in zip((*state.buckets, None), values[:-1], strict=True):
        total += count
        limit = "+Inf" if bound is None else _number(bound)
        le = f'le="{limit}"'
        yield f"{state.name}_bucket{_braces([*pairs, le])} {_number(total)}"
    yield f"{state.name}_sum{_braces(pairs)} {_number(values[-1])}"
    yield f"{state.name}_count{_braces(pairs)} {_number(total)}"


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
