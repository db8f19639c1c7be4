"""What is kept of a release's scores on published bias benchmarks, and how they are asked for."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.evaluation.stereotypes import Benchmark, Score

KIND = "bias_scores"
"""Of the documents that are kept; their keys are `Scoring.key`."""


class ScoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which benchmark a release is to be asked.

    Attributes:
        suite: Digest of the items, which the registry holds as a blob.
        release: Name, or digest or its beginning, of the champion or the canary; the champion if
            None.
    """

    benchmark: Benchmark
    suite: str
    release: str | None = None


class Scoring(msgspec.Struct, frozen=True):
    """A release's scores on one benchmark. Stored as it is.

    Attributes:
        begun_at, ended_at: Unix times in seconds; `ended_at` is None while it is under way.
        of: Items that are to be asked; `asked` have an answer.
        unread: Answers that choose none of the options: they are in no score.
        usd: What asking has cost as far as known.
        failure: Why it ended without all answers; empty if it did not. Asked again, it goes on.
        scores: Empty until it has ended.
    """

    service: str
    release: str
    name: str
    benchmark: Benchmark
    suite: str
    begun_at: float
    ended_at: float | None = None
    of: int = 0
    asked: int = 0
    unread: int = 0
    usd: float = 0.0
    failure: str = ""
    scores: tuple[Score, ...] = ()

    @property
    def key(self) -> str:
        """What it is kept under: one of a release, a benchmark and a choice of items."""
        return f"{self.service}/{self.release}/{self.benchmark}/{self.suite}"

    @property
    def state(self) -> Literal["running", "failed", "done"]:
        """How far it is."""
        if self.ended_at is None:
            return "running"
        return "failed" if self.failure else "done"


class Differences(msgspec.Struct, frozen=True):
    """Two releases on the same items: the other's scores less the first's, item by item."""

    service: str
    benchmark: Benchmark
    first: str
    other: str
    scores: tuple[Score, ...]
