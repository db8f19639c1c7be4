"""All monitors of what is known of each request."""

from __future__ import annotations

from fairlead.monitoring.monitors.answers import FormatMonitor, LengthMonitor, RefusalsMonitor
from fairlead.monitoring.monitors.errors import ErrorsMonitor
from fairlead.monitoring.monitors.guardrails import GuardrailsMonitor
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.judged import Grading
from fairlead.monitoring.monitors.of_release import ReleaseMonitor
from fairlead.monitoring.monitors.quality import QualityMonitor
from fairlead.monitoring.monitors.replicas import SlowReplicaMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.times import LatencyMonitor, ThroughputMonitor

KINDS: tuple[type[ReleaseMonitor], ...] = (
    ErrorsMonitor,
    LatencyMonitor,
    ThroughputMonitor,
    SlowReplicaMonitor,
    FormatMonitor,
    RefusalsMonitor,
    LengthMonitor,
    GuardrailsMonitor,
)

DEFAULTS = MonitorSettings()


def build(
    service: str,
    release: str,
    settings: MonitorSettings = DEFAULTS,
    grading: Grading | None = None,
) -> list[Monitor]:
    """One of each kind that is not turned off, for one release (its digest) of one service.

    Args:
        grading: How scores of the service's judge model are read; None if it has none.
    """
    made = [kind(service, release, settings) for kind in KINDS]
    made.append(QualityMonitor(service, release, settings, grading))
    return [monitor for monitor in made if monitor.name not in settings.off]
