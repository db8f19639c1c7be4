"""How the judging of live traffic is shown."""

from __future__ import annotations

import msgspec


class LiveJudgingView(msgspec.Struct, frozen=True):
    """How far the judge model of a champion's live traffic is; days are those of UTC.

    Attributes:
        judge: The service or model that judges.
        release: Digest of the champion.
        share: Of the units in the sample, those that are judged.
        pending: Samples without a verdict; at least so many with `pending_is_more`.
        oldest_s: Age of the oldest of them in seconds.
        judged_today, unjudged_today: Samples with a score, and those left without one for good.
        asked_today: Questions, repeated ones included.
        usd_today: What they have cost.
        per_day, usd_per_day: The caps; None for none.
        said: What keeps it from going on; empty if nothing does.
        error: How often it is right, as measured on labelled answers.
    """

    judge: str
    release: str
    share: float
    pending: int
    pending_is_more: bool
    oldest_s: float | None
    judged_today: int
    unjudged_today: int
    asked_today: int
    usd_today: float
    per_day: int | None
    usd_per_day: float | None
    said: str
    error: str
