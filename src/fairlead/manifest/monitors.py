"""The manifest's `monitoring.monitors`: how the standing tests of live traffic are set."""

from __future__ import annotations

from pydantic import Field

from fairlead.manifest.monitor_names import Monitor
from fairlead.manifest.values import Share, Strict


class Monitors(Strict):
    """How live traffic is watched. All monitors are on unless they are named in `off`."""

    learn_requests: int = Field(
        default=1_000,
        ge=200,
        le=10_000,
        description="A release's own first requests, from which its monitors learn what is usual.",
    )
    learn_texts: int = Field(
        default=1_500,
        ge=1_000,
        le=10_000,
        description="The same of the sample's texts (`capture`), for drift.",
    )
    requests_per_false_alarm: float = Field(
        default=1_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="Requests between two false alarms of one monitor, at least, on average. The "
        "more, the later a monitor sees what is true. False rises of spending, and false gaps "
        "between segments, are as much rarer or more frequent.",
    )
    time_tolerance: Share = Field(
        default=0.1, description="By how much times may be longer without an alarm."
    )
    off: tuple[Monitor, ...] = Field(
        default=(), strict=False, max_length=50, description="Monitors that are not wanted."
    )
