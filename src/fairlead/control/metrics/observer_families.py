"""The observer's metrics, from what it has written down of itself."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fairlead.control.metrics.families import Families
from fairlead.wire.observing import STANDING_BYTES_MAX, ObserverStanding, decode_standing

SILENT_S = 10.0
"""The observer writes about once a second, and seldom later: when its disk or store is slow."""


def read_standing(path: Path) -> ObserverStanding | None:
    """What the observer wrote last; None where there is nothing that can be read."""
    try:
        with path.open("rb") as file:
            return decode_standing(file.read(STANDING_BYTES_MAX))
    except (OSError, msgspec.DecodeError):
        return None


def add_observer(families: Families, standing: ObserverStanding | None, now: float) -> None:
    """Add the families of the observer; of one that is silent, only that it is.

    Args:
        now: Unix time in seconds.
    """
    is_up = standing is not None and abs(now - standing.at) <= SILENT_S
    families.gauge(
        "fairlead_observer_up",
        f"Whether the observer has said anything in the last {SILENT_S:g} seconds.",
    ).set((), float(is_up))
    if standing is None or not is_up:
        return
    _add_counts(families, standing)
    _add_sizes(families, standing)
    if standing.archives and standing.archived_until:
        families.gauge(
            "fairlead_observer_archive_lag_seconds",
            "Seconds before now up to which the telemetry store has all records.",
        ).set((), max(0.0, now - standing.archived_until))


def _add_counts(families: Families, standing: ObserverStanding) -> None:
    taken = families.counter(
        "fairlead_observer_records_total",
        "Records taken from the spool into the store, by kind: request, feedback, sample.",
        ("kind",),
    )
    taken.inc(("request",), standing.requests)
    taken.inc(("feedback",), standing.feedback)
    taken.inc(("sample",), standing.samples)
    families.counter(
        "fairlead_observer_damaged_frames_total", "Frames of the spool that were lost to damage."
    ).inc((), standing.damaged)
    families.counter(
        "fairlead_observer_failures_total",
        "Times that the store or the spool refused, and records waited in the spool.",
    ).inc((), standing.failures)
    spans = families.counter(
        "fairlead_observer_spans_total",
        "Traced requests, by what became of their spans: sent, dropped, failed.",
        ("outcome",),
    )
    for outcome, count in standing.traces.items():
        spans.inc((outcome,), count)


def _add_sizes(families: Families, standing: ObserverStanding) -> None:
    families.gauge(
        "fairlead_observer_start_time_seconds", "Unix time at which the observer began."
    ).set((), standing.started_at)
    families.gauge("fairlead_observer_spools", "Folders of gateway workers in the spool.").set(
        (), standing.spools
    )
    families.gauge(
        "fairlead_observer_spool_bytes",
        "Bytes in the spool: what is not yet in both stores, and segments that still grow.",
    ).set((), standing.spool_bytes)
