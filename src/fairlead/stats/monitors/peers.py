"""One slow replica among its peers, at the same time.

In each round as many times of each replica are averaged (of logarithms). While all are alike, each
is as likely as any other to be the slowest of m, whatever the hour, the load they share and the
distribution: a bet that a replica is among the j slowest wins q / (j / m) if so, else
(1 - q) / (1 - j / m): mean 1. Against "slower by more than the tolerance" a replica is compared
with its mean divided by 1 + tolerance, which can only lose. Replicas may come and go. Which times
these are, also where one replica has few, is in `fairlead.stats.monitors.rounds`.

All replicas are watched together: there is an alarm when the *sum* of their evidence suffices, so
that the average run length counts the rounds of all of them, and eight replicas raise no more false
alarms per request than one (`fairlead.stats.monitors.evidence`).

The ranks of a round have to be as if drawn anew, whatever the rounds before were. They are not
where each replica has ups and downs of its own that outlast a round (a noisy neighbour, a warm
cache). Bets are tempered by how many rounds such a thing lasts: for ranks that stay the same for at
most so many rounds the run length then holds, for other dependence it is an approximation.
`rounds_alike` estimates it from an honest time. It cannot tell an accident from a fault that comes
and goes as often in that time.

Where the balancer does not give each replica the same load, times are to be taken relative to what
is usual at that load (`SlownessWatch.relative`), or a busy replica is taken for a slow one. What is
known to be at least so slow counts where a replica has little else, and may show it to be slow;
beside it none is that is at a load which was learnt: in their ranks it is slower than they are. Two
such replicas are compared by their times and loads (`fairlead.stats.monitors.unlearnt`). All this
only makes a rank better than it is, and a bet lose.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TypedDict

from fairlead.stats.monitors.evidence import (
    RUN_LENGTH,
    Evidence,
    alarm_level,
    check_design_effect,
    log_sum,
)
from fairlead.stats.monitors.rounds import Rounded, RoundState, RoundTimes
from fairlead.stats.monitors.timings import Timing, classes_of, design_effect_of

PER_ROUND = 10
ABSENT_MAX = 20
"""After so many rounds without a time of a replica, its evidence is dropped."""
PEERS_MAX = 1_000
HONEST_ROUNDS_MIN = 120
"""Fewer rounds say too little about how long a replica's own ups and downs last."""
_BETS = ((1, 0.3), (1, 0.5), (1, 0.75), (1, 0.95), (2, 0.6), (2, 0.9))


class PeerState(TypedDict):
    """What a `PeerWatch` has to remember, in JSON's types; by replica.

    `round`: the times of the round under way.
    `absent`: rounds in a row without any, of those that there is evidence about.
    """

    rounds: int
    round: RoundState
    evidence: dict[str, list[float]]
    absent: dict[str, int]
    silent: list[str]
    slow: str | None


class PeerWatch:
    """Evidence that one replica is slower than its peers."""

    def __init__(
        self,
        *,
        tolerance: float = 0.1,
        per_round: int = PER_ROUND,
        run_length: float = RUN_LENGTH,
        design_effect: float = 1.0,
    ) -> None:
        """
        Args:
            tolerance: Ratio by which a replica may be slower than the slowest of the others.
            per_round: Times of each replica in a round, where all have as many.
            run_length: Rounds of one replica between two false alarms of all, on average.
            design_effect: For how many rounds at most a replica stays slow by accident, as
                `rounds_alike` tells; 1 if each round is drawn anew.
        """
        if not (0.0 <= tolerance < 10.0 and 1 <= per_round <= 10_000):
            raise ValueError(
                f"tolerance={tolerance} must be in [0, 10), per_round={per_round} >= 1"
            )
        self._allowed = math.log1p(tolerance)
        self._per_round = per_round
        self._power = check_design_effect(design_effect)
        self._level = alarm_level(run_length)
        self._round = RoundTimes(per_round)
        self._evidence: dict[str, Evidence] = {}
        self._absent: dict[str, int] = {}
        self._rounds = 0
        self._means: dict[str, float] = {}
        self._silent: list[str] = []
        self._slow: str | None = None

    @property
    def rounds(self) -> int:
        """Rounds so far."""
        return self._rounds

    @property
    def silent(self) -> list[str]:
        """Replicas without a time in the last round: slow, idle or gone."""
        return list(self._silent)

    @property
    def slow(self) -> str | None:
        """The replica that was shown to be slow; None if none was."""
        return self._slow

    @property
    def log_evidence(self) -> dict[str, float]:
        """log(1 + R) of each replica."""
        return {name: evidence.log for name, evidence in self._evidence.items()}

    def update(self, replica: str, value: float, *, unlearnt: Timing | None = None) -> str | None:
        """Take in a time of a replica, in any unit; the replica that is slow, or None.

        Args:
            unlearnt: The time itself, where nobody has learnt what is usual at its load: relative
                to that it may be more than `value`.

        Raises:
            ValueError: The value is none, or there are more than `PEERS_MAX` replicas.
        """
        if not 0.0 < value < math.inf:
            raise ValueError(f"time {value} of replica {replica!r}: must be a number above 0")
        if unlearnt is not None:
            classes_of(unlearnt)  # raises for one that is none
        known = self._round.replicas
        if replica not in known and len(known) >= PEERS_MAX:
            raise ValueError(f"replica {replica!r}: there are {PEERS_MAX} already")
        self._round.add(replica, value, unlearnt)
        if self._round.is_over(replica):
            self._settle()
        return self._slow

    def forget(self, replica: str) -> None:
        """A replica has gone: its evidence goes with it."""
        self._round.forget(replica)
        self._drop(replica)
        if self._slow == replica:
            self._slow = None

    def state(self) -> PeerState:
        """Everything that `restore` needs to go on with identical results."""
        return PeerState(
            rounds=self._rounds,
            round=self._round.state(),
            evidence={name: evidence.state() for name, evidence in self._evidence.items()},
            absent=dict(self._absent),
            silent=list(self._silent),
            slow=self._slow,
        )

    def restore(self, state: PeerState) -> None:
        """Go on from a state of a watch made with the same arguments; `ValueError` if damaged."""
        kept, absent = state["evidence"], state["absent"]
        under_way = state.get("round")  # without, as before: the round begins anew
        fits = (
            state["rounds"] >= 0
            and (under_way is None or len(under_way["known"]) <= PEERS_MAX)
            and set(absent) == set(kept)
            and len(kept) <= PEERS_MAX
            and all(isinstance(name, str) for name in state["silent"])
            and isinstance(state["slow"], str | None)
            and all(isinstance(n, int) and 0 <= n < ABSENT_MAX for n in absent.values())
        )
        if not fits:
            raise ValueError("damaged state of a comparison of replicas")
        evidence = {name: Evidence([1.0] * len(_BETS)) for name in kept}
        for name, sums in kept.items():
            evidence[name].restore(sums)
        times = RoundTimes(self._per_round)
        if under_way is not None:
            times.restore(under_way)
        self._evidence, self._absent, self._round = evidence, dict(absent), times
        self._rounds, self._silent, self._slow = state["rounds"], state["silent"], state["slow"]

    def _settle(self) -> None:
        """Rank the replicas of the round, and bet."""
        before = set(self._round.replicas)
        rounded = self._round.settle()
        self._silent = sorted(before - set(rounded))
        self._rounds += 1
        self._means = {name: each.mean for name, each in rounded.items()}
        if len(rounded) < 2:
            return
        for name, own in rounded.items():
            slower = sum(
                not _is_faster(other, own, self._allowed)
                for peer, other in rounded.items()
                if peer != name
            )
            evidence = self._evidence.setdefault(name, Evidence([1.0] * len(_BETS)))
            evidence.update([math.exp(self._power * step) for step in _steps(slower, len(rounded))])
        self._drop_absent(rounded)
        if self._slow is None:
            self._look()

    def _drop_absent(self, present: Collection[str]) -> None:
        """Forget replicas that are gone. Less evidence only makes a false alarm rarer."""
        for name in self._evidence:
            self._absent[name] = 0 if name in present else self._absent.get(name, 0) + 1
        longest = sorted(self._absent, key=lambda name: -self._absent[name])
        for place, name in enumerate(longest):
            if self._absent[name] < ABSENT_MAX and place >= len(longest) - PEERS_MAX:
                break
            self._drop(name)

    def _drop(self, replica: str) -> None:
        self._evidence.pop(replica, None)
        self._absent.pop(replica, None)

    def _look(self) -> None:
        """An alarm is about the replica with the most evidence, also if it has just gone."""
        logs = {name: evidence.log for name, evidence in self._evidence.items()}
        # The sum of R over replicas, one more: each log is log(1 + R).
        total = log_sum(logs.values())
        others = math.log(max(len(logs) - 1, 1))
        if total >= self._level and total + math.log1p(-math.exp(others - total)) >= self._level:
            self._slow = max(logs, key=lambda name: logs[name])


def rounds_alike(times: Iterable[tuple[str, float]], per_round: int = PER_ROUND) -> float:
    """For how many rounds a replica's own ups and downs last: a design effect, 1 or more.

    Args:
        times: Replica and time, of an honest time, in the order in which they would be watched.
        per_round: As the watch has it.

    Returns:
        The largest of all replicas, of how far its rounds are from the mean of the others'.

    Raises:
        ValueError: No replica has `HONEST_ROUNDS_MIN` rounds beside others.
    """
    watch, apart = PeerWatch(per_round=per_round), dict[str, list[float]]()
    for replica, value in times:
        before = watch.rounds
        watch.update(replica, value)
        means = watch._means
        if watch.rounds == before or len(means) < 2:
            continue
        total = math.fsum(means.values())
        for name, mean in means.items():
            apart.setdefault(name, []).append(mean - (total - mean) / (len(means) - 1))
    known = [each for each in apart.values() if len(each) >= HONEST_ROUNDS_MIN]
    if not known:
        raise ValueError(
            f"no replica has {HONEST_ROUNDS_MIN} rounds of {per_round} times: take a longer time"
        )
    return max(design_effect_of(each) for each in known)


def _is_faster(peer: Rounded, accused: Rounded, tolerated: float) -> bool:
    """Whether the round shows it, by more than this."""
    if not peer.is_least:
        return peer.mean < accused.mean - tolerated
    if peer.unlearnt is None or accused.unlearnt is None:
        return False
    return peer.unlearnt.is_faster_than(accused.unlearnt, tolerated)


def _steps(slower: int, peers: int) -> list[float]:
    """Logarithm of each bet's factor for a replica with so many slower peers."""
    steps = []
    for among, hope in _BETS:
        chance = among / peers
        if hope <= chance:
            steps.append(0.0)
        else:
            won = slower < among
            steps.append(math.log(hope / chance if won else (1.0 - hope) / (1.0 - chance)))
    return steps
