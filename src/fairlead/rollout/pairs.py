"""What live requests and their copies say of a release that has met no client. Pure, resumable.

A pair is a live request and its copy, on which both had the same time. Rules
- A unit (a session, user or key) is one bet: on the mean of the differences of its pairs. It is
  enrolled by its first pair; those that are sent within a fixed time of that count, later ones do
  not, and it is not judged again.
- Units are taken in the order of their enrolment, and each only once that time, and the time of its
  last pair, is over: by then its outcomes are final, on both sides. Which pairs count, and in which
  order, is so decided by nothing that an answer says: it does not matter which side fails faster.
- An outcome is how bad an answer is, 0 to 1, of both or of neither: whether it failed, and where
  the plan declares metrics of it, whether it refused, is malformed or hit a guardrail. What did not
  come within the time is as bad as a failure, on both sides alike.
- An outcome that nobody knows, since the client left or the copy was given up before its time was
  over, is the worst there is for what is to be shown: against "no worse" the release has the best
  of both sides' possible outcomes, against "worse by the margin" the worst of them. To leave such
  pairs out would be to choose by outcome: clients leave when the live side is slow.
- A pair of which neither side came in time gains nothing in either test, and is counted as `late`.
  A copy that was not sent at all is no pair.
- Against "the release is worse in no outcome" the evidence is the average of the outcomes'
  (`fairlead.stats.pairs`); that it is not worse by the margin, each outcome has to show by itself.
- How long the answers took is counted and not judged: copies go to replicas that carry another
  load, so that a slower copy says nothing of the release.

Units that have not settled are not remembered: the caller gives everything after the cursor again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from fairlead.domain.outcomes import GIVEN_UP, failed_for_judge
from fairlead.rollout.plan import Plan, ShadowRule
from fairlead.rollout.units import UNITS_PER_PHASE_MAX, digest_of, pack, unpack
from fairlead.stats.pairs import STAKES, PairedRae, PairedState


class Half(msgspec.Struct, frozen=True):
    """One side of a pair, as it was recorded; `duration_ms` to the answer's last byte.

    `refused` and `malformed` are 1 or 0; -1 where nobody looked, or it does not apply. So is
    `guardrail_hits`, but for a count.
    """

    status: int
    error: str
    attempts: int
    duration_ms: float
    refused: int = -1
    malformed: int = -1
    guardrail_hits: int = -1

    @property
    def failed(self) -> bool:
        """Whether the judge would count it as failed."""
        return failed_for_judge(self.status, self.error, self.attempts)


class Pair(msgspec.Struct, frozen=True):
    """A live request and its copy; `id` is the copy's, and `sent_at` when it was sent.

    `unit` is the hash of the session, user or key that the live request came from.
    """

    id: str
    sent_at: float
    live: Half
    copy: Half
    unit: str


class PairOutcome(NamedTuple):
    """By what pairs are compared: a half is bad when it failed, or when its flag is 1."""

    tolerance: float
    margin: float
    flag: Callable[[Half], int]

    def bounds(self, half: Half, timeout_ms: float) -> tuple[float, float]:
        """The least and the most that it can be, 0 to 1: the same, where it is known."""
        if half.duration_ms > timeout_ms:
            return 1.0, 1.0
        if half.status == GIVEN_UP:
            return 0.0, 1.0
        bad = float(half.failed or self.flag(half) == 1)
        return bad, bad


_FLAGS: dict[str, Callable[[Half], int]] = {
    "refusal": lambda half: half.refused,
    "format": lambda half: half.malformed,
    "json": lambda half: half.malformed,
    "guardrail_hits": lambda half: min(half.guardrail_hits, 1),
}
"""By the sources of declared metrics that pairs are judged by as well."""


def sources_of_pairs(plan: Plan) -> set[str]:
    """The sources of declared metrics by which this plan judges pairs."""
    return {metric.source for metric in plan.metrics} & _FLAGS.keys()


def outcomes_of(plan: Plan) -> dict[str, PairOutcome]:
    """What the pairs are judged by: failures, and what is declared of the answers' text."""
    found = {"failed": PairOutcome(plan.tolerance, plan.margin, lambda _: 0)}
    for metric in plan.metrics:
        if metric.source in _FLAGS:
            [test] = metric.tests(plan.tolerance)
            flag = _FLAGS[metric.source]
            found[metric.name] = PairOutcome(test.tolerance, test.margin, flag)
    return found


class Evidence(msgspec.Struct, frozen=True):
    """What one outcome has shown so far, against "no worse" and against "worse by the margin"."""

    worse: PairedState
    not_worse: PairedState


class PairsSeen(msgspec.Struct, frozen=True):
    """All that is remembered of the pairs.

    Attributes:
        copies: Pairs with both outcomes; `units` is how many units have one.
        failed: Those of which the copy alone failed.
        live_failed: Those of which the live request alone failed.
        late: Pairs of which neither side was answered in time; they gained nothing.
        unknown: Pairs of which a side was given up before it had an outcome.
        slower: Of the pairs that both sides answered well (`timed`), those with the slower copy.
        log_e_max: Highest evidence so far that the release is worse, as a natural logarithm.
        cursor: When the last pair that need not be given again was sent, and its id.
        outcomes: By name. What another build kept without them, or in another form, is not gone
            on from: the pairs are in the store, and taken in again from the first one.
        judged: 4 bytes of the hash of each unit that was bet on.
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
    units: int = 0
    unknown: int = 0
    judged: bytes = b""

    @property
    def log_e(self) -> float:
        """Evidence that it is worse, now."""
        return _average([each.worse for each in self.outcomes.values()])

    @property
    def log_e_not_worse(self) -> float:
        """Evidence that it is not worse by the margin, of the outcome that has the least."""
        shown = [_log_sum(each.not_worse["logs"]) for each in self.outcomes.values()]
        return min(shown, default=0.0)

    @property
    def leading(self) -> str:
        """The outcome with most of that evidence; empty without any."""
        found = self.outcomes
        return max(found, key=lambda name: _average([found[name].worse]), default="")

    def is_worse(self, plan: Plan) -> bool:
        """Whether the evidence of harm has reached 1/alpha, of its part of it."""
        return self.log_e_max >= -math.log(plan.shadow_alpha)

    def is_not_worse(self, plan: Plan) -> bool:
        """Whether each outcome has shown that it is not worse by the margin."""
        return self.units > 0 and self.log_e_not_worse >= -math.log(plan.beta)

    def is_suspect(self, plan: Plan) -> bool:
        """Whether there is evidence of harm, too little to end it and too much to go on with."""
        return self.log_e >= -math.log(plan.beta)


def observe_pairs(
    seen: PairsSeen, plan: Plan, pairs: Iterable[Pair], until: float = math.inf
) -> PairsSeen:
    """Take in the units that have settled; the same object when none has.

    `pairs` are those after the cursor, ordered by when the copy was sent and by id: all that were
    sent before `until`, whose time is over. Whoever reads page by page uses a `PairGathering`.
    """
    gathering = PairGathering(seen, plan, until)
    gathering.add(pairs)
    return gathering.settled()


def is_resumable(seen: PairsSeen, plan: Plan) -> bool:
    """Whether the next pairs can be taken in after these."""
    kept = [state for each in seen.outcomes.values() for state in (each.worse, each.not_worse)]
    bets = len(unpack(seen.judged))
    return seen.outcomes.keys() == outcomes_of(plan).keys() and all(
        state["pairs"] == bets
        and len(state["logs"]) == len(STAKES)
        and all(map(math.isfinite, state["logs"]))
        for state in kept
    )


def gather_s(plan: Plan, rule: ShadowRule) -> float:
    """Seconds from a unit's first pair in which further ones count: no feedback is waited for."""
    return min(plan.settle_s, rule.timeout_s)


class PairGathering:
    """The pairs after the cursor, page by page, by unit. For the time of one look.

    Args:
        until: The time of the pairs that were sent before this is over; a Unix time.
    """

    def __init__(self, seen: PairsSeen, plan: Plan, until: float) -> None:
        if plan.shadow is None:
            raise ValueError("a plan without a shadow has no pairs")
        self._seen = seen
        self._known = seen if is_resumable(seen, plan) else PairsSeen()
        self._timeout_ms = plan.shadow.timeout_s * 1e3
        self._outcomes = outcomes_of(plan)
        self._gather_s = gather_s(plan, plan.shadow)
        self._judged = unpack(self._known.judged)
        self._units: dict[int, _Unit] = {}
        self.until = until
        self.position = self._known.cursor

    def add(self, pairs: Iterable[Pair]) -> None:
        """Take in those that follow `position`; any before it are known already."""
        for pair in pairs:
            key = pair.sent_at, pair.id
            if key <= self.position:
                continue
            self._take_in(pair, digest_of(pair.unit))
            self.position = key

    def settled(self) -> PairsSeen:
        """What is known after all units that have settled."""
        known = self._known
        units = list(self._units.values())
        due = [unit for unit in units if unit.until < self.until]
        cursor = units[len(due)].before if len(due) < len(units) else self.position
        if cursor == self._seen.cursor and not due:
            return self._seen
        tests = {
            name: _Tests(outcome, known.outcomes.get(name))
            for name, outcome in self._outcomes.items()
        }
        counts = {name: getattr(known, name) for name in _COUNTS}
        log_e_max = known.log_e_max
        for unit in due:
            for name, count in unit.counts.items():
                counts[name] += count
            counts["units"] += unit.counts["copies"] > 0
            for name, each in unit.gaps.items():
                tests[name].update(sum(each.worse) / unit.pairs, sum(each.not_worse) / unit.pairs)
            log_e_max = max(log_e_max, _average([each.worse.state() for each in tests.values()]))
        judged = self._judged | {unit.digest: None for unit in due}
        return PairsSeen(
            **counts,
            log_e_max=log_e_max,
            cursor=cursor,
            outcomes={name: each.evidence() for name, each in tests.items()},
            judged=pack(judged),
        )

    def _take_in(self, pair: Pair, digest: int) -> None:
        if digest in self._judged:
            return
        unit = self._units.get(digest)
        if unit is None:
            if len(self._judged) + len(self._units) >= UNITS_PER_PHASE_MAX:
                return
            until = pair.sent_at + self._gather_s
            unit = _Unit(digest, until, self.position, self._outcomes)
            self._units[digest] = unit
        if pair.sent_at <= unit.until:
            unit.add(pair, self._timeout_ms)


def worse_by_pairs(seen: PairsSeen, plan: Plan) -> str:
    """Why the copies end it, with the numbers."""
    shown = {name: _log_sum(each.worse["logs"]) for name, each in seen.outcomes.items()}
    most = max(shown, key=shown.__getitem__, default="failed")
    by = "" if most == "failed" else f", most of it by {most!r}"
    return (
        f"worse on pairs: of {seen.copies:,} copies with their live requests the copy alone failed "
        f"in {seen.failed:,}, the live request alone in {seen.live_failed:,}; the evidence that it "
        f"is worse reached {math.exp(min(seen.log_e_max, 700.0)):,.0f}, "
        f"{1 / plan.shadow_alpha:,.0f} end it{by}"
    )


_COUNTS = ("copies", "failed", "live_failed", "late", "slower", "timed", "units", "unknown")


class _Gaps:
    """The differences of a unit's pairs in one outcome, as each of the two tests has them."""

    def __init__(self) -> None:
        self.worse: list[float] = []
        self.not_worse: list[float] = []


class _Unit:
    """A unit while its pairs are gathered; `before` is the pair before its first."""

    def __init__(
        self,
        digest: int,
        until: float,
        before: tuple[float, str],
        outcomes: dict[str, PairOutcome],
    ) -> None:
        self._outcomes = outcomes
        self.digest = digest
        self.until = until
        self.before = before
        self.pairs = 0
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.gaps = {name: _Gaps() for name in outcomes}

    def add(self, pair: Pair, timeout_ms: float) -> None:
        is_late = min(pair.live.duration_ms, pair.copy.duration_ms) > timeout_ms
        self.pairs += 1
        self._count(pair, timeout_ms, is_late=is_late)
        for name, outcome in self._outcomes.items():
            live, copy = (outcome.bounds(half, timeout_ms) for half in (pair.live, pair.copy))
            self.gaps[name].worse.append(copy[0] - live[1])
            # What says nothing must not show a release to be as good: a time that is too short for
            # any answer, or requests of which nobody asked for the format that is to be kept.
            is_void = outcome.flag(pair.live) < 0 and outcome.flag(pair.copy) < 0
            is_void = is_void and live == copy == (0.0, 0.0)
            gap = outcome.margin if is_late or is_void else copy[1] - live[0]
            self.gaps[name].not_worse.append(gap)

    def _count(self, pair: Pair, timeout_ms: float, *, is_late: bool) -> None:
        if is_late:
            self.counts["late"] += 1
            return
        live, copy = (
            self._outcomes["failed"].bounds(half, timeout_ms) for half in (pair.live, pair.copy)
        )
        if live[0] < live[1] or copy[0] < copy[1]:
            self.counts["unknown"] += 1
            return
        self.counts["copies"] += 1
        self.counts["failed"] += copy > live
        self.counts["live_failed"] += live > copy
        if not live[1] and not copy[1]:
            self.counts["timed"] += 1
            self.counts["slower"] += pair.copy.duration_ms > pair.live.duration_ms


class _Tests:
    """Both tests of one outcome, for the time of one call."""

    def __init__(self, outcome: PairOutcome, kept: Evidence | None) -> None:
        self.worse = PairedRae(gap=outcome.tolerance, worse=True)
        self.not_worse = PairedRae(gap=outcome.margin, worse=False)
        if kept is not None:
            self.worse.restore(kept.worse)
            self.not_worse.restore(kept.not_worse)

    def update(self, worse: float, not_worse: float) -> None:
        """A unit's mean difference, as each of the two tests has it."""
        self.worse.update_difference(worse)
        self.not_worse.update_difference(not_worse)

    def evidence(self) -> Evidence:
        return Evidence(self.worse.state(), self.not_worse.state())


def _average(states: list[PairedState]) -> float:
    """Logarithm of the average evidence; 0 before there is any."""
    if not states:
        return 0.0
    return _log_sum([_log_sum(state["logs"]) for state in states]) - math.log(len(states))


def _log_sum(logs: list[float]) -> float:
    peak = max(logs)
    return peak + math.log(sum(math.exp(log - peak) for log in logs))
