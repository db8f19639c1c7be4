"""fairlead's monitor on the streams: alarms, delays, causes, CPU."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from benchmarks.monitoring import streams
from benchmarks.monitoring.streams import BEFORE, Rows, Tables

from fairlead.stats.drift.clustering import nearest
from fairlead.stats.drift.monitor import Alarm, DriftMonitor
from fairlead.stats.drift.reference import Reference, unit_rows

BATCH = 100


class Found(NamedTuple):
    """The first alarm of a changed stream; `delay` is infinite without one, below 0 if false.

    `topic_named`: whether the surge's cluster is among the three that grew most, if it is a surge.
    """

    delay: float
    channel: str
    dated: int
    new_share: float
    new_share_later: float
    topic_named: bool | None


def honest(reference: Reference, vectors: Any, rows: Rows) -> tuple[int, float]:
    """Alarms of a stream without a change, and CPU microseconds per request."""
    monitor = DriftMonitor(reference)
    begun = time.process_time()
    alarms = 0
    for start in range(0, len(rows), BATCH):
        alarms += len(monitor.update(vectors[rows[start : start + BATCH]]))
    return alarms, (time.process_time() - begun) / len(rows) * 1e6


def changed(reference: Reference, vectors: Any, rows: Rows, surge: Rows | None) -> Found:
    """The first alarm of a stream that changes after `BEFORE` requests."""
    monitor = DriftMonitor(reference)
    for start in range(0, len(rows), BATCH):
        alarms = monitor.update(vectors[rows[start : start + BATCH]])
        if alarms:
            upto = start + BATCH
            monitor.update(vectors[rows[upto : upto + 1_000]])
            return _found(monitor, alarms[0], reference, vectors, surge)
    return Found(float("inf"), "", 0, 0.0, 0.0, None)


def _found(
    monitor: DriftMonitor, alarm: Alarm, reference: Reference, vectors: Any, surge: Rows | None
) -> Found:
    cause = alarm["cause"]
    later = monitor.cause(cause.channel, cause.changed_at)
    named = None
    if surge is not None:
        cells, _ = nearest(unit_rows(vectors[surge]), reference.cells)
        named = int(np.bincount(cells).argmax()) in [each.cell for each in cause.grown[:3]]
    return Found(
        alarm["at"] + 1 - BEFORE,
        cause.channel,
        cause.changed_at - BEFORE,
        cause.new_share,
        later.new_share,
        named,
    )


def surge_rows(name: str, number: int, table: Tables) -> Rows | None:
    """The rows of the intent that surges in this stream."""
    if streams.CHANGES[name][0] != "surge":
        return None
    return table.test_by_intent[streams.SURGES[number % len(streams.SURGES)]]
