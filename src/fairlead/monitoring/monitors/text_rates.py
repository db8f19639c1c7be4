"""Rates over texts, against the release's own first ones: loops, languages, injection attempts.

Each text has a class: it loops or not, its language, whether it has the sign of an injection. Some
classes are bad; of languages, those that the first half of the learning texts hardly has. The rate
of the bad ones while learning is the reference of a `RateWatch`. An alarm opens a condition, and
it ends as all those of rates do (`lasting`), or when a person accepts what is now: then it learns
anew.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from fairlead.monitoring.monitors.interface import SeenText
from fairlead.monitoring.monitors.lasting import Lasting, lasting_rate
from fairlead.monitoring.monitors.of_release import stored_since
from fairlead.stats.monitors.evidence import made_with
from fairlead.stats.monitors.rates import Counts, RateWatch, Reference, reference_of

HITS_MAX = 200
USUAL_SHARE = 0.01
"""A language with this share of the learning texts is usual."""
CLASS_CHARS_MAX = 64


class Signal(NamedTuple):
    """What is watched of a text.

    Attributes:
        class_of: The class of a text; None if it says nothing.
        bad: The bad classes; None for those that are rare while learning.
        blame: By what bad texts are counted, such as the key; what has most is named.
    """

    name: str
    class_of: Callable[[SeenText], str | None]
    bad: frozenset[str] | None
    blame: Callable[[SeenText, str], str]


class Found(NamedTuple):
    """A rate that has risen.

    Attributes:
        began: Unix time about which it rose.
        learnt_since: Unix time of the first text that it is held against; None if not known.
        rate, rate_least: Share of bad texts since then, and its lower bound at 95 %, at the alarm.
        usual, limit: The share while learning, and what is still no change.
        most: What has most of the bad texts since, and how many of how many.
    """

    began: float
    rate: float
    rate_least: float
    usual: float
    limit: float
    most: str
    of_most: int
    of_all: int
    learnt_since: float | None


class RateStream:
    """One signal, learnt and then watched."""

    def __init__(
        self, signal: Signal, learn: int, run_length: float, design_effect: float = 1.0
    ) -> None:
        self._signal = signal
        self.learn = learn
        self._run_length, self._design_effect = run_length, design_effect
        self._of = made_with(signal.name, signal.bad, learn, run_length, design_effect)
        self.begin()

    def begin(self) -> None:
        """Learn anew."""
        self._learning: list[str] = []
        self._learnt_since: float | None = None
        self._problem = ""
        self._usual: frozenset[str] = frozenset()
        self._lasting: Lasting[RateWatch, float] | None = None
        self._counts = Counts(0.0, 0.0)
        self._seen = 0
        self._since = 0
        self._hits: deque[tuple[int, str]] = deque(maxlen=HITS_MAX)

    @property
    def has_learnt(self) -> bool:
        """Whether it knows what is usual."""
        return self._lasting is not None

    @property
    def standing(self) -> str:
        """How far it is."""
        if self._lasting is None:
            told = f"learning, {len(self._learning):,} of {self.learn:,} texts"
            return f"{told}; {self._problem}" if self._problem else told
        return f"watching, {self._seen:,} texts"

    def see(self, text: SeenText) -> None:
        """Take in a text."""
        kind = self._signal.class_of(text)
        if kind is None:
            return
        lasting = self._lasting
        if lasting is None:
            if not self._learning:
                self._learnt_since = text.request.started_at
            self._learning.append(kind[:CLASS_CHARS_MAX])
            if len(self._learning) >= self.learn:
                self._end_learning()
            return
        is_bad = self._is_bad(kind)
        if is_bad:
            blamed = self._signal.blame(text, kind)[:CLASS_CHARS_MAX]
            self._hits.append((self._seen, blamed))
        self._seen += 1
        if lasting.take(float(is_bad), text.request.started_at):
            change = lasting.watch.change()
            self._since = self._seen - (0 if change is None else change.ago)

    def _is_bad(self, kind: str) -> bool:
        bad = self._signal.bad
        return kind not in self._usual if bad is None else kind in bad

    def _end_learning(self) -> None:
        calibrating = self._learning
        if self._signal.bad is None:
            half = len(calibrating) // 2
            seen = Counter(calibrating[:half])
            self._usual = frozenset(k for k, n in seen.items() if n >= USUAL_SHARE * half)
            calibrating = calibrating[half:]
        # Texts of one cause come together: they are worth fewer.
        bad, effect = sum(map(self._is_bad, calibrating)), self._design_effect
        counts = Counts(bad / effect, len(calibrating) / effect)
        try:
            self._lasting, self._counts = self._watching(counts), counts
            self._problem = ""
        except ValueError:
            self._problem = "of those before, all were of the bad kind: nothing to hold others to"
        self._learning = []

    def _watching(self, counts: Counts) -> Lasting[RateWatch, float]:
        return lasting_rate(reference_of(counts), self._run_length, self._design_effect)

    def found(self) -> Found | None:
        """The rise that is not over; None if there is none."""
        lasting = self._lasting
        change = lasting.watch.change() if lasting is not None and lasting.gravity else None
        if lasting is None or change is None:
            return None
        hits = Counter(blamed for number, blamed in self._hits if number >= self._since)
        most, count = max(hits.items(), key=lambda each: (each[1], each[0]), default=("", 0))
        reference: Reference = lasting.watch.reference
        began = lasting.began_at(change.ago) or 0.0
        return Found(
            began, change.rate, change.rate_least, reference.rate, reference.limit,
            most, count, hits.total(), self._learnt_since,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "of": self._of,
            "learning": list(self._learning),
            "problem": self._problem,
            "usual": sorted(self._usual),
            "counts": list(self._counts),
            "lasting": None if self._lasting is None else self._lasting.state(),
            "seen": self._seen,
            "since": self._since,
            "hits": [list(hit) for hit in self._hits],
            "learnt_since": self._learnt_since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; raises ValueError, and changes nothing, if it is damaged."""
        if not isinstance(state, dict) or state.get("of") != self._of:
            raise ValueError(f"state of {self._signal.name}: made with other settings")
        made = RateStream(self._signal, self.learn, self._run_length, self._design_effect)
        try:
            made._go_on(state)
        except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            why = type(error).__name__
            raise ValueError(f"state of {self._signal.name} is damaged: {why}") from error
        self.__dict__.update(made.__dict__)

    def _go_on(self, state: dict[str, Any]) -> None:
        self._learning = _classes(state["learning"], self.learn - 1)
        self._usual = frozenset(_classes(state["usual"], self.learn))
        self._problem, self._learnt_since = str(state["problem"]), stored_since(state)
        self._seen, self._since = int(state["seen"]), int(state["since"])
        hits = [(int(number), str(blamed)) for number, blamed in state["hits"]]
        if len(hits) > HITS_MAX or not 0 <= self._since <= self._seen:
            raise ValueError(f"state of {self._signal.name}: {len(hits)} hits of {self._seen}")
        self._hits.extend(hits)
        if state["lasting"] is not None:
            self._counts = Counts(*_numbers(state["counts"], 2))
            self._lasting = self._watching(self._counts)
            self._lasting.restore(state["lasting"])


def _classes(stored: Any, most: int) -> list[str]:
    made = [str(each) for each in stored]
    if not isinstance(stored, list) or len(made) > most:
        raise ValueError(f"stored classes: must be a list of at most {most}")
    return made


def _numbers(stored: Collection[Any], most: int) -> list[float]:
    made = [float(each) for each in stored]
    if len(made) > most or not all(map(math.isfinite, made)):
        raise ValueError(f"stored numbers: must be at most {most}, all finite")
    return made
