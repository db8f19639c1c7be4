"""How much of a champion's live traffic a judge model grades, outside rollouts as well."""

from __future__ import annotations

import msgspec

from fairlead.domain.bounds import check_between


class JudgeSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the captured samples are judged, and what that may cost.

    Attributes:
        share: Of the units in the sample, those whose answers are judged.
        per_day: Questions from midnight to midnight UTC, spread over the day; None for no bound.
        usd_per_day: USD, in the same way.
    """

    share: float = 1.0
    per_day: int | None = 1_000
    usd_per_day: float | None = None


def check_judge_sample(sample: JudgeSample) -> None:
    """Raises InvalidInput with the place of what cannot be."""
    numbers = (
        ("share", sample.share, 1e-6, 1.0),
        ("per_day", sample.per_day, 1, 1e9),
        ("usd_per_day", sample.usd_per_day, 0, 1e6),
    )
    for name, value, least, most in numbers:
        if value is not None:
            check_between(f"monitoring.judge.{name}", value, least, most)
