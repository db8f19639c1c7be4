"""Which monitors watch a release."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.control.watching.service_watch import Served
from fairlead.monitoring.monitors.interface import Monitor


def build(served: Served, release: str) -> Sequence[Monitor]:
    """The monitors of a release of a service."""
    return ()
