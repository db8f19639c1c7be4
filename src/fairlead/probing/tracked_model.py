"""Scores of published bias benchmarks on a schedule: what is declared, and what is remembered."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.probing.bounds import INTERVAL_S, within
from fairlead.stats.monitors.counterfactual import GapState

Benchmark = Literal["bbq", "crows"]
MEASURES: dict[Benchmark, tuple[str, ...]] = {
    "bbq": (
        "accuracy_ambiguous", "accuracy_disambiguated", "bias_ambiguous", "bias_disambiguated",
    ),
    "crows": ("stereotyping",),
}  # fmt: skip
"""What is compared of each; each has an equal share of alpha."""
SPANS = {"bias_ambiguous": 2.0, "bias_disambiguated": 2.0}
"""From the worst to the best that an item can be; 1 if not said."""
ITEMS_MAX = 5_000
RUNS_MAX = 200
UNREAD = -1
"""The answer to an item that chooses none of its options."""


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A benchmark by which the champion is scored.

    Attributes:
        suite: Digest of its items, which the registry holds as a blob; empty where they were not
            there when the manifest was read.
        missing: Why they were not.
    """

    benchmark: Benchmark
    suite: str = ""
    missing: str = ""


class ScoresSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How champions are scored on a schedule. Raises InvalidInput when it makes no sense.

    Attributes:
        interval_s: Seconds from one run to the next.
        per_run: Items that a run asks.
        worse_by: By so much a score may be worse than the accepted one.
        usd_per_day: No item is asked once a (UTC) day's have cost so much; None for no bound.
    """

    benchmarks: tuple[Published, ...]
    interval_s: float = 86_400.0
    per_run: int = 100
    worse_by: float = 0.05
    usd_per_day: float | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        names = [each.benchmark for each in self.benchmarks]
        if not names or len(set(names)) != len(names):
            raise InvalidInput("bias.scores: need benchmarks, each of them once")
        for each in self.benchmarks:
            if bool(each.suite) == bool(each.missing):
                raise InvalidInput(
                    f"bias.scores: {each.benchmark} has items, or why there are none: not both"
                )
        within("bias.scores", "interval_s", self.interval_s, *INTERVAL_S)
        within("bias.scores", "per_run", self.per_run, 1, ITEMS_MAX)
        within("bias.scores", "worse_by", self.worse_by, 0.01, 0.5)
        within("bias.scores", "usd_per_day", self.usd_per_day or 0.0, 0.0, 1e6)


class Value(msgspec.Struct, frozen=True):
    """One measure over all categories, with its 95 % interval."""

    measure: str
    value: float
    low: float
    high: float
    n: int
    clusters: int


class Run(msgspec.Struct, frozen=True):
    """What a run has shown.

    Attributes:
        at: Unix time of its end.
        asked, unread: Items that it asked, and answers of them that choose none of the options.
        items: Of how many items the release's latest answers are known by then: the values go by
            these.
    """

    at: float
    release: str
    name: str
    asked: int
    unread: int
    items: int
    usd: float
    values: tuple[Value, ...] = ()


class Accepted(msgspec.Struct, frozen=True):
    """What scores are compared with: a release's answers to all items.

    Attributes:
        answers: By item, in the order of the suite.
    """

    release: str
    name: str
    at: float
    values: tuple[Value, ...]
    answers: tuple[int, ...]


class Tracked(msgspec.Struct, frozen=True):
    """All that is remembered of a service's scores on one benchmark. Stored as it is.

    Attributes:
        suite: Digest of the items: others begin anew.
        release, name: Whose answers these are: the champion that was asked last.
        answers: The latest one by item, in the order of the suite; None for those not asked yet.
        draws: Items drawn of this release, to be compared.
        tests, found: By measure, the evidence that it is worse (`GapTest`), and since when (Unix
            time) it suffices.
        worse_by: What the evidence is against; another one that is declared begins it anew.
        tries: How often the next item has had no answer where others of its batch had one.
        left: Items that the run under way still has to ask.
        run_asked, run_unread, run_usd: Of the run under way, or the last one.
        day, spent_usd, sent: The UTC day (days since 1970), what its items cost, and how many.
    """

    service: str
    benchmark: Benchmark
    suite: str
    release: str
    name: str
    due_at: float
    answers: tuple[int | None, ...] = ()
    draws: int = 0
    accepted: Accepted | None = None
    tests: dict[str, GapState] = {}
    found: dict[str, float] = {}
    worse_by: float | None = None
    left: int = 0
    run_asked: int = 0
    run_unread: int = 0
    run_usd: float = 0.0
    runs: tuple[Run, ...] = ()
    tries: int = 0
    failing_since: float | None = None
    failure: str = ""
    day: int = 0
    spent_usd: float = 0.0
    sent: int = 0
    sent_in_all: int = 0
    usd_in_all: float = 0.0
