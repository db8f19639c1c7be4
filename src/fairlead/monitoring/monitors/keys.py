"""One key whose requests have become slower, while those of the others have not.

Each time is taken relative to what is usual at its length and with as many requests open (`Usual`),
and to how much slower the other keys are at the moment, with requests of the same kind and lengths:
what slows all of them is for `latency` and `throughput`, and while no other key asks the like
nothing is said. What came in the seconds before would be no measure of load: where much comes for
long, ever more is open, and a key that comes only then would be slow by that.

A key's first times of a kind say how large they are; then it is watched how often they are larger
than seven of ten of these by more than is tolerated. So a key that comes to ask for something else
is compared with nothing until that is known, too.

Only the busiest keys are watched. That takes nothing from the guarantee: a false alarm of any of
them comes as rarely, in observations of all of them together, as one of a single watch
(`fairlead.stats.monitors.evidence`). `latency` and `throughput` share their run length with it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple

from fairlead.domain.outcomes import CLIENT_ERRORS, SHADOW
from fairlead.domain.recorded import RecordedRequest
from fairlead.domain.text_signals import length_class
from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.intake import DAY_S, Expected
from fairlead.monitoring.monitors.interface import Document, Seen
from fairlead.monitoring.monitors.key_paces import Others, Pace
from fairlead.monitoring.monitors.of_release import ReleaseMonitor, minutes_since
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.stats.monitors.paces import SLOPES_OF, Lengths, Usual

Measure = Literal["latency", "throughput"]
MEASURES: tuple[Measure, ...] = ("latency", "throughput")
KEYS_MAX = 20
"""So many keys are watched, the busiest first."""
COUNTED_MAX = 500
"""Of so many it is known how busy they are."""
CHOOSE_EVERY = 500
"""Requests from one choice of keys to the next."""
MEMORY = 0.98
"""What counts of a request at the next choice."""
BUSIER = 2.0
"""So many times as busy another key has to be to be watched instead of one that is."""
TOLERANCE = 0.2
"""Keys differ for reasons of their own: less than this is no alarm, whatever is declared."""
WORDS = {"latency": "requests", "throughput": "tokens of streams"}
_Name = tuple[str, Measure, str]
"""A key, a measure and a group of requests."""


class Timed(NamedTuple):
    """One time of a request."""

    measure: Measure
    value: float
    group: str
    lengths: Lengths


class SlowKeyMonitor(ReleaseMonitor):
    """Times of each of the busiest keys, against its own first ones.

    Args:
        name_of: Name of an API key, by its id in records.
    """

    name = "slow_key"
    loads = "requests open"
    expects: ClassVar[Expected] = Expected(
        "answers", 5_000, DAY_S, "times of its busiest keys at loads and lengths that it has learnt"
    )

    def __init__(
        self,
        service: str,
        release: str,
        settings: MonitorSettings,
        *,
        name_of: Callable[[str], str] = str,
    ) -> None:
        self._name_of = name_of
        super().__init__(service, release, settings)

    def accept(self) -> None:
        """Learn anew."""
        self.taken: Counter[str] = Counter()
        self._usual: dict[Measure, Usual] = {measure: Usual() for measure in MEASURES}
        self._others = Others()
        self._counts: dict[str, float] = {}
        self._until_choice = CHOOSE_EVERY
        self._watched: list[str] = []
        self._paces: dict[_Name, Pace] = {}

    def see(self, seen: Seen) -> None:
        """Requests with a key that were answered well count."""
        request = seen.request
        if seen.failed or request.status >= CLIENT_ERRORS or request.arm == SHADOW:
            return
        key = request.key[:256]
        if not key or not 0.0 <= seen.open < math.inf:
            return
        self._count(key)
        for timed in times_of(request):
            usual = self._usual[timed.measure]
            log = usual.relative(timed.value, seen.open, timed.group, timed.lengths, key)
            if log is None:
                continue
            others = self._others.beside(key, timed.group, request.started_at)
            self._others.add(key, timed.group, log, request.started_at)
            if others is not None:
                self.taken[""] += 1
                name = (key, timed.measure, timed.group)
                self._take(name, log - max(0.0, others), request.started_at)

    def conditions(self, now: float) -> list[Condition]:
        """One for each key and measure that has become slower."""
        slowest: dict[tuple[str, Measure], Pace] = {}
        for (key, measure, _), pace in self._paces.items():
            known = slowest.get((key, measure))
            if pace.is_slower and (known is None or pace.factor > known.factor):
                slowest[key, measure] = pace
        return [self._slower(*of, pace, now) for of, pace in slowest.items()]

    def standing(self) -> str:
        """How far it is, and what it does not watch.

        A key is learnt once what is usual is known of one kind of its requests.
        """
        if not self._watched:
            first = max(usual.learnt for usual in self._usual.values())
            return f"learning, {first} of {SLOPES_OF} requests with a key"
        keys, known = len(self._watched), len(self._counts)
        if known < 2:
            return "watching, but there are no two keys to compare"
        learnt = {key for (key, _, _), pace in self._paces.items() if pace.is_learnt}
        new = sum(key not in learnt for key in self._watched)
        still = f", {new} of them not learnt yet" if new else ""
        if known <= keys:
            return f"watching {keys} keys{still}"
        total = math.fsum(self._counts.values())
        share = math.fsum(self._counts.get(key, 0.0) for key in self._watched) / total
        return (
            f"watching the {keys} busiest keys, with {100.0 * share:.0f}% of the requests{still}; "
            f"not {known - keys:,} others"
        )

    def self_test(self) -> str:
        """Three keys, one of which becomes slower by far."""
        slow = 3.0 * (1.0 + self._tolerance)

        def feed(monitor: SlowKeyMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            key = "abc"[number % 3]
            pace = math.exp(dice.gauss(0.0, 0.2)) * (slow if faulty and key == "b" else 1.0)
            made = Made(key=key, started_at=float(number), ttft_ms=100.0 * pace, itl_ms=20.0 * pace)
            see(monitor, made)

        made = SlowKeyMonitor("self-test", self.release, self._small())
        wrong = tested(made, 2_600, 1_500, feed)
        found = {dict(one.labels)["key"] for one in made.conditions(5e3)}
        return wrong or ("" if found == {"b"} else "named another key")

    @property
    def _tolerance(self) -> float:
        return max(self.settings.tolerance, TOLERANCE)

    def _take(self, name: _Name, log: float, at: float) -> None:
        pace = self._paces.get(name)
        if pace is None:
            pace = self._paces[name] = self._new_pace()
        pace.take(log, at)

    def _new_pace(self) -> Pace:
        return Pace(self._tolerance, self.settings.times_run_length)

    def _count(self, key: str) -> None:
        counts = self._counts
        if key not in counts and len(counts) >= COUNTED_MAX:
            # The least busy one makes room, with what it had: it may be the busier one (Metwally,
            # Agrawal, El Abbadi 2005, the space-saving sketch).
            idle = (each for each in counts if each not in self._watched)
            spare = min(idle, key=counts.__getitem__)
            counts[key] = counts.pop(spare)
        counts[key] = counts.get(key, 0.0) + 1.0
        self._until_choice -= 1
        if not self._until_choice:
            self._until_choice = CHOOSE_EVERY
            self._choose()

    def _choose(self) -> None:
        """The busiest are watched; who is told of now stays."""
        told = {key for (key, _, _), pace in self._paces.items() if pace.is_slower}
        ranked = sorted(self._counts, key=lambda key: -self._counts[key])
        others = [key for key in ranked[:KEYS_MAX] if key not in self._watched]
        for key in others:
            if len(self._watched) < KEYS_MAX:
                self._watched.append(key)
                continue
            idle = min(
                (each for each in self._watched if each not in told),
                key=self._counts.__getitem__,
                default=None,
            )
            if idle is None or self._counts[key] < BUSIER * self._counts[idle]:
                break
            self._watched[self._watched.index(idle)] = key
            self._paces = {name: pace for name, pace in self._paces.items() if name[0] != idle}
        self._others.watch(self._watched)
        self._counts = {
            key: MEMORY * count
            for key, count in self._counts.items()
            if count >= 0.5 or key in self._watched
        }

    def _slower(self, key: str, measure: Measure, pace: Pace, now: float) -> Condition:
        who = self._name_of(key)
        return self._condition(
            Severity.TICKET,
            f"{WORDS[measure]} of key {who} take {pace.factor:.2f} times as long as they did, at "
            "the same load and length, and those of other keys do not",
            [
                Figure("times as long, about", pace.factor, "", 1.0 + self._tolerance),
                *minutes_since(pace.began_at, now),
                Figure("keys watched", float(len(self._watched))),
            ],
            Baseline(Compared.ANSWERED, pace.learnt_since),
            key=who,
            outcome=measure,
        )

    def _remembered(self) -> Document:
        return {
            "usual": {name: usual.state() for name, usual in self._usual.items()},
            "others": self._others.state(),
            "counts": list(self._counts.items()),
            "until_choice": self._until_choice,
            "watched": list(self._watched),
            "paces": [[*name, pace.state()] for name, pace in self._paces.items()],
        }

    def _recall(self, state: Document) -> None:
        """Into another monitor first, so that nothing changes where something is damaged."""
        made = SlowKeyMonitor(self.service, self.release, self.settings, name_of=self._name_of)
        made._take_over(state)
        taken = self.taken
        vars(self).update(vars(made))
        self.taken = taken

    def _take_over(self, state: Document) -> None:
        for measure in MEASURES:
            self._usual[measure].restore(state["usual"][measure])
        self._counts = {str(key): float(count) for key, count in state["counts"]}
        self._until_choice = int(state["until_choice"])
        self._watched = [str(key) for key in state["watched"]]
        self._others.restore(state["others"], self._watched)
        for key, measure, group, kept in state["paces"]:
            pace = self._paces[str(key), _measure(measure), str(group)] = self._new_pace()
            pace.restore(kept)
        fits = (
            len(self._watched) <= KEYS_MAX
            and len(self._counts) <= COUNTED_MAX
            and all(math.isfinite(count) for count in self._counts.values())
            and set(self._watched) <= set(self._counts)
            and {name[0] for name in self._paces} <= set(self._watched)
            and 1 <= self._until_choice <= CHOOSE_EVERY
        )
        if not fits:
            raise ValueError("damaged state of the monitor slow_key")


def times_of(request: RecordedRequest) -> Iterator[Timed]:
    """The times of an answer: to the first token, or of it all; and between tokens."""
    prompt, answer = request.prompt_tokens, request.completion_tokens
    length = str(length_class(prompt)) if prompt >= 0 else "?"
    if request.stream:
        if 0.0 < request.ttft_ms < math.inf:
            yield Timed("latency", request.ttft_ms, f"first {length}", Lengths(prompt, 0))
        if 0.0 < request.itl_ms < math.inf:
            yield Timed("throughput", request.itl_ms, f"between {length}", Lengths(prompt, 0))
        return
    if 0.0 < request.duration_ms < math.inf:
        kind = f"token {length_class(answer)}" if answer > 0 else "whole"
        value = request.duration_ms / max(answer, 1)
        yield Timed("latency", value, f"{kind} {length}", Lengths(prompt, max(answer, 0)))


def _measure(value: Any) -> Measure:
    if value not in MEASURES:
        raise ValueError(f"damaged state of the monitor slow_key: measure {value!r}")
    return "latency" if value == "latency" else "throughput"
