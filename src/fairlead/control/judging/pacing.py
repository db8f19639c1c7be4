"""Which share of its sample a judge model is asked about: less while it cannot keep up. Pure.

A judge that is slower than its sample falls behind for as long as the traffic lasts, and the
rollout would end for want of verdicts. So the share goes down until it keeps up, and comes back.

**Why this does not bias the verdict.** Whether a unit is judged depends on its hash and on the
share at the moment at which it was enrolled, and each share was written down before that moment
came (`AHEAD_S`). So nothing that the unit did, on either side, has a part in whether it is looked
at: the share is predictable, and each bet is as fair as with a fixed one. Choosing among answers
that are there already would not be: those that take the judge longest are not like the others, and
on a canary that says more there are more of them. The probability of each unit is the share of its
moment, and all shares are kept with the rollout.

The pace is measured as seconds of traffic that are judged in a second, at the share in force when
that traffic came. It says what share would be kept up with, whatever the backlog.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from fairlead.domain.capture import is_in_share

AHEAD_S = 5.0
"""So long before it is in force a share is kept: more than clocks of workers differ."""
LOOK_S = 30.0
"""Over so long the pace is measured."""
BEHIND_S = 30.0
"""Traffic that is not judged for so long after it was recorded is a backlog."""
ABREAST_S = 10.0
HEADROOM = 0.8
"""Of the traffic that it can judge, what it is given: the rest is for the backlog."""
CATCH_UP_S = 300.0
"""A backlog of so long halves that once more."""
RAISE_BY = 1.25
RAISE_AFTER_S = 120.0
LEAST = 1 / 64
"""Of the declared share, what is left at the least."""
CHANGES_MAX = 200
_UNITS_MAX = 100_000


class Change(msgspec.Struct, frozen=True, array_like=True):
    """From this Unix time on, units that are enrolled are judged with this probability."""

    at: float
    share: float


class Shares(msgspec.Struct, frozen=True):
    """The shares of one rollout, in the order of time.

    Attributes:
        declared: In force before the first change, and the highest there is.
    """

    declared: float
    changes: tuple[Change, ...] = ()

    def at(self, moment: float) -> float:
        """The share of a unit that was enrolled at this Unix time."""
        index = bisect_right(self.changes, moment, key=lambda change: change.at)
        return self.changes[index - 1].share if index else self.declared

    @property
    def now(self) -> float:
        """The newest share."""
        return self.changes[-1].share if self.changes else self.declared

    def changed(self, at: float, share: float) -> Shares:
        """With a further change; of many, the two oldest become one, at the lower of both shares.

        What was judged there stays judged, and nothing of long ago comes to be asked about. After a
        clock was set back it begins with the last one: what came before is decided.
        """
        at = max(at, self.changes[-1].at) if self.changes else at
        changes = (*self.changes, Change(at, share))
        if len(changes) > CHANGES_MAX:
            first, second, *rest = changes
            changes = (Change(first.at, min(first.share, second.share)), *rest)
        return msgspec.structs.replace(self, changes=changes)


class Enrolments:
    """When each unit was enrolled, by its first sample; made again from the samples in order.

    Args:
        settle_s: A unit's requests count for so long after its first one. What comes later has no
            effect on any verdict, and goes by its own moment.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[tuple[int, str], float] = {}

    def moment(self, phase: int, unit: str, started_at: float) -> float:
        """The moment whose share counts for a request of this unit."""
        since = self._since.get((phase, unit))
        if since is None:
            if len(self._since) >= _UNITS_MAX:
                del self._since[next(iter(self._since))]
            since = self._since[phase, unit] = started_at
        return since if started_at <= since + self._settle_s else started_at


class Standing(msgspec.Struct, frozen=True):
    """How far a judge model is.

    Attributes:
        now: Unix time.
        judged_until: Before this Unix time all samples have their verdict.
        recorded_until: Before this Unix time all samples are known.
        waiting: Samples without a verdict, as far as they were counted.
        at_once: Questions that are asked together.
        is_full: Whether more wait than were counted.
    """

    now: float
    judged_until: float
    recorded_until: float
    waiting: int
    at_once: int
    is_full: bool = False

    @property
    def lag_s(self) -> float:
        return self.recorded_until - self.judged_until

    @property
    def is_behind(self) -> bool:
        """A single sample that is asked about again and again is no backlog."""
        is_backlog = self.is_full or self.waiting > 4 * self.at_once
        return self.lag_s > BEHIND_S and is_backlog


class Pacer:
    """Decides on the share, from how far the judge is at each look."""

    def __init__(self) -> None:
        self._since: Standing | None = None
        self._abreast_since: float | None = None

    def interrupted(self) -> None:
        """The judge was not asked: its budget was used up, or nobody was there."""
        self._since = self._abreast_since = None

    def share(self, shares: Shares, seen: Standing) -> float | None:
        """The share from now on; None to leave it."""
        if not seen.is_behind:
            self._since = None
            return self._raised(shares, seen)
        self._abreast_since = None
        before = self._since
        if before is None:
            self._since = seen
            return None
        if seen.now - before.now < LOOK_S:
            return None
        self._since = seen
        pace = (seen.judged_until - before.judged_until) / (seen.now - before.now)
        rest = CATCH_UP_S / (CATCH_UP_S + seen.lag_s)
        wanted = shares.at(seen.judged_until) * max(pace, 0.0) * HEADROOM * rest
        lowered = max(wanted, shares.declared * LEAST, shares.now / 4)
        # A little less is not worth another share.
        return lowered if lowered < 0.9 * shares.now else None

    def _raised(self, shares: Shares, seen: Standing) -> float | None:
        if seen.lag_s > ABREAST_S or shares.now >= shares.declared:
            self._abreast_since = None
            return None
        if self._abreast_since is None:
            self._abreast_since = seen.now
        if seen.now - self._abreast_since < RAISE_AFTER_S:
            return None
        self._abreast_since = seen.now
        return min(shares.declared, shares.now * RAISE_BY)


def is_judged(unit: str, share: float) -> bool:
    """Whether a unit is in the judge's part of the sample; at a higher share it is as well."""
    return is_in_share("judge", unit, share)
