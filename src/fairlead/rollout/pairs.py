"""What live requests and their copies say of a release that has met no client. Pure, resumable.

A pair is a live request and its copy, on which both had the same time. Rules
- Pairs are taken in the order in which the copies were sent, and each only once that time is over:
  by then its outcomes are final, on both sides. Which pairs count, and in which order, is so
  decided by nothing that an answer says: it does not matter which side fails faster.
- An outcome is how bad an answer is, 0 to 1, of both or of neither. What did not come within the
  time is as bad as a failure, on both sides alike; a pair of which neither came says nothing, and
  is counted as `late`. A copy that was dropped or given up is no pair.
- Against "the release is worse in no outcome" the evidence is the average of the outcomes'
  (`fairlead.stats.pairs`); that it is not worse by the margin, each outcome has to show by itself.
- How long the answers took is counted and not judged: copies go to replicas that carry another
  load, so that a slower copy says nothing of the release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from fairlead.domain.outcomes import failed_for_judge
from fairlead.rollout.plan import Plan
from fairlead.stats.pairs import STAKES, PairedRae, PairedState


class Half(msgspec.Struct, frozen=True):
    """One side of a pair, as it was recorded; `duration_ms` to the answer's last byte."""

    status: int
    error: str
    attempts: int
    duration_ms: float

    @property
    def failed(self) -> bool:
        """Whether the judge would count it as failed."""
        return failed_for_judge(self.status, self.error, self.attempts)


class Pair(msgspec.Struct, frozen=True):
    """A live request and its copy; `id` is the copy's, and `sent_at` when it was sent."""

    id: str
    sent_at: float
    live: Half
    copy: Half


PAIR_OUTCOMES: dict[str, Callable[[Half], float]] = {
    "failed": lambda half: float(half.failed),
}
"""How bad an answer is that came in time, 0 to 1, by the name of the outcome."""


class Evidence(msgspec.Struct, frozen=True):
    """What one outcome has shown so far, against "no worse" and against "worse by the margin"."""

    worse: PairedState
    not_worse: PairedState


class PairsSeen(msgspec.Struct, frozen=True):
    """All that is remembered of the pairs.

    Attributes:
        copies: Pairs that counted.
        failed: Those of which the copy alone failed.
        live_failed: Those of which the live request alone failed.
        late: Pairs of which neither side was answered in time; they did not count.
        slower: Of the pairs that both sides answered well (`timed`), those with the slower copy.
        log_e_max: Highest evidence so far that the release is worse, as a natural logarithm.
        cursor: When the last pair's copy was sent, and its id.
        outcomes: By name. What another build kept without them, or in another form, is not gone
            on from: the pairs are in the store, and taken in again from the first one.
    """

    copies: int = 0
    failed: int = 0
    live_failed: int = 0
    late: int = 0
    slower: int = 0
    timed: int = 0
    log_e_max: float = 0.0
    cursor: tuple[float, str] = (0.0, "")
    outcomes: dict[str, Evidence] = {}

    @property
    def log_e(self) -> float:
        """Evidence that it is worse, now."""
        return _average([each.worse for each in self.outcomes.values()])

    @property
    def log_e_not_worse(self) -> float:
        """Evidence that it is not worse by the margin, of the outcome that has the least."""
        shown = [_log_sum(each.not_worse["logs"]) for each in self.outcomes.values()]
        return min(shown, default=0.0)

    def is_worse(self, plan: Plan) -> bool:
        """Whether the evidence of harm has reached 1/alpha."""
        return self.log_e_max >= -math.log(plan.alpha)

    def is_not_worse(self, plan: Plan) -> bool:
        """Whether each outcome has shown that it is not worse by the margin."""
        return self.copies > 0 and self.log_e_not_worse >= -math.log(plan.beta)

    def is_suspect(self, plan: Plan) -> bool:
        """Whether there is evidence of harm, too little to end it and too much to go on with."""
        return self.log_e >= -math.log(plan.beta)


def observe_pairs(seen: PairsSeen, plan: Plan, pairs: Iterable[Pair]) -> PairsSeen:
    """Take in the pairs that follow, ordered by when the copy was sent and by id.

    Their time is over; those up to the cursor are known already. The same object when none is new.
    """
    rule = plan.shadow
    if rule is None:
        raise ValueError("a plan without a shadow has no pairs")
    before = seen if is_resumable(seen) else PairsSeen()
    tests = {name: _Tests(plan, before.outcomes.get(name)) for name in PAIR_OUTCOMES}
    counts = {name: getattr(before, name) for name in _COUNTS}
    cursor, log_e_max = before.cursor, before.log_e_max
    for pair in pairs:
        if (pair.sent_at, pair.id) <= cursor:
            continue
        cursor = pair.sent_at, pair.id
        in_time = [half.duration_ms <= rule.timeout_s * 1e3 for half in (pair.live, pair.copy)]
        if not any(in_time):
            counts["late"] += 1
            continue
        _count(counts, pair, *in_time)
        for name, bad in PAIR_OUTCOMES.items():
            live = bad(pair.live) if in_time[0] else 1.0
            copy = bad(pair.copy) if in_time[1] else 1.0
            tests[name].update(live, copy)
        log_e_max = max(log_e_max, _average([each.worse.state() for each in tests.values()]))
    if cursor == before.cursor:
        return seen
    outcomes = {name: each.evidence() for name, each in tests.items()}
    return PairsSeen(**counts, log_e_max=log_e_max, cursor=cursor, outcomes=outcomes)


def is_resumable(seen: PairsSeen) -> bool:
    """Whether the next pairs can be taken in after these."""
    kept = [state for each in seen.outcomes.values() for state in (each.worse, each.not_worse)]
    return bool(kept) and all(
        len(state["logs"]) == len(STAKES) and all(map(math.isfinite, state["logs"]))
        for state in kept
    )


def worse_by_pairs(seen: PairsSeen, plan: Plan) -> str:
    """Why the copies end it, with the numbers."""
    return (
        f"worse on pairs: of {seen.copies:,} copies with their live requests the copy alone failed "
        f"in {seen.failed:,}, the live request alone in {seen.live_failed:,}; the evidence that it "
        f"is worse reached {math.exp(min(seen.log_e_max, 700.0)):,.0f}, {1 / plan.alpha:,.0f} end "
        "it"
    )


_COUNTS = ("copies", "failed", "live_failed", "late", "slower", "timed")


class _Tests:
    """Both tests of one outcome, for the time of one call."""

    def __init__(self, plan: Plan, kept: Evidence | None) -> None:
        self.worse = PairedRae(gap=plan.tolerance, worse=True)
        self.not_worse = PairedRae(gap=plan.margin, worse=False)
        if kept is not None:
            self.worse.restore(kept.worse)
            self.not_worse.restore(kept.not_worse)

    def update(self, live: float, copy: float) -> None:
        self.worse.update(live, copy)
        self.not_worse.update(live, copy)

    def evidence(self) -> Evidence:
        return Evidence(self.worse.state(), self.not_worse.state())


def _count(counts: dict[str, int], pair: Pair, live_came: bool, copy_came: bool) -> None:
    live_failed = pair.live.failed or not live_came
    copy_failed = pair.copy.failed or not copy_came
    counts["copies"] += 1
    counts["failed"] += copy_failed and not live_failed
    counts["live_failed"] += live_failed and not copy_failed
    if not live_failed and not copy_failed:
        counts["timed"] += 1
        counts["slower"] += pair.copy.duration_ms > pair.live.duration_ms


def _average(states: list[PairedState]) -> float:
    """Logarithm of the average evidence; 0 before there is any."""
    if not states:
        return 0.0
    return _log_sum([_log_sum(state["logs"]) for state in states]) - math.log(len(states))


def _log_sum(logs: list[float]) -> float:
    peak = max(logs)
    return peak + math.log(sum(math.exp(log - peak) for log in logs))
