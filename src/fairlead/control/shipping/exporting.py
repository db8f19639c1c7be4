"""What a rollout was judged by, from the store: so that its verdict can be checked by anybody."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fairlead.control.shipping.evidence import PAGE, observation
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Conflict, NotFound
from fairlead.rollout.export import Recorded, recorded, with_suites
from fairlead.rollout.observation import Observation
from fairlead.store.interface import Store

UNITS_MAX = 200_000
"""An export is one answer; a rollout of more units has to be read from the store itself."""


def exported(store: Store, rollout_id: str) -> Recorded:
    """What its verdict came from: units, and cases of suites.

    Raises NotFound, Damaged, or Conflict where there is nothing, or not all of it any more.
    """
    row = store.rollout(rollout_id)
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id!r}", hint="see `fairlead rollout list`")
    rollout = read_rollout(row).document.rollout
    numbers = {} if rollout.verdict is None else rollout.verdict.numbers
    units = sum(numbers[arm]["units"] for arm in ("canary", "champion") if arm in numbers)
    if not units and not any(suite.pairs for suite in rollout.suites.values()):
        raise Conflict(f"rollout {rollout_id} has judged no unit yet")
    if units > UNITS_MAX:
        raise Conflict(f"{units:,} units are more than one export holds, {UNITS_MAX:,}")
    plan, judge = rollout.plan, rollout.judge
    if numbers.get("decided_early"):
        plan, judge = rollout.plan.early or plan, rollout.early or judge
    found = recorded(plan, _pages(store, rollout_id), units, judge.first_at)
    return with_suites(found, rollout.plan.suites, rollout.suites)


def _pages(store: Store, rollout: str) -> Iterator[list[Observation]]:
    at, after_id = 0.0, ""
    while True:
        rows = store.assigned_requests(
            rollout, after=at, after_id=after_id, until=math.inf, limit=PAGE
        )
        yield [observation(row) for row in rows]
        if len(rows) < PAGE:
            return
        at, after_id = rows[-1].started_at, rows[-1].id
