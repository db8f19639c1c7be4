"""Whether more is asked of a release's replicas than it was when their times were learnt.

Where requests take longer and more of them are open, it is open whether there is more to do, or
each takes longer and so more are open. What is asked tells: it does not depend on how fast it is
answered. Counted are requests, and tokens of prompts and of answers, per second and replica, each
the less the longer ago it came (exp(-age / 10 minutes)). If for some hours no more came than at
most at first, when times were as usual, it is not what is asked. Longer answers count as more that
is asked, whoever wants them: a monitor of lengths tells of those. What never reached a
replica asks nothing of it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fairlead.domain.recorded import RecordedRequest

SCALE_S = 600.0
KNOWN_S = 60.0
"""For less than so long a rate is not known."""
HOUR_S = 3_600.0
HOURS = 3
"""It counts for so long that more was asked: what came then may be open yet."""
MORE = 1.1
"""So many times as much at most is not more."""
REPLICAS_MAX = 1_000


class Rates(NamedTuple):
    """What comes to a replica in a second."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0

    def or_more(self, other: Rates) -> Rates:
        """The larger ones."""
        return Rates(*map(max, self, other))


NOTHING = Rates()


class Demand:
    """What is asked of each replica, now and at first."""

    def __init__(self) -> None:
        self._sums, self._at, self._since = NOTHING, 0.0, math.inf
        self._seen_at: dict[str, float] = {}
        self._first = self._now = NOTHING
        self._peaks: dict[int, Rates] = {}

    @property
    def first(self) -> Rates:
        """The most that was asked at first."""
        return self._first

    @property
    def now(self) -> Rates:
        """What is asked now."""
        return self._now

    @property
    def is_no_more(self) -> bool:
        """Whether it is known that no more is asked than at first, and was not for some hours."""
        lately = NOTHING
        for rates in self._peaks.values():
            lately = lately.or_more(rates)
        return lately.requests > 0.0 and all(
            own <= MORE * usual for own, usual in zip(lately, self._first, strict=True)
        )

    def come(self, request: RecordedRequest, *, is_first: bool) -> None:
        """A request came, in order; `is_first`: while times are learnt."""
        if not request.replica:
            return
        at = request.started_at
        fading = math.exp(-max(0.0, at - self._at) / SCALE_S)
        came = (1.0, max(request.prompt_tokens, 0), max(request.completion_tokens, 0))
        self._sums = Rates(
            *(total * fading + each for total, each in zip(self._sums, came, strict=True))
        )
        self._at, self._since = max(self._at, at), min(self._since, at)
        replicas = self._replicas(request.replica, at)
        known_s = at - self._since
        if known_s < KNOWN_S:
            return
        over_s = SCALE_S * -math.expm1(-known_s / SCALE_S) * replicas
        self._now = Rates(*(total / over_s for total in self._sums))
        if is_first:
            self._first = self._first.or_more(self._now)
            return
        hour = int(at / HOUR_S)
        self._peaks[hour] = self._peaks.get(hour, NOTHING).or_more(self._now)
        if len(self._peaks) > HOURS or min(self._peaks) <= hour - HOURS:
            self._peaks = {each: one for each, one in self._peaks.items() if each > hour - HOURS}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, in JSON's types."""
        return {
            "sums": [*self._sums, self._at, self._since if self._since < math.inf else self._at],
            "seen": dict(self._seen_at),
            "rates": [list(self._first), list(self._now)],
            "peaks": [[hour, *rates] for hour, rates in self._peaks.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; `ValueError`, and nothing changes, if it is damaged."""
        *sums, at, since = map(float, state["sums"])
        seen = {str(name): float(last) for name, last in state["seen"].items()}
        first, now = (Rates(*map(float, rates)) for rates in state["rates"])
        peaks = {int(hour): Rates(*map(float, rates)) for hour, *rates in state["peaks"]}
        numbers = (*sums, *first, *now, *(rate for rates in peaks.values() for rate in rates))
        if not (
            len(sums) == len(NOTHING)
            and all(0.0 <= number < math.inf for number in numbers)
            and all(map(math.isfinite, (at, since, *seen.values())))
            and len(seen) <= REPLICAS_MAX
            and len(peaks) <= HOURS
        ):
            raise ValueError("damaged state of a monitor: what was asked")
        self._sums, self._at = Rates(*sums), at
        self._since = since if any(sums) else math.inf
        self._seen_at, self._first, self._now, self._peaks = seen, first, now, peaks

    def _replicas(self, replica: str, at: float) -> int:
        """Those to which something came within the time that counts."""
        if replica in self._seen_at or len(self._seen_at) < REPLICAS_MAX:
            self._seen_at[replica] = at
        if min(self._seen_at.values()) < at - SCALE_S:
            self._seen_at = {
                name: last for name, last in self._seen_at.items() if last >= at - SCALE_S
            }
        return max(len(self._seen_at), 1)
