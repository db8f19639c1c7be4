"""The gauges of limits: what is used and held of each, for as many as a family has room for."""

from __future__ import annotations

from fairlead.domain.quota import PICO, Measure
from fairlead.gateway.limits import SERIES_MAX
from fairlead.gateway.quotas.quota import QuotaBook
from fairlead.gateway.records.metrics import GatewayMetrics


def show_limits(metrics: GatewayMetrics, book: QuotaBook, worker: str, now: float) -> None:
    """Set the gauges to the present windows; limits that are gone are not shown."""
    for family in (metrics.limit_used, metrics.limit_held, metrics.limit_amount):
        family.reset()
    for number, (name, meter) in enumerate(book.meters.items()):
        if number >= SERIES_MAX:
            return
        window = meter.roll(now)
        unit = PICO if meter.measure == Measure.USD else 1
        labels = (name, worker)
        metrics.limit_used.set(labels, window.used / unit)
        metrics.limit_held.set(labels, window.held / unit)
        metrics.limit_amount.set(labels, meter.amount / unit)
