"""What the demo measured, as data (`fairlead demo --json FILE`)."""

from __future__ import annotations

from typing import Any

import msgspec


class ReleaseReport(msgspec.Struct, frozen=True):
    """How one release fared. `outcome` is `promoted`, `rolled_back` or `gate_failed`."""

    name: str
    digest: str
    outcome: str
    requests_served: int
    reason: str
    gates: list[dict[str, Any]]
    verdict: dict[str, Any] | None


class RequestsReport(msgspec.Struct, frozen=True):
    """What clients saw: a request has failed when its client got anything but an answer."""

    sent: int
    failed: int
    feedback_failed: int
    errors: list[str]


class KillReport(msgspec.Struct, frozen=True):
    """The killed replica: requests sent from the kill until its replacement was ready."""

    replica: str
    requests_meanwhile: int
    failed_meanwhile: int
    replaced_s: float


class Report(msgspec.Struct, frozen=True):
    """The whole demo."""

    releases: list[ReleaseReport]
    requests: RequestsReport
    kill: KillReport | None
    seconds: float
    peak_memory_mb: float
