"""One slow replica among its peers, at the same time.

In each round the first so many times of each replica are averaged (of logarithms). While all are
alike, each is as likely as any other to be the slowest of m, whatever the hour, the load they share
and the distribution: a bet that a replica is among the j slowest wins q / (j / m) if so, else
(1 - q) / (1 - j / m): mean 1. Against "slower by more than the tolerance" a replica is compared
with its mean divided by 1 + tolerance, which can only lose. Replicas may come and go.

All replicas are watched together: there is an alarm when the *sum* of their evidence suffices, so
that the average run length counts the rounds of all of them, and eight replicas raise no more false
alarms per request than one (`fairlead.stats.monitors.evidence`).

Where the balancer does not give each replica the same load, times are to be taken relative to what
is usual at that load (`SlownessWatch.relative`), or a busy replica is taken for a slow one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

from fairlead.stats.monitors.evidence import RUN_LENGTH, Evidence, alarm_level, log_sum

PER_ROUND = 10
PATIENCE = 6
"""A round ends without the replicas that have too few times when so many rounds' worth came."""
PEERS_MAX = 1_000
_BETS = ((1, 0.3), (1, 0.5), (1, 0.75), (1, 0.95), (2, 0.6), (2, 0.9))


class PeerState(TypedDict):
    """What a `PeerWatch` has to remember, in JSON's types; by replica."""

    rounds: int
    times: dict[str, list[float]]
    logs: dict[str, list[float]]
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
    ) -> None:
        """
        Args:
            tolerance: Ratio by which a replica may be slower than the slowest of the others.
            per_round: Times of each replica in a round.
            run_length: Rounds of one replica between two false alarms of all, on average.
        """
        if not (0.0 <= tolerance < 10.0 and 1 <= per_round <= 10_000):
            raise ValueError(
                f"tolerance={tolerance} must be in [0, 10), per_round={per_round} >= 1"
            )
        self._allowed = math.log1p(tolerance)
        self._per_round = per_round
        self._level = alarm_level(run_length)
        self._times: dict[str, list[float]] = {}
        self._evidence: dict[str, Evidence] = {}
        self._rounds = 0
        self._silent: list[str] = []
        self._slow: str | None = None

    @property
    def rounds(self) -> int:
        """Rounds so far."""
        return self._rounds

    @property
    def silent(self) -> list[str]:
        """Replicas with too few times in the last round: slow, idle or gone."""
        return list(self._silent)

    @property
    def slow(self) -> str | None:
        """The replica that was shown to be slow; None if none was."""
        return self._slow

    @property
    def log_evidence(self) -> dict[str, float]:
        """log(1 + R) of each replica."""
        return {name: evidence.log for name, evidence in self._evidence.items()}

    def update(self, replica: str, value: float) -> str | None:
        """Take in a time of a replica, in any unit; the replica that is slow, or None.

        Raises:
            ValueError: The value is none, or there are more than `PEERS_MAX` replicas.
        """
        if not 0.0 < value < math.inf:
            raise ValueError(f"time {value} of replica {replica!r}: must be a number above 0")
        times = self._times.setdefault(replica, [0.0, 0.0, 0.0])
        if len(self._times) > PEERS_MAX:
            del self._times[replica]
            raise ValueError(f"replica {replica!r}: there are {PEERS_MAX} already")
        times[0] += 1.0
        if times[1] < self._per_round:
            times[1] += 1.0
            times[2] += math.log(value)
        if self._is_round_over():
            self._settle()
        return self._slow

    def forget(self, replica: str) -> None:
        """A replica has gone: its evidence goes with it."""
        self._times.pop(replica, None)
        self._evidence.pop(replica, None)
        if self._slow == replica:
            self._slow = None

    def state(self) -> PeerState:
        """Everything that `restore` needs to go on with identical results."""
        return PeerState(
            rounds=self._rounds,
            times={name: list(times) for name, times in self._times.items()},
            logs={name: evidence.state() for name, evidence in self._evidence.items()},
            silent=list(self._silent),
            slow=self._slow,
        )

    def restore(self, state: PeerState) -> None:
        """Go on from a state of a watch made with the same arguments; `ValueError` if damaged."""
        times, logs = state["times"], state["logs"]
        fits = (
            state["rounds"] >= 0
            and len(times) <= PEERS_MAX
            and len(logs) <= PEERS_MAX
            and all(
                len(each) == 3
                and 0 <= each[1] <= min(each[0], self._per_round)
                and all(math.isfinite(number) for number in each)
                for each in times.values()
            )
        )
        if not fits:
            raise ValueError("damaged state of a comparison of replicas")
        evidence = {name: Evidence([1.0] * len(_BETS)) for name in logs}
        for name, kept in logs.items():
            evidence[name].restore(kept)
        self._evidence = evidence
        self._times = {name: list(map(float, each)) for name, each in times.items()}
        self._rounds, self._silent, self._slow = state["rounds"], state["silent"], state["slow"]

    def _is_round_over(self) -> bool:
        counts = self._times.values()
        if all(times[1] >= self._per_round for times in counts) and len(self._times) > 1:
            return True
        return sum(times[0] for times in counts) >= PATIENCE * self._per_round * max(
            len(self._times), 2
        )

    def _settle(self) -> None:
        """Rank the replicas with enough times, and bet."""
        means = {
            name: times[2] / times[1]
            for name, times in self._times.items()
            if times[1] >= self._per_round
        }
        self._silent = sorted(set(self._times) - set(means))
        self._times = {name: [0.0, 0.0, 0.0] for name in means}
        self._rounds += 1
        if len(means) < 2:
            return
        for name, mean in means.items():
            slower = sum(
                other >= mean - self._allowed for peer, other in means.items() if peer != name
            )
            evidence = self._evidence.setdefault(name, Evidence([1.0] * len(_BETS)))
            evidence.update(_steps(slower, len(means)))
        if self._slow is None:
            self._look(means)

    def _look(self, means: Mapping[str, float]) -> None:
        logs = {name: evidence.log for name, evidence in self._evidence.items()}
        # The sum of R over replicas, one more: each log is log(1 + R).
        total = log_sum(logs.values())
        others = math.log(max(len(logs) - 1, 1))
        if total >= self._level and total + math.log1p(-math.exp(others - total)) >= self._level:
            self._slow = max(means, key=lambda name: logs[name])


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
