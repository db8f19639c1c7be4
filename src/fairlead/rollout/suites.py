"""Suites that are run again while a release gets its traffic, on both releases' own replicas. Pure.

What passed a gate alone in the night may fail at noon on busy replicas. A suite's cases are asked
of both releases, and each case is a pair: the same question, and how bad each answer is. The
release is rolled back, and kept from promotion, by the bets of `fairlead.stats.pairs` on them.

- A case counts once in a rollout. Asked again it would mostly be answered again as it was: that is
  no new evidence. So each run asks further cases, and when there are none left the suite has said
  what it can.
- The order of the cases is fixed beforehand, by their hashes, and those that a gate of the same
  suite has asked come last. What is counted is always the first so many of that order: which of
  them were answered sooner has no effect.
- A release that does not answer a case, though it answers others, has answered it badly. While it
  answers none, nothing is counted; after `unanswered_s` the rollout ends.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput
from fairlead.stats.pairs import PairedRae, PairedState

SUITES_MAX = 10
CASES_MAX = 1_000
KEPT_MAX = 20_000
"""Of a suite with more pairs none is kept: they are in the rollout's document, which is written
anew at each commit."""

EVERY_S = (60.0, 7 * 86_400.0)
UNANSWERED_S = (60.0, 7 * 86_400.0)
RETRY_S = 30.0
"""Seconds after a run that nobody answered until the next one."""
GAP_S = 3 * RETRY_S
"""Longer between two runs, nobody has tried: control was down, or the rollout was held."""

_PAIR = struct.Struct("<2d")
_GRADED = 4


class SuiteMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One suite as a metric of a rollout. Raises InvalidInput when it does not make sense.

    Attributes:
        gate: Name of the gate whose cases and scorer it has.
        cases: Cases that each run asks, of those that were not asked yet.
        every_s: Seconds from one run to the next; 0 for one at each step, and at the last step one
            after the other.
        margin: How much worse the release's mean score must be shown not to be.
        tolerance: How much worse it may be before it is rolled back.
        promotes: Promotion needs evidence by it; else it can only roll back.
        unanswered_s: Seconds without any answer after which the rollout ends.
    """

    name: str
    gate: str
    cases: int = 50
    every_s: float = 0.0
    margin: float = 0.05
    tolerance: float = 0.0
    promotes: bool = True
    unanswered_s: float = 600.0

    def __post_init__(self) -> None:
        where = f"suite {ascii(self.name)[:80]}"
        if not 0 < len(self.name) <= 64:
            raise InvalidInput(f"{where}: a name has 1 to 64 characters")
        if not 1 <= self.cases <= CASES_MAX:
            raise InvalidInput(f"{where}: cases: {self.cases} is not between 1 and {CASES_MAX:,}")
        if not 0.0 <= self.tolerance < self.margin <= 0.5:
            raise InvalidInput(
                f"{where}: margin {self.margin:g} is not above the tolerance, {self.tolerance:g}, "
                "and at most 0.5"
            )
        for name, value, (least, most) in (
            ("every_s", self.every_s or EVERY_S[0], EVERY_S),
            ("unanswered_s", self.unanswered_s, UNANSWERED_S),
        ):
            check_between(f"{where}: {name}", value, least, most)


class SuiteReading(msgspec.Struct, frozen=True):
    """What a run has found.

    Attributes:
        after: Pairs that had been counted when it began; it is counted if that is still so.
        phase: The split under which it was asked.
        pairs: How bad the champion's and the candidate's answer to each further case was, 0 to 1.
        total: Cases of the suite.
        began, at: When the run of all suites that were due began and ended, Unix time.
        problem: Why nothing was answered; empty where something was.
    """

    name: str
    after: int
    phase: int
    pairs: tuple[tuple[float, float], ...]
    total: int
    began: float
    at: float
    problem: str = ""


class SuiteState(msgspec.Struct, frozen=True):
    """What is remembered of a suite.

    Attributes:
        worse, not_worse: The bets on its pairs.
        champion_bad, canary_bad: How bad all answers were together.
        total: Cases of the suite; 0 before the first run.
        phase: The split under which it was asked last.
        at: When it was asked last, Unix time.
        failing_since: Since when nobody has answered, of the time in which it was tried; None
            while somebody does.
        problem: Why not.
        told: How bad both answers of each pair were (`_packed`), so that the verdict can be checked
            afterwards; without those of an older build, and none of more than `KEPT_MAX`.
    """

    worse: PairedState
    not_worse: PairedState
    champion_bad: float = 0.0
    canary_bad: float = 0.0
    total: int = 0
    phase: int = 0
    at: float = 0.0
    failing_since: float | None = None
    problem: str = ""
    told: bytes = b""

    @property
    def pairs(self) -> int:
        """Cases that have been counted."""
        return self.worse["pairs"]

    @property
    def outcomes(self) -> list[tuple[float, float]]:
        """The champion's and the candidate's of each pair, in the order in which they counted."""
        found: list[tuple[float, float]] = []
        at = 0
        while at < len(self.told):
            code = self.told[at]
            if code < _GRADED:
                found.append((float(code >> 1), float(code & 1)))
            elif at + _PAIR.size < len(self.told):
                champion, canary = _PAIR.unpack_from(self.told, at + 1)
                found.append((champion, canary))
                at += _PAIR.size
            else:
                break  # cut off: what is missing is said by whoever counts
            at += 1
        return found

    @property
    def is_exhausted(self) -> bool:
        """Whether all cases have been asked."""
        return 0 < self.total <= self.pairs

    @property
    def rates(self) -> tuple[float, float]:
        """The champion's and the candidate's mean score; 0 before the first pair."""
        pairs = max(1, self.pairs)
        return 1.0 - self.champion_bad / pairs, 1.0 - self.canary_bad / pairs


def new_suite(metric: SuiteMetric) -> SuiteState:
    """A suite that has not been asked."""
    return SuiteState(_worse(metric).state(), _not_worse(metric).state())


def take_in_suites(
    known: dict[str, SuiteState],
    readings: tuple[SuiteReading, ...],
    metrics: tuple[SuiteMetric, ...],
) -> dict[str, SuiteState]:
    """What is remembered after these runs; the same object where they are known already.

    They are in order by what had been counted when they began, and not by the clock, which may be
    set back.
    """
    after = dict(known)
    for reading in readings:
        metric = next((m for m in metrics if m.name == reading.name), None)
        if metric is None:
            continue
        before = after.get(metric.name) or new_suite(metric)
        if reading.after == before.pairs:
            after[metric.name] = _after(before, reading, metric)
    return known if after == known else after


def _after(before: SuiteState, reading: SuiteReading, metric: SuiteMetric) -> SuiteState:
    if reading.problem:
        since = before.failing_since
        if since is None or reading.began - before.at > GAP_S:
            since = reading.at
        since = min(since, reading.at)
        return msgspec.structs.replace(
            before, at=reading.at, failing_since=since, problem=reading.problem,
            total=reading.total,
        )  # fmt: skip
    worse, not_worse = tests_of(metric)
    worse.restore(before.worse)
    not_worse.restore(before.not_worse)
    for champion, canary in reading.pairs:
        worse.update(champion, canary)
        not_worse.update(champion, canary)
    return SuiteState(
        worse=worse.state(),
        not_worse=not_worse.state(),
        champion_bad=before.champion_bad + sum(champion for champion, _ in reading.pairs),
        canary_bad=before.canary_bad + sum(canary for _, canary in reading.pairs),
        total=reading.total,
        phase=reading.phase,
        at=reading.at,
        told=before.told + _packed(reading.pairs) if worse.pairs <= KEPT_MAX else b"",
    )


def is_due(metric: SuiteMetric, state: SuiteState, phase: int, now: float, *, more: bool) -> bool:
    """Whether its next run is to begin.

    Args:
        phase: The first split of the step.
        more: One after the other, since nothing comes after this step but the verdict.
    """
    if state.is_exhausted:
        return False
    if state.failing_since is not None:
        return not 0.0 <= now - state.at < RETRY_S
    if metric.every_s:
        return not 0.0 <= now - state.at < metric.every_s
    return more or state.phase < phase


def log_e_worse(state: SuiteState) -> float:
    """Natural logarithm of the most evidence so far that the release is worse."""
    return state.worse["log_e_max"]


def log_e_promote(metric: SuiteMetric, state: SuiteState) -> float:
    """Natural logarithm of the evidence that it is not worse by the margin."""
    test = _not_worse(metric)
    test.restore(state.not_worse)
    return test.log_e


def check_suites(suites: tuple[SuiteMetric, ...], taken: set[str]) -> None:
    """Raises InvalidInput for too many, or a name that is there twice."""
    if len(suites) > SUITES_MAX:
        raise InvalidInput(f"suites: {len(suites)} of them; at most {SUITES_MAX}")
    for suite in suites:
        if suite.name in taken:
            raise InvalidInput(f"suites: the name {suite.name!r} is there twice, or is a metric's")
        taken.add(suite.name)


def tests_of(metric: SuiteMetric) -> tuple[PairedRae, PairedRae]:
    """The bets on its pairs: that the answers are worse, and that they are not."""
    return _worse(metric), _not_worse(metric)


def _packed(pairs: Sequence[tuple[float, float]]) -> bytes:
    """A byte for each pair of answers that are good or bad, 17 for others."""
    return b"".join(
        bytes([int(2 * champion + canary)])
        if {champion, canary} <= {0.0, 1.0}
        else bytes([_GRADED]) + _PAIR.pack(champion, canary)
        for champion, canary in pairs
    )


def _worse(metric: SuiteMetric) -> PairedRae:
    return PairedRae(gap=metric.tolerance, worse=True)


def _not_worse(metric: SuiteMetric) -> PairedRae:
    return PairedRae(gap=metric.margin, worse=False)
