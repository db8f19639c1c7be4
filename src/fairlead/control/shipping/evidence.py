"""Reads what the live requests of a rollout say: for its judge, and of its copies.

What is kept in memory only spares reading: started again, the judge's cursor says where to go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fairlead.domain.outcomes import failed_for_judge
from fairlead.rollout.early import early_judge
from fairlead.rollout.judge import Gathering, Judge
from fairlead.rollout.machine import Rollout
from fairlead.rollout.observation import Observation
from fairlead.rollout.pairs import Half, Pair, PairGathering, PairsSeen
from fairlead.store.interface import TelemetryStore
from fairlead.store.rows import AssignedRequest, PairRow

PAGE = 5_000
PAGES_PER_TURN = 20
_EARLY = ":early"
"""Behind a rollout's id: its early judge reads by itself."""
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
        self._pair_gatherings: dict[str, PairGathering] = {}

    def forget(self, rollout: str) -> None:
        """Let go of a rollout that has ended."""
        self._observed_until.pop(rollout, None)
        self._shadowed_at.pop(rollout, None)
        self._pair_gatherings.pop(rollout, None)
        self._gatherings.pop(rollout, None)
        self._gatherings.pop(rollout + _EARLY, None)
        self._observed_until.pop(rollout + _EARLY, None)

    def observed(
        self, rollout: Rollout, judged_until: float = math.inf, *, is_last: bool = False
    ) -> Judge | None:
        """What the judge knows by now; None while nothing is new or not all of it is read yet.

        However many requests there are, one turn reads a bounded number of them. The turns after it
        go on to the same watermark: a part of a window cannot settle it.

        Args:
            judged_until: A judge model has said all that it will of what began before this time.
            is_last: Nothing will come after that: look however little is new.
        """
        begun = self._gatherings.pop(rollout.id, None)
        if begun is None:
            watermark = self._watermark(rollout, rollout.id, judged_until, is_last=is_last)
            begun = None if watermark is None else Gathering(rollout.judge, rollout.plan, watermark)
        return self._read(rollout, rollout.id, begun) if begun is not None else None

    def ahead(self, rollout: Rollout) -> Judge | None:
        """What the early judge knows by now; None as `observed`, or where there is none."""
        plan, judge = rollout.plan.early, early_judge(rollout.early, rollout.plan)
        if plan is None or judge is None:
            return None
        reader = rollout.id + _EARLY
        begun = self._gatherings.pop(reader, None)
        if begun is None:
            watermark = self._watermark(rollout, reader, math.inf)
            begun = None if watermark is None else Gathering(judge, plan, watermark)
        return self._read(rollout, reader, begun) if begun is not None else None

    def known_until(self, judged_until: float = math.inf) -> float:
        """Before this time all is recorded, and judged."""
        return min(self._store.watermark() - WATERMARK_SLACK_S, judged_until)

    def _read(self, rollout: Rollout, reader: str, gathering: Gathering) -> Judge | None:
        for _ in range(PAGES_PER_TURN):
            at, request = gathering.position
            rows = self._store.assigned_requests(
                rollout.id, after=at, after_id=request, until=gathering.watermark, limit=PAGE
            )
            gathering.add([observation(row) for row in rows])
            if len(rows) < PAGE:
                return gathering.settled()
        self._gatherings[reader] = gathering
        return None

    def shadowed(self, rollout: Rollout) -> PairsSeen | None:
        """What its pairs have shown; None shortly after the last look.

        None, too, while not all of them are read yet: the turns after it go on, as in `observed`.
        """
        now, rule = self._now(), rollout.plan.shadow
        if rule is None or 0.0 <= now - self._shadowed_at.get(rollout.id, 0.0) < SHADOW_LOOK_S:
            return None
        gathering = self._pair_gatherings.pop(rollout.id, None)
        if gathering is None:
            # A copy's record is in its worker's spool before the worker says that it got so far.
            until = self._store.watermark() - WATERMARK_SLACK_S - rule.timeout_s
            gathering = PairGathering(rollout.shadowed, rollout.plan, until)
        for _ in range(PAGES_PER_TURN):
            rows = self._store.shadow_pairs(
                rollout.id, after=gathering.position, until=gathering.until, limit=PAGE
            )
            gathering.add([pair(row) for row in rows])
            if len(rows) < PAGE:
                self._shadowed_at[rollout.id] = now
                return gathering.settled()
        self._pair_gatherings[rollout.id] = gathering
        return None

    def has_read(self, rollout: str, until: float) -> bool:
        """Whether all that began before this time has been taken in."""
        return rollout not in self._gatherings and self._observed_until.get(rollout, 0.0) >= until

    def _watermark(
        self, rollout: Rollout, reader: str, judged_until: float, *, is_last: bool = False
    ) -> float | None:
        """Up to where a look reads; None while it is too soon for one."""
        watermark = self.known_until(judged_until)
        least = 0.0 if is_last else rollout.plan.settle_s / 20
        if watermark - self._observed_until.get(reader, 0.0) <= least:
            # Each look reads all of the last `settle_s` again: not worth it for a few requests.
            return None
        self._observed_until[reader] = watermark
        return watermark


def pair(row: PairRow) -> Pair:
    """A stored copy with its live request, as the judge of pairs sees them."""
    live = Half(
        row.live_status,
        row.live_error,
        row.live_attempts,
        row.live_duration_ms,
        row.live_refused,
        row.live_malformed,
        row.live_guardrail_hits,
    )
    copy = Half(
        row.status,
        row.error,
        row.attempts,
        row.duration_ms,
        row.refused,
        row.malformed,
        row.guardrail_hits,
    )
    return Pair(row.id, row.sent_at, live, copy, row.unit)


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
        status=row.status,
        stream=row.stream,
        ttft_ms=row.ttft_ms,
        itl_ms=row.itl_ms,
        duration_ms=row.duration_ms,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost_usd=row.cost_usd,
        refused=row.refused,
        malformed=row.malformed,
        guardrail_hits=row.guardrail_hits,
        stratum=row.stratum,
    )
