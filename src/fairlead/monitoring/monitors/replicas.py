"""One slow replica among those of a release."""

from __future__ import annotations

import math
import random
from collections import Counter
from statistics import median
from typing import Any, ClassVar, NamedTuple

from fairlead.domain.outcomes import CLIENT_ERRORS
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.intake import TIMES, Expected
from fairlead.monitoring.monitors.interface import Document, Seen
from fairlead.monitoring.monitors.lasting import patience_of
from fairlead.monitoring.monitors.learning_times import TimesLearnt
from fairlead.monitoring.monitors.of_release import ReleaseMonitor, learning, minutes_since
from fairlead.monitoring.monitors.times import GROSS, pace_of
from fairlead.stats.monitors.evidence import alarm_level
from fairlead.stats.monitors.peers import PEERS_MAX, PeerWatch, rounds_alike
from fairlead.stats.monitors.slowness import SlownessWatch
from fairlead.stats.monitors.timings import Timing, TimingReference

ROUNDS_ALIKE = 5.0
"""For how many rounds a replica is taken to stay slow by accident, where it is not learnt."""
GONE_S = 300.0
"""A replica without a request for so long, while others have them, is gone."""
ROUNDS_MIN, ROUNDS_MAX = 20, 500
"""Bounds of how many rounds without the fault end an alarm."""
AGAIN_RUN_LENGTH = 1e4
"""Of the second watch: rounds of a replica in which it takes one for slow by mistake."""
_MEMORY = 0.05


class Slow(NamedTuple):
    """A replica that was shown to be slow.

    Attributes:
        factor: Times as long as the others, at the alarm.
        at: Unix time of the alarm.
        last_at: Unix time of its last request.
        patience: Rounds without the fault that end the alarm.
        quiet: Rounds without it so far.
    """

    factor: float
    at: float
    last_at: float
    patience: int
    quiet: int = 0


class SlowReplicaMonitor(ReleaseMonitor):
    """Times of each replica, relative to the usual at its load, against those of its peers."""

    name = "slow_replica"
    expects: ClassVar[Expected] = TIMES

    def accept(self) -> None:
        """Learn anew."""
        self.taken: Counter[str] = Counter()
        self._learnt = TimesLearnt(self.settings.learn)
        self._first: list[str] = []
        self._reference: TimingReference | None = None
        self._design_effect = ROUNDS_ALIKE
        self._begin()

    def see(self, seen: Seen) -> None:
        """Requests that were answered well by a known replica count."""
        request, load = seen.request, seen.load
        if seen.failed or request.status >= CLIENT_ERRORS or not request.replica:
            return
        value, group = pace_of(request)
        if not (0.0 < value < math.inf and 0.0 <= load < math.inf):
            return
        timing, replica = Timing(value, load, group), request.replica[:256]
        if self._usual is None:
            self.taken[""] += 1
            self._learn(replica, timing)
            return
        relative = self._usual.relative(timing)
        self.taken[""] += relative is not None
        if relative is not None:
            unlearnt = timing if relative.is_least else None
            self._compare(replica, relative.value, unlearnt, request.started_at)

    def conditions(self, now: float) -> list[Condition]:
        """One for each slow replica."""
        return [self._found(replica, slow, now) for replica, slow in self._slow.items()]

    def standing(self) -> str:
        """How far it is."""
        if self._usual is None:
            return learning(len(self._learnt), self.settings.learn)
        if len(self._paces) < 2:
            return "watching, but there are no two replicas to compare"
        return f"watching {len(self._paces)} replicas"

    def self_test(self) -> str:
        """Three replicas, one of which becomes slower by far."""

        def feed(
            monitor: SlowReplicaMonitor, dice: random.Random, faulty: bool, number: int
        ) -> None:
            replica = "abc"[number % 3]
            slower = 3.0 * (1.0 + self.settings.tolerance) if faulty and replica == "b" else 1.0
            time = 20.0 * math.exp(dice.gauss(0.0, 0.2)) * slower
            see(monitor, Made(replica=replica, started_at=float(number), itl_ms=time))

        made = SlowReplicaMonitor("self-test", self.release, self._small())
        wrong = tested(made, 2 * made.settings.learn, 6_000, feed)
        return wrong or ("" if set(made._slow) == {"b"} else "named another replica")

    def _learn(self, replica: str, timing: Timing) -> None:
        before = len(self._learnt)
        reference = self._learnt.add(timing)
        self._first.append(replica)
        if len(self._learnt) <= before:
            self._first = self._first[-len(self._learnt) :]
        if reference is None:
            return
        usual, times = SlownessWatch(reference), list[tuple[str, float]]()
        for name, each in zip(self._first, self._learnt.timings, strict=True):
            relative = usual.relative(each)
            if relative is not None:
                times.append((name, relative.value))
        try:
            self._design_effect = rounds_alike(times)
        except ValueError:  # too few rounds to tell
            self._design_effect = ROUNDS_ALIKE
        self._reference = reference
        self._learnt, self._first = TimesLearnt(self.settings.learn), []
        self._begin()

    def _begin(self) -> None:
        """Begin to compare, with what is learnt; or with nothing, while it is not."""
        self._usual = None if self._reference is None else SlownessWatch(self._reference)
        self._peers = self._peers_of(self.settings.requests_per_false_alarm)
        self._level = alarm_level(self.settings.requests_per_false_alarm)
        self._again: PeerWatch | None = None
        self._slow: dict[str, Slow] = {}
        self._paces: dict[str, float] = {}
        self._calm: dict[str, int] = {}

    def _peers_of(self, run_length: float) -> PeerWatch:
        return PeerWatch(
            tolerance=self.settings.tolerance,
            run_length=run_length,
            design_effect=self._design_effect,
        )

    def _compare(self, replica: str, value: float, unlearnt: Timing | None, at: float) -> None:
        pace = self._paces.get(replica)
        if pace is None and len(self._paces) >= PEERS_MAX:
            return
        log = math.log(value)
        self._paces[replica] = log if pace is None else pace + _MEMORY * (log - pace)
        if replica in self._slow:
            self._slow[replica] = self._slow[replica]._replace(last_at=at)
        if self._again is not None:
            self._look_again(self._again, replica, value, unlearnt)
        peers = self._peers
        before = peers.rounds
        shown = peers.update(replica, value, unlearnt=unlearnt)
        if peers.rounds != before:
            self._round_is_over(at)
        if shown is not None:
            self._hold(shown, at)

    def _round_is_over(self, at: float) -> None:
        logs = self._peers.log_evidence
        for name, log in logs.items():
            if 2.0 * log < self._level:
                self._calm[name] = self._peers.rounds
        known = logs.keys() | self._slow.keys()
        self._calm = {name: n for name, n in self._calm.items() if name in known}
        self._paces = {name: pace for name, pace in self._paces.items() if name in known}
        for name in [n for n, slow in self._slow.items() if at - slow.last_at >= GONE_S]:
            self._let_go(name)

    def _hold(self, replica: str, at: float) -> None:
        """It is slow, or slow again: from now on watch whether it still is."""
        # the logarithm of evidence grows evenly: half of it came since it was half as much
        took = 2 * (self._peers.rounds - self._calm.get(replica, 0))
        others = [pace for name, pace in self._paces.items() if name != replica]
        factor = math.exp(self._paces.get(replica, 0.0) - (median(others) if others else 0.0))
        held = self._slow.get(replica)
        if held is None:
            patience = patience_of(took, ROUNDS_MIN, ROUNDS_MAX)
            self._slow[replica] = Slow(factor, at, at, patience)
        else:
            self._slow[replica] = held._replace(factor=max(factor, held.factor), quiet=0)
        self._peers.forget(replica)
        if self._again is None:
            self._again = self._peers_of(AGAIN_RUN_LENGTH)
        else:
            self._again.forget(replica)

    def _look_again(
        self, again: PeerWatch, replica: str, value: float, unlearnt: Timing | None
    ) -> None:
        before = again.rounds
        shown = again.update(replica, value, unlearnt=unlearnt)
        if shown is not None:
            again.forget(shown)
            if shown in self._slow:
                self._slow[shown] = self._slow[shown]._replace(quiet=0)
        if again.rounds == before:
            return
        for name, slow in list(self._slow.items()):
            if name == shown or name in again.silent or name not in again.log_evidence:
                continue
            self._slow[name] = slow._replace(quiet=slow.quiet + 1)
            if slow.quiet + 1 >= slow.patience:
                self._let_go(name)

    def _let_go(self, replica: str) -> None:
        """It is as fast as the others, or gone: watch it anew."""
        del self._slow[replica]
        self._peers.forget(replica)
        self._calm.pop(replica, None)
        if not self._slow:
            self._again = None

    def _found(self, replica: str, slow: Slow, now: float) -> Condition:
        others = [pace for name, pace in self._paces.items() if name != replica]
        apart = self._paces.get(replica, 0.0) - (median(others) if others else 0.0)
        return self._condition(
            Severity.PAGE if slow.factor >= GROSS else Severity.TICKET,
            f"replica {replica[:100]} took {slow.factor:.2f} times as long as the others for each "
            "token, at the same load",
            [
                Figure(
                    "times as long, at the alarm", slow.factor, "", 1.0 + self.settings.tolerance
                ),
                Figure("times as long now, about", math.exp(apart)),
                Figure("replicas compared", float(len(self._paces))),
                *minutes_since(slow.at, now),
            ],
            replica=replica,
        )

    def _remembered(self) -> Document:
        reference, again = self._reference, self._again
        return {
            "first": self._learnt.state(),
            "first_replicas": list(self._first),
            "reference": None if reference is None else reference.state(),
            "design_effect": self._design_effect,
            "peers": self._peers.state(),
            "again": None if again is None else again.state(),
            "slow": {name: list(slow) for name, slow in self._slow.items()},
            "paces": dict(self._paces),
            "calm": dict(self._calm),
        }

    def _recall(self, state: Document) -> None:
        """Into another monitor first, so that nothing changes where something is damaged."""
        made = SlowReplicaMonitor(self.service, self.release, self.settings)
        made._take_over(state)
        vars(self).update(vars(made))

    def _take_over(self, state: Document) -> None:
        self._learnt.restore(state["first"])
        self._first = list(state["first_replicas"])
        if state["reference"] is not None:
            self._reference = TimingReference.from_state(state["reference"])
        self._design_effect = float(state["design_effect"])
        self._begin()
        self._peers.restore(state["peers"])
        if state["again"] is not None:
            self._again = self._peers_of(AGAIN_RUN_LENGTH)
            self._again.restore(state["again"])
        self._slow = {name: _slow(kept) for name, kept in state["slow"].items()}
        self._paces, self._calm = dict(state["paces"]), dict(state["calm"])
        fits = (
            len(self._first) == len(self._learnt)
            and all(isinstance(name, str) for name in self._first)
            and len(self._paces) <= PEERS_MAX
            and all(math.isfinite(pace) for pace in self._paces.values())
            and all(0 <= n <= self._peers.rounds for n in self._calm.values())
            and (self._again is not None) == bool(self._slow)
        )
        if not fits:
            raise ValueError("damaged state of the monitor slow_replica")


def _slow(kept: list[Any]) -> Slow:
    slow = Slow(*kept)
    if not (
        all(math.isfinite(number) for number in slow)
        and slow.factor > 0.0
        and ROUNDS_MIN <= slow.patience <= ROUNDS_MAX
        and 0 <= slow.quiet < slow.patience
    ):
        raise ValueError(f"damaged state of a slow replica: {kept!r}")
    return slow
