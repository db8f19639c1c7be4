"""Reads what the live requests of a rollout say: for its judge, and of its copies.

What is kept in memory only spares reading: started again, the judge's cursor says where to go on.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.domain.outcomes import failed_for_judge
from fairlead.rollout.judge import Gathering, Judge, Observation
from fairlead.rollout.machine import Rollout
from fairlead.rollout.model import ShadowCount
from fairlead.store.interface import TelemetryStore
from fairlead.store.rows import AssignedRequest

PAGE = 5_000
PAGES_PER_TURN = 20
SHADOW_LOOK_S = 1.0
"""Seconds between two looks at a rollout's copies."""
WATERMARK_SLACK_S = 1.0
"""A gateway worker that has just started may record for so long before its spool is known."""


class LiveEvidence:
    """The live requests of all rollouts; its methods read the store, and wait for it.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: TelemetryStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._gatherings: dict[str, Gathering] = {}
        self._observed_until: dict[str, float] = {}
        self._shadowed_at: dict[str, float] = {}

    def forget(self, rollout: str) -> None:
        """Let go of a rollout that has ended."""
        self._observed_until.pop(rollout, None)
        self._shadowed_at.pop(rollout, None)
        self._gatherings.pop(rollout, None)

    def observed(self, rollout: Rollout) -> Judge | None:
        """What the judge knows by now; None while nothing is new or not all of it is read yet.

        However many requests there are, one turn reads a bounded number of them. The turns after it
        go on to the same watermark: a part of a window cannot settle it.
        """
        gathering = self._gatherings.pop(rollout.id, None) or self._begin(rollout)
        if gathering is None:
            return None
        for _ in range(PAGES_PER_TURN):
            at, request = gathering.position
            rows = self._store.assigned_requests(
                rollout.id, after=at, after_id=request, until=gathering.watermark, limit=PAGE
            )
            gathering.add([observation(row) for row in rows])
            if len(rows) < PAGE:
                return gathering.settled()
        self._gatherings[rollout.id] = gathering
        return None

    def shadowed(self, rollout: Rollout) -> ShadowCount | None:
        """What became of its copies; None shortly after the last look."""
        now = self._now()
        if 0.0 <= now - self._shadowed_at.get(rollout.id, 0.0) < SHADOW_LOOK_S:
            return None
        self._shadowed_at[rollout.id] = now
        counts = self._store.shadow_counts(rollout.id)
        return ShadowCount(counts.copies, counts.failed)

    def _begin(self, rollout: Rollout) -> Gathering | None:
        watermark = self._store.watermark() - WATERMARK_SLACK_S
        if watermark - self._observed_until.get(rollout.id, 0.0) < rollout.plan.settle_s / 20:
            # Each look reads all of the last `settle_s` again: not worth it for a few requests.
            return None
        self._observed_until[rollout.id] = watermark
        return Gathering(rollout.judge, rollout.plan, watermark)


def observation(row: AssignedRequest) -> Observation:
    """A stored request as the judge sees it."""
    return Observation(
        id=row.id,
        unit=row.unit,
        canary=row.arm == "canary",
        rho=row.rho,
        phase=row.phase,
        failed_by_error=failed_for_judge(row.status, row.error, row.attempts),
        started_at=row.started_at,
        feedback=tuple((f.name, f.value, f.at) for f in row.feedback),
    )
