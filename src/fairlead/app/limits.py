"""From the limits that a file declares to those that the gateway is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.wire.snapshot import Limits

if TYPE_CHECKING:
    from fairlead.manifest.models import Limits as Declared


def limits_of(declared: Declared) -> Limits:
    """The same limits, in the words of the snapshot."""
    return Limits(
        queue=declared.queue,
        queue_timeout_s=declared.queue_timeout_seconds,
        request_timeout_s=declared.request_timeout_seconds,
        body_bytes_max=declared.body_bytes,
        attempts=declared.attempts,
        attempt_timeout_s=declared.attempt_timeout_seconds,
        hedge_after_ms=declared.hedge_after_ms,
        quota=declared.quota,
    )
