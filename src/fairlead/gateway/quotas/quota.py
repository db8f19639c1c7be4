"""Who may use how much: the decider on limits, of one worker. No I/O, and time is passed in.

Each limit has one `Window` at a time. The worker uses no more of it than it holds (`wire.quota`),
so that all workers together stay within the limit, whether or not control answers. What a request
will use is reserved when it comes, and settled when it is known: in the window that it came in.

A worker that holds little while others may hold more says so at its next report, and makes that
report come soon. It does so ever less often as long as nothing comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from fairlead.domain.quota import Cost, share_of
from fairlead.gateway.quotas.quota_meters import Meter, Window
from fairlead.wire.quota import Grant, QuotaReport, WindowUse
from fairlead.wire.snapshot import Snapshot, declared_limits

HURRY_S_MIN = 0.05
HURRY_S_MAX = 1.0
LEASE_S = 30.0
"""Without control for so long, what was held beyond the fair share and is not used comes back."""
REPORTED_MAX = 4_000
"""Windows in one report; with more, they take turns."""
SHORT_RETRY_S = 1
WAITERS_MAX = 1_000
"""Requests of one worker that may wait to be lent more of a limit."""
_PAIRS_MAX = 4096
"""Pairs of key and service whose limits are remembered together."""
_ONE: Cost = (1, 0, 0)
_NOTHING: tuple[tuple[Window, int, int], ...] = ()


class Denial(NamedTuple):
    """A request that a limit does not let through.

    Attributes:
        asked: What the request asked for, in units of the limit.
        retry_after_s: When trying again makes sense; None when the request can never be served.
        may_be_lent: What is missing is held elsewhere and not used; it has been asked for.
    """

    meter: Meter
    asked: int
    retry_after_s: int | None
    may_be_lent: bool = False


class Waiter(Protocol):
    """A request that waits to be lent more."""

    def look_again(self) -> None:
        """The worker may hold more now."""


class Hold:
    """What one request has taken.

    Attributes:
        meters: Its limits.
        prompt_tokens, completion_tokens: The estimate that was reserved.
        is_settled: Nothing is to be put right: it is, or only requests were counted.
    """

    __slots__ = ("_taken", "completion_tokens", "is_settled", "meters", "prompt_tokens")

    def __init__(self, meters: tuple[Meter, ...], taken: Sequence[tuple[Window, int, int]]) -> None:
        self.meters = meters
        self._taken: Sequence[tuple[Window, int, int]] = taken
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.is_settled = not taken

    def settle(self, cost: Cost) -> None:
        """It has used this: the reservation is put right, once."""
        for window, measure, amount in self._taken:
            if measure:
                window.used += cost[measure] - amount
        self._taken = _NOTHING
        self.is_settled = True


class QuotaBook:
    """All limits of one worker.

    Args:
        seat: Who holds what this worker holds; see `QuotaReport`.
        number: Number of the worker.
        sequence: Where its reports begin to be numbered; above all earlier ones of the seat.
        hurry: Called when a report should come soon.
    """

    def __init__(self, seat: str, number: int, *, sequence: int, hurry: Callable[[], None]) -> None:
        self.seat = seat
        self._number = number
        self._sequence = sequence
        self._hurry = hurry
        self._hurry_at = 0.0
        self._hurry_s = HURRY_S_MIN
        self._heard_at: float | None = None
        self._meters: dict[str, Meter] = {}
        self._by_key: dict[str, tuple[Meter, ...]] = {}
        self._by_service: dict[str, tuple[Meter, ...]] = {}
        self._by_both: dict[tuple[str, str], tuple[tuple[Meter, ...], bool]] = {}
        self._counted: dict[tuple[Meter, ...], Hold] = {}
        self._turn = 0
        self._waiters: dict[Waiter, None] = {}
        self.kept: dict[str, WindowUse] = {}
        """Windows of the process before, taken up when their limit is declared."""

    # Snapshots

    def use(self, snapshot: Snapshot, now: float) -> None:
        """Go by this snapshot's limits; what was used of those that stay is kept."""
        before, self._meters = self._meters, {}
        for name, limit in declared_limits(snapshot).items():
            share = share_of(limit.amount, snapshot.workers, self._number)
            meter = before.get(name)
            if meter is None:
                meter = Meter(limit, share)
                self._take_up(meter, now)
            else:
                meter.redeclare(limit, share)
            self._meters[name] = meter
        by_subject: dict[tuple[str, str], list[Meter]] = {}
        for meter in self._meters.values():
            subject = (meter.limit.scope, meter.limit.subject)
            by_subject.setdefault(subject, []).append(meter)
        self._by_key = {}
        self._by_both = {}
        self._counted = {}
        for key in snapshot.keys:
            own = by_subject.get(("key", key.id), [])
            tenants = by_subject.get(("tenant", key.tenant), []) if key.tenant else []
            if own or tenants:
                self._by_key[key.id] = (*own, *tenants)
        self._by_service = {
            subject: tuple(found)
            for (scope, subject), found in by_subject.items()
            if scope == "service"
        }

    def _take_up(self, meter: Meter, now: float) -> None:
        kept = self.kept.pop(meter.limit.id, None)
        if kept is not None and kept.start == meter.roll(now).start:
            window = meter.window
            window.held, window.used, window.demand = kept.held, kept.used, kept.demand
            window.base = max(0, kept.held - kept.used)
            window.elsewhere = max(0, meter.amount - kept.held)

    # Requests

    @property
    def is_empty(self) -> bool:
        """Whether no limit is declared at all."""
        return not self._meters

    @property
    def meters(self) -> dict[str, Meter]:
        """All limits, by id."""
        return self._meters

    def meters_for(self, key: str, service: str) -> tuple[tuple[Meter, ...], bool]:
        """The limits that a request of this key to this service is under, and whether any of them
        counts more than requests."""
        found = self._by_both.get((key, service))
        if found is None:
            meters = self._by_key.get(key, ()) + self._by_service.get(service, ())
            found = meters, any(meter.measure for meter in meters)
            if len(self._by_both) >= _PAIRS_MAX:
                self._by_both.clear()
                self._counted.clear()
            self._by_both[key, service] = found
        return found

    def take(
        self,
        meters: tuple[Meter, ...],
        cost: Cost,
        least: Cost,
        now: float,
        *,
        is_again: bool = False,
    ) -> Hold | Denial:
        """Reserve what a request may use: all of it, or nothing and why not.

        Args:
            cost: The estimate.
            least: What it uses at the least: a limit below the estimate, but not below this, lets
                it through when nothing else has used any of it.
            is_again: It was counted in the demand before.
        """
        denied: Denial | None = None
        taken: list[tuple[Window, int, int]] = []
        for meter in meters:
            window = meter.window if now < meter.window.end else meter.roll(now)
            measure = meter.measure
            amount = cost[measure]
            if amount > meter.amount >= least[measure]:
                amount = meter.amount
            if not is_again:
                window.demand += amount
            if window.used + amount > window.held:
                denied = self._deny(meter, amount, now, denied)
            taken.append((window, measure, amount))
        if denied is not None:
            return denied
        for window, _, amount in taken:
            window.used += amount
            if window.elsewhere > 0 and window.held - window.used <= window.base >> 1:
                self._lack(window, amount, now)
        return Hold(meters, taken)

    def take_at_once(self, meters: tuple[Meter, ...], cost: Cost, now: float) -> Hold | None:
        """The same where nothing is in the way, as nearly always; None where something may be."""
        for meter in meters:
            window, amount = meter.window, cost[meter.measure]
            if now >= window.end or amount > meter.amount or window.used + amount > window.held:
                return None
        taken: list[tuple[Window, int, int]] = []
        for meter in meters:
            window, measure = meter.window, meter.measure
            amount = cost[measure]
            window.demand += amount
            window.used += amount
            if measure:  # Requests are not put right.
                taken.append((window, measure, amount))
            if window.elsewhere > 0 and window.held - window.used <= window.base >> 1:
                self._lack(window, amount, now)
        return Hold(meters, taken)

    def take_one(
        self, meters: tuple[Meter, ...], now: float, *, is_again: bool = False
    ) -> Hold | Denial:
        """The same where only requests are counted: there is nothing to put right afterwards."""
        for meter in meters:
            window = meter.window
            if now >= window.end or window.used >= window.held:
                return self.take(meters, _ONE, _ONE, now, is_again=is_again)
        for meter in meters:
            window = meter.window
            window.demand += not is_again
            window.used += 1
            if window.elsewhere > 0 and window.held - window.used <= window.base >> 1:
                self._lack(window, 1, now)
        hold = self._counted.get(meters)
        if hold is None:  # With nothing to put right, one is as good as another.
            hold = self._counted[meters] = Hold(meters, _NOTHING)
        return hold

    def _deny(self, meter: Meter, amount: int, now: float, before: Denial | None) -> Denial:
        """Why it is not let through: by the limit for which there is longest to wait."""
        window = meter.window
        retry_s: int | None
        may_be_lent = False
        if amount > meter.amount:
            retry_s = None
        elif window.elsewhere > 0 and window.held - window.used + window.elsewhere >= amount:
            retry_s, may_be_lent = SHORT_RETRY_S, True
            self._lack(window, amount, now)
        else:
            retry_s = max(1, int(window.end - now + 0.999))
        if before is not None and (
            before.retry_after_s is None
            or (retry_s is not None and retry_s <= before.retry_after_s)
        ):
            return before
        return Denial(meter, amount, retry_s, may_be_lent)

    def _lack(self, window: Window, amount: int, now: float) -> None:
        window.need = max(window.need, amount, 1)
        if now >= self._hurry_at:
            self._hurry_at = now + self._hurry_s
            self._hurry_s = min(HURRY_S_MAX, self._hurry_s * 2)
            self._hurry()

    def wait(self, waiter: Waiter) -> bool:
        """Tell it when this worker may hold more; False when too many wait."""
        if len(self._waiters) >= WAITERS_MAX:
            return False
        self._waiters[waiter] = None
        return True

    def wait_no_more(self, waiter: Waiter) -> None:
        """It has what it waited for, or waits no longer."""
        self._waiters.pop(waiter, None)

    # Control

    def report(self, now: float) -> QuotaReport | None:
        """What to tell control; None without limits."""
        if not self._meters:
            return None
        self._expire(now)
        self._sequence += 1
        uses = list(self._uses(now))
        if len(uses) > REPORTED_MAX:
            first = self._turn % len(uses)
            self._turn += REPORTED_MAX
            uses = (uses + uses)[first : first + REPORTED_MAX]
        return QuotaReport(self.seat, self._number, self._sequence, tuple(uses))

    def _uses(self, now: float) -> Iterator[WindowUse]:
        for meter in self._meters.values():
            window = meter.window
            if now < window.end and (window.demand or window.used or window.held != meter.share):
                yield WindowUse(
                    meter.limit.id,
                    window.start,
                    window.held,
                    window.used,
                    window.demand,
                    window.need if window.is_low or window.held - window.used < window.need else 0,
                )

    def heard(self, now: float) -> None:
        """Control has answered a report."""
        self._heard_at = now

    def apply(self, grants: tuple[Grant, ...], now: float) -> None:
        """Hold what control says; never less than what is used already."""
        for grant in grants:
            meter = self._meters.get(grant.limit)
            if meter is None or meter.roll(now).start != grant.start:
                continue
            window = meter.window
            if grant.held > window.held:
                window.need = 0
                self._hurry_s = HURRY_S_MIN
            window.held = max(grant.held, window.used)
            window.base = window.held - window.used
            window.elsewhere = max(0, grant.left - window.base)
        if grants:
            for waiter in list(self._waiters):
                waiter.look_again()

    def _expire(self, now: float) -> None:
        if self._heard_at is None or now - self._heard_at < LEASE_S:
            return
        for meter in self._meters.values():
            window = meter.window
            window.held = min(window.held, max(window.used, meter.share))
            window.base = max(0, window.held - window.used)

    def give_up(self) -> None:
        """Hold no more than what is used: this worker lets nothing through from now on."""
        for meter in self._meters.values():
            window = meter.window
            window.held = min(window.held, window.used)
            window.base = 0

    # Across restarts

    def to_keep(self, now: float) -> list[WindowUse]:
        """What the next process on this seat has to know."""
        return list(self._uses(now))
