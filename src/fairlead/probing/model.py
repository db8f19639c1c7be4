"""What is known of a release's probes: its reference, its rounds, and a change. Stored as it is."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.probing.bounds import INTERVAL_S, within
from fairlead.stats.changes import ChangeState

CASES_MAX = 200
ROUNDS_MAX = 1_000
WEBHOOKS_MAX = 10
URL_MAX = 2_000
TEXT_MAX = 200
"""Characters of an answer that are kept to be shown."""
NOTES_MAX = 20
ROUNDS_KEPT = 100
"""Of so many rounds it is known when they ended."""

OUTCOMES = ("agreement", "length", "score")
"""What later answers are compared in; the last one where cases have an expected answer."""


class ProbeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a release is probed. Raises InvalidInput when it makes no sense.

    Attributes:
        suite: Digest of the suite whose cases are asked.
        cases: Cases of it in each round, always the same ones.
        interval_s: Seconds from one round to the next.
        reference_rounds: Rounds of which the first quarter is what answers are compared with, and
            the rest says how far apart answers are while nothing changes.
        temperature, seed: Sent with each probe; None leaves the release's own.
        alpha: Highest probability to ever report a change of a provider that has not changed.
        usd_per_day: No probe is sent once a (UTC) day's have cost so much; None for no bound.
        on_change: alert: tell it. fallback: the service's fallbacks answer, too.
        webhooks: Told of a change.
        timeout_s: Seconds that one answer may take.
    """

    suite: str
    cases: int = 20
    interval_s: float = 3_600.0
    reference_rounds: int = 24
    temperature: float | None = 0.0
    seed: int | None = 1
    alpha: float = 0.01
    usd_per_day: float | None = None
    on_change: Literal["alert", "fallback"] = "alert"
    webhooks: tuple[str, ...] = ()
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        within("probes", "cases", self.cases, 1, CASES_MAX)
        within("probes", "interval_s", self.interval_s, *INTERVAL_S)
        within("probes", "reference_rounds", self.reference_rounds, 8, ROUNDS_MAX)
        within("probes", "temperature", self.temperature or 0.0, 0.0, 2.0)
        within("probes", "seed", self.seed or 0, 0, 2**32 - 1)
        within("probes", "alpha", self.alpha, 1e-9, 0.5)
        within("probes", "usd_per_day", self.usd_per_day or 0.0, 0.0, 1e6)
        within("probes", "timeout_s", self.timeout_s, 0.1, 3_600.0)
        within("probes", "the number of webhooks", len(self.webhooks), 0, WEBHOOKS_MAX)
        for url in self.webhooks:
            if len(url) > URL_MAX or not url.startswith(("http://", "https://")):
                raise InvalidInput("probes.webhooks: each must be an http(s) URL")

    @property
    def base_rounds(self) -> int:
        """Rounds whose answers the later ones are compared with."""
        return max(2, -(-self.reference_rounds // 4))


class Given(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        said: Digest of its text, white space and case left out of account.
        text: Its beginning, to be shown.
        chars: Its length.
        score: By the suite's scorer, in [0, 1]; None without an expected answer.
        model, fingerprint: What the provider says of itself; empty where it says nothing.
        tokens: Of prompt and answer; 0 where the provider does not say.
        usd: What it cost, as far as the price is known.
    """

    said: str
    text: str
    chars: int
    score: float | None = None
    model: str = ""
    fingerprint: str = ""
    tokens: int = 0
    usd: float = 0.0


class Reference(msgspec.Struct, frozen=True):
    """The answers to one case that later ones are compared with, `rounds` of them.

    Attributes:
        said: How often each answer was given.
        text: One of them, the beginning.
        log_chars, score: Sums over them.
    """

    rounds: int = 0
    said: dict[str, int] = {}
    text: str = ""
    log_chars: float = 0.0
    score: float = 0.0


class Note(msgspec.Struct, frozen=True):
    """Something that happened, in words.

    Attributes:
        since: Unix time after which it happened; `at` is when it was seen.
    """

    at: float
    what: str
    since: float | None = None


class Difference(msgspec.Struct, frozen=True):
    """A case that is answered otherwise now: the beginnings of both answers."""

    case: str
    before: str
    now: str


class Change(msgspec.Struct, frozen=True):
    """An unrequested release: the provider answers otherwise, and nobody has shipped anything.

    Attributes:
        number: Of this release's changes, from 1.
        at: Unix time by which it had come.
        round: The round at which the evidence sufficed.
        e: The evidence; 1/alpha was needed.
        by_outcome: The evidence of each outcome by itself.
        why: The numbers in words.
        since: Unix time after which it came: when the last round ended that was still as before.
    """

    number: int
    at: float
    round: int
    e: float
    by_outcome: dict[str, float]
    why: str
    differences: tuple[Difference, ...] = ()
    since: float | None = None


class Probing(msgspec.Struct, frozen=True):
    """All that is remembered of a release's probes.

    Attributes:
        asked: Digest of what is asked (suite, cases, temperature, seed, scorer): other probes begin
            anew.
        rounds: Complete rounds since the reference began.
        due_at: When the next round begins.
        answers: Of the round under way, by case.
        reference: By case.
        tests: By outcome.
        model, fingerprint: As the provider named itself last.
        day, spent_usd, sent: The UTC day (days since 1970), and what its probes cost and how many.
        failing_since, failure: Since when no probe is answered, and why; None and empty otherwise.
        notes: What the provider said of itself, and when its probes failed: the last ones.
        change: The unrequested release that nobody has accepted yet.
        is_told: Its webhooks know of it.
        accepted: Earlier changes: their answers have become the reference.
        ended: When the last rounds ended, Unix times; `ROUNDS_KEPT` of them at most.
    """

    service: str
    release: str
    asked: str
    begun_at: float
    due_at: float
    rounds: int = 0
    answers: dict[str, Given] = {}
    reference: dict[str, Reference] = {}
    tests: dict[str, ChangeState] = {}
    model: str = ""
    fingerprint: str = ""
    day: int = 0
    spent_usd: float = 0.0
    sent: int = 0
    sent_in_all: int = 0
    usd_in_all: float = 0.0
    failing_since: float | None = None
    failure: str = ""
    notes: tuple[Note, ...] = ()
    change: Change | None = None
    is_told: bool = True
    accepted: tuple[Change, ...] = ()
    ended: tuple[float, ...] = ()
