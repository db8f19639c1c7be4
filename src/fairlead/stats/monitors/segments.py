"""Gaps between declared segments of live traffic, on the same outcome, among comparable requests.

Live users are not assigned by a coin: a segment may ask harder things. So outcomes are compared
within strata (what is asked, how long, which release) and within blocks of requests that came one
after another. Given how many of a block's outcomes are bad, and how many are the segment's, under
"within a stratum the segment makes no difference" the bad ones fall on its members like balls from
an urn: hypergeometrically, whatever the rate is and however it drifts between blocks (Fisher 1935;
Mantel, Haenszel 1959). A bet on an odds ratio psi multiplies its capital by psi^k / E[psi^K], k of
the segment's outcomes being bad: mean exactly 1. Where a gap is known and accepted, null is every
odds ratio up to the accepted one: k is then noncentral hypergeometric (Fisher 1935), and larger for
a larger odds ratio in the sense that the mean of psi^K is, so that E at the accepted one bounds it.

That needs outcomes that are not copies of each other, and no exponent makes up for copies: the mean
of psi^K is taken over single balls. So a session counts once in a stratum, with its first outcome.
A block also ends when the next outcome came too long after its first: over days the rate and the
segment's share may drift together, which would be taken for a gap.

What it cannot know: a difference within a stratum that comes from something that was not declared.
It shows a gap, not its cause; `counterfactual` shows causes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from fairlead.stats.monitors.evidence import log_sum
from fairlead.stats.special import sum_of_logs

BLOCK = 40
"""Outcomes of a stratum that are compared with each other."""
SPAN_S = 3 * 3600.0
"""Outcomes further apart than this are not compared: a block that has begun earlier is closed."""
SESSIONS_MAX = 1_000
"""A session counts once; it is forgotten when so many others (of any stratum) came after it."""
STRATA_MAX = 256
LOG_ODDS_MAX = 5.0
"""Of what is taken for harmless: an odds ratio of 148."""
ODDS_RATIOS = (1.3, 1.7, 2.4, 4.0, 8.0)
_BETS = (*ODDS_RATIOS, *(1.0 / ratio for ratio in ODDS_RATIOS))
RESTART_EVERY = 25
RESTART_WEIGHT = 0.2


class SegmentState(TypedDict):
    """What a `SegmentGap` has to remember, in JSON's types.

    `harmless`: the logarithms of odds ratios between which nothing is a gap. `odds`: the sums of
    Mantel and Haenszel's odds ratio. `open`: by stratum, the bad and good outcomes of the segment,
    then of the others; `begun`: when its block began. `sessions`: hashes of those that have
    counted, the latest last.
    """

    harmless: list[float]
    odds: list[float]
    blocks: int
    starts: int
    totals: list[int]
    open: dict[str, list[int]]
    begun: dict[str, float]
    sessions: list[str]
    logs: list[float]
    log_e_max: float


class SegmentGap:
    """Evidence that one segment's outcomes are worse, or better, than those of all others."""

    def __init__(self, harmless: Sequence[float] = (0.0, 0.0)) -> None:
        """`harmless`: logarithms of odds ratios, at most 0 and at least 0: no gap between."""
        if not _is_harmless(harmless):
            raise ValueError(
                f"logarithms of harmless odds ratios {list(harmless)}: must be two, from at most 0 "
                f"to at least 0, and within {LOG_ODDS_MAX}"
            )
        self._harmless = (float(harmless[0]), float(harmless[1]))
        self._odds = [0.0, 0.0]
        self._first = -math.log(len(_BETS))
        self._logs = [math.log(1.0 - RESTART_WEIGHT) + self._first] * len(_BETS)
        self._open: dict[str, list[int]] = {}
        self._begun: dict[str, float] = {}
        self._sessions: dict[str, None] = {}
        self._totals = [0, 0, 0, 0]
        self._blocks = 0
        self._starts = 1
        self._log_e_max = 0.0

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return log_sum([*self._logs, math.log(RESTART_WEIGHT / self._starts)])

    @property
    def log_e_max(self) -> float:
        """Its highest value so far: at log(m/alpha) there is a gap, of m comparisons."""
        return self._log_e_max

    @property
    def rates(self) -> tuple[float, float] | None:
        """Share of bad outcomes in the segment and among the others; None before both have some.

        Over all strata together: for the eye, not for the verdict.
        """
        bad, good, others_bad, others_good = self._totals
        if not (bad + good and others_bad + others_good):
            return None
        return bad / (bad + good), others_bad / (others_bad + others_good)

    @property
    def harmless(self) -> tuple[float, float]:
        """Logarithms of the odds ratios between which nothing is a gap."""
        return self._harmless

    @property
    def log_odds_ratio(self) -> float:
        """Logarithm of the odds ratio of a bad outcome, within strata (Mantel, Haenszel 1959).

        Above 0 where the segment has more bad ones; drawn to 0 where few are known.
        """
        more, fewer = self._odds
        log = math.log((more + 0.5) / (fewer + 0.5))
        return min(max(log, -LOG_ODDS_MAX), LOG_ODDS_MAX)

    def beyond(self, tolerated: float) -> SegmentGap:
        """A test of whether the gap becomes larger than it is by now: a new one.

        `tolerated`: factor of the odds ratio up to which it may.
        """
        low, high = self._harmless
        found, more = self.log_odds_ratio, math.log(tolerated)
        if found > 0.0:
            high = min(max(high, found + more), LOG_ODDS_MAX)
        elif found < 0.0:
            low = max(min(low, found - more), -LOG_ODDS_MAX)
        return SegmentGap((low, high))

    def update(
        self, stratum: str, member: bool, bad: bool, *, at: float, session: str | None = None
    ) -> None:
        """Take in an outcome.

        Args:
            stratum: Among which requests it is compared.
            member: Whether it is of the segment.
            bad: Whether it is bad.
            at: When its request came, in seconds of any clock.
            session: What shares a fate (a conversation, a user). Only the first outcome of each
                counts in a stratum; None if each request is by itself.

        Raises:
            ValueError: The time is none, or it is one stratum more than `STRATA_MAX`.
        """
        if not math.isfinite(at):
            raise ValueError(f"time {at} of an outcome: must be a finite number of seconds")
        counts = self._open.get(stratum)
        if counts is None and len(self._open) >= STRATA_MAX:
            raise ValueError(f"stratum {stratum!r}: there are {STRATA_MAX} already; merge some")
        if session is not None and self._has_counted(stratum, session):
            return
        if counts is None or abs(at - self._begun[stratum]) > SPAN_S:
            if counts is not None:
                self._settle(counts)
            counts = self._open[stratum] = [0, 0, 0, 0]
        if not sum(counts):
            self._begun[stratum] = at
        place = (0 if member else 2) + (not bad)
        counts[place] += 1
        self._totals[place] += 1
        if sum(counts) >= BLOCK:
            self._open[stratum] = [0, 0, 0, 0]
            self._settle(counts)

    def state(self) -> SegmentState:
        """Everything that `restore` needs to go on with identical results."""
        return SegmentState(
            harmless=list(self._harmless),
            odds=list(self._odds),
            blocks=self._blocks,
            starts=self._starts,
            totals=list(self._totals),
            open={name: list(counts) for name, counts in self._open.items()},
            begun=dict(self._begun),
            sessions=list(self._sessions),
            logs=list(self._logs),
            log_e_max=self._log_e_max,
        )

    def restore(self, state: SegmentState) -> None:
        """Go on from a state; `ValueError`, and nothing changes, if it is damaged."""
        waiting, logs = state["open"], state["logs"]
        begun, sessions = state["begun"], state["sessions"]
        fits = (
            len(logs) == len(_BETS)
            and all(math.isfinite(log) for log in [*logs, state["log_e_max"]])
            and _is_harmless(state["harmless"])
            and len(state["odds"]) == 2
            and all(0.0 <= each < math.inf for each in state["odds"])
            and len(waiting) <= STRATA_MAX
            and all(_is_counts(counts) and sum(counts) < BLOCK for counts in waiting.values())
            and set(begun) == set(waiting)
            and all(math.isfinite(at) for at in begun.values())
            and len(sessions) == len(set(sessions)) <= SESSIONS_MAX
            and all(isinstance(each, str) for each in sessions)
            and _is_counts(state["totals"])
            and state["blocks"] >= 0
            and state["starts"] >= 1
            and state["log_e_max"] >= 0.0
        )
        if not fits:
            raise ValueError("damaged state of a test for gaps between segments")
        low, high = state["harmless"]
        self._harmless, self._odds = (float(low), float(high)), list(map(float, state["odds"]))
        self._logs = list(map(float, logs))
        self._open = {name: list(counts) for name, counts in waiting.items()}
        self._begun = {name: float(at) for name, at in begun.items()}
        self._sessions = dict.fromkeys(sessions)
        self._totals = list(state["totals"])
        self._blocks, self._starts = state["blocks"], state["starts"]
        self._log_e_max = state["log_e_max"]

    def _has_counted(self, stratum: str, session: str) -> bool:
        """Whether it has, lately; from now on it has."""
        name = f"{stratum}\0{session}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(name, digest_size=6).hexdigest()
        known = key in self._sessions
        self._sessions.pop(key, None)
        self._sessions[key] = None
        if len(self._sessions) > SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        return known

    def _settle(self, counts: Sequence[int]) -> None:
        """Bet a block that is full, or as large as it became in its time."""
        bad, good, others_bad, others_good = counts
        steps = _steps(bad, bad + good, bad + others_bad, sum(counts), self._harmless)
        self._odds[0] += bad * others_good / sum(counts)
        self._odds[1] += good * others_bad / sum(counts)
        self._logs = [log + step for log, step in zip(self._logs, steps, strict=True)]
        self._log_e_max = max(self._log_e_max, self.log_e)
        self._blocks += 1
        if self._blocks >= self._starts * RESTART_EVERY:
            share = math.log(RESTART_WEIGHT / (self._starts * (self._starts + 1))) + self._first
            self._logs = [sum_of_logs(log, share) for log in self._logs]
            self._starts += 1


def gaps(
    tests: Mapping[str, SegmentGap], alpha: float, comparisons: int | None = None
) -> list[str]:
    """The segments that differ, the most evident first: any false one with probability alpha.

    `comparisons`: how many are made in all, if more than these tests (other outcomes).
    """
    made = len(tests) if comparisons is None else comparisons
    if not (0.0 < alpha < 1.0 and made >= len(tests)):
        raise ValueError(f"alpha={alpha} must be in (0, 1), {made} comparisons >= {len(tests)}")
    level = math.log(max(made, 1) / alpha)
    found = [(test.log_e_max, name) for name, test in tests.items() if test.log_e_max >= level]
    return [name for _, name in sorted(found, key=lambda each: (-each[0], each[1]))]


def _steps(
    member_bad: int, members: int, bad: int, n: int, harmless: Sequence[float] = (0.0, 0.0)
) -> list[float]:
    """Logarithm of each bet's factor, for so many of the bad that are the members'."""
    least, most = max(0, bad - (n - members)), min(bad, members)
    if least == most:
        return [0.0] * len(_BETS)
    ways = [
        _log_choose(members, k) + _log_choose(n - members, bad - k) for k in range(least, most + 1)
    ]
    low, high = harmless
    steps = []
    for log in map(math.log, _BETS):
        null = high if log > 0.0 else low
        at_most = _log_mean(ways, null + log) - _log_mean(ways, null)
        steps.append((member_bad - least) * log - at_most)
    return steps


def _log_mean(ways: Sequence[float], log_odds: float) -> float:
    return log_sum(way + i * log_odds for i, way in enumerate(ways))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _is_harmless(logs: Sequence[float]) -> bool:
    return len(logs) == 2 and -LOG_ODDS_MAX <= logs[0] <= 0.0 <= logs[1] <= LOG_ODDS_MAX


def _is_counts(counts: Sequence[int]) -> bool:
    return len(counts) == 4 and all(isinstance(count, int) and count >= 0 for count in counts)
