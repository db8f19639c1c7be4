"""Who holds which part of a limit: the decider of control. No I/O, and time is passed in.

For each window of each limit, what all workers hold together never exceeds the limit. A worker's
part counts as the most that it may believe to hold: what it reported last, or what it was granted
since. So a part is given to another only when its holder has said that it no longer has it.

A worker that has not spoken of a window holds its fair share of it. One that is gone has what it
used, and the one that is started in its place begins with its fair share again; where that is too
much, it is told so by its first answer. What is left goes to those who ask, by recent demand; a
tenth of it is spread evenly, so that nobody begins at nothing.

What was used is kept by seat (`UseRow`), as totals: written twice, it counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from fairlead.domain.quota import Limit, UseRow, share_of, window_of
from fairlead.wire.quota import Grant, QuotaReport, WindowUse

EVEN = 0.1
"""Part of what is left that does not go by demand."""
SMOOTHING = 0.5
"""Weight of the newest interval in a seat's demand."""
GRANTS_MAX = 2_000
"""In one answer; more follow in the next."""
AGAIN_S = 1.0
"""A worker that asks in vain is told so as often: an answer can be lost on its way."""
SKEW_S = 5.0
"""How far the clocks of workers and control may be apart."""

_Key = tuple[str, int]


class _Part(msgspec.Struct):
    """One seat's part of a window; `bound` is the most that it may believe to hold."""

    bound: int = 0
    used: int = 0
    demand: int = 0
    rate: float = 0.0
    need: int = 0
    told_short_at: float = float("-inf")
    is_saved: bool = True


class _Seat(msgspec.Struct):
    number: int
    boot: str
    sequence: int
    reported_at: float
    is_live: bool = True


class _Book:
    """One window of one limit; `is_restless` when somebody may have to be told something."""

    def __init__(self, limit: Limit, start: int, end: int) -> None:
        self.is_restless = True
        self.limit = limit
        self.start = start
        self.end = end
        self.parts: dict[str, _Part] = {}


class Ledger:
    """All limits, their present windows, and who holds what.

    Args:
        workers: How many gateway workers there are to be.
    """

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)
        self._limits: Mapping[str, Limit] = {}
        self._seats: dict[str, _Seat] = {}
        self._books: dict[_Key, _Book] = {}
        self._kept: dict[_Key, list[UseRow]] = {}
        self._rates: dict[tuple[str, str], float] = {}
        """Demand by limit and seat: what a new window begins with."""

    # What is declared, known from before, and reported

    def declare(self, limits: Mapping[str, Limit]) -> None:
        """These are the limits from now on."""
        self._limits = limits
        for key, book in list(self._books.items()):
            limit = limits.get(book.limit.id)
            if limit is None:
                del self._books[key]
            elif limit != book.limit:
                book.limit = limit
                book.is_restless = True

    def recall(self, rows: Collection[UseRow]) -> None:
        """What was used, as it was kept."""
        for row in rows:
            self._kept.setdefault((row.limit, row.start), []).append(row)

    def report(self, report: QuotaReport, boot: str, now: float, wall: float) -> None:
        """Take in what a worker says; an older report than the last one says nothing."""
        seat = self._seats.get(report.seat)
        is_same_life = seat is not None and seat.boot == boot
        if seat is not None and is_same_life and report.sequence <= seat.sequence:
            return
        if seat is None or not seat.is_live:
            self._disturb()
        since = None if seat is None else max(0.001, now - seat.reported_at)
        self._seats[report.seat] = _Seat(report.number, boot, report.sequence, now)
        for use in report.uses:
            book = self._book(use.limit, use.start, wall)
            if book is not None:
                self._take_in(book, report.seat, use, since)

    def _take_in(self, book: _Book, seat: str, use: WindowUse, since: float | None) -> None:
        part = book.parts.setdefault(seat, _Part(bound=use.held))
        if use.need or use.held != part.bound or use.used > use.held:
            book.is_restless = True
        asked = max(0, use.demand - part.demand)
        rate = asked / (since if since is not None else 1.0)
        before = self._rates.get((use.limit, seat), 0.0)
        part.rate = self._rates[use.limit, seat] = before + SMOOTHING * (rate - before)
        part.is_saved = part.is_saved and part.used == use.used
        part.bound, part.used, part.demand, part.need = use.held, use.used, use.demand, use.need
        if not use.need:
            part.told_short_at = float("-inf")

    def _book(self, limit_id: str, start: int, wall: float) -> _Book | None:
        """The window, if it is one of now."""
        found = self._books.get((limit_id, start))
        limit = self._limits.get(limit_id)
        if found is not None or limit is None:
            return found
        if all(window_of(limit.period, wall + d)[0] != start for d in (-SKEW_S, 0.0, SKEW_S)):
            return None
        book = _Book(limit, start, window_of(limit.period, float(start))[1])
        for row in self._kept.pop((limit_id, start), ()):
            book.parts[row.seat] = _Part(bound=row.used, used=row.used)
        self._books[limit_id, start] = book
        return book

    def retain(self, boots: Collection[str]) -> None:
        """Only these lives of workers go on."""
        for seat in self._seats.values():
            is_live = seat.boot in boots
            if is_live != seat.is_live:
                seat.is_live = is_live
                self._disturb()

    def _disturb(self) -> None:
        for book in self._books.values():
            book.is_restless = True

    def tidy(self, wall: float) -> None:
        """Let go of windows that are over, and begin those in which something was used before."""
        for key, book in list(self._books.items()):
            if book.end + SKEW_S < wall:
                del self._books[key]
        for limit_id, start in list(self._kept):
            if limit_id in self._limits and self._book(limit_id, start, wall) is None:
                del self._kept[limit_id, start]
        held = {name for book in self._books.values() for name in book.parts}
        for name in [n for n, seat in self._seats.items() if not seat.is_live and n not in held]:
            del self._seats[name]
        for limit_id, name in list(self._rates):
            if limit_id not in self._limits or name not in self._seats:
                del self._rates[limit_id, name]

    # Answers

    def grants(self, seat: str, *, all_known: bool) -> tuple[Grant, ...]:
        """What to tell a worker now; nothing when it should go on as it is.

        Args:
            all_known: All workers that there are have reported. Before that, nobody gets more.
        """
        given: list[Grant] = []
        if seat not in self._seats or not self._seats[seat].is_live:
            return ()
        for book in self._books.values():
            grant = None
            if book.is_restless:
                grant = self._grant(book, seat, all_known=all_known)
            if grant is not None:
                given.append(grant)
                if len(given) >= GRANTS_MAX:
                    break
        return tuple(given)

    def _grant(self, book: _Book, seat: str, *, all_known: bool) -> Grant | None:
        live = self._live_parts(book)
        hungry = any(part.need > 0 for part in live.values())
        gone = sum(part.used for name, part in book.parts.items() if name not in live)
        bound = sum(max(part.bound, part.used) for part in live.values())
        free = book.limit.amount - gone - bound - self._missing(book)
        if not hungry and free >= 0:
            book.is_restless = False
            return None
        left = max(0, book.limit.amount - gone - sum(part.used for part in live.values()))
        target = self._targets(live, left)[seat]
        part = live[seat]
        if target < part.bound and _must_give(live, seat, free):
            book.parts.setdefault(seat, part)
            return Grant(book.limit.id, book.start, target, left)
        if part.need <= 0 or not all_known:
            return None
        raised = min(target, part.bound + max(0, free))
        if raised > part.bound:
            part.bound = raised
            part.told_short_at = float("-inf")
            return Grant(book.limit.id, book.start, raised, left)
        now = self._seats[seat].reported_at
        is_short = left < part.need or left <= part.bound - part.used
        if is_short and now - part.told_short_at >= AGAIN_S:
            part.told_short_at = now
            return Grant(book.limit.id, book.start, part.bound, left)
        return None

    def _live_parts(self, book: _Book) -> dict[str, _Part]:
        """The parts of the workers that run; the fair share of those that have not spoken of it."""
        parts = {}
        for name, seat in self._seats.items():
            if seat.is_live:
                known = book.parts.get(name)
                rate = self._rates.get((book.limit.id, name), 0.0)
                parts[name] = known or _Part(bound=self._share(book, seat.number), rate=rate)
        return parts

    def _missing(self, book: _Book) -> int:
        """What the workers begin with that are to come."""
        known = {seat.number for seat in self._seats.values() if seat.is_live}
        return sum(self._share(book, n) for n in range(self._workers) if n not in known)

    def _share(self, book: _Book, number: int) -> int:
        return share_of(book.limit.amount, self._workers, number)

    @staticmethod
    def _targets(live: Mapping[str, _Part], left: int) -> dict[str, int]:
        """How much each should hold: its use, what it needs at once, and its part of the rest."""
        extra = dict.fromkeys(live, 0)
        asking = sorted(
            (name for name, part in live.items() if part.need > 0),
            key=lambda name: (-live[name].rate, name),
        )
        for name in asking:
            if live[name].need <= left:
                extra[name] = live[name].need
                left -= live[name].need
        whole = sum(part.rate for part in live.values())
        rest = left
        for name, part in live.items():
            by_demand = part.rate / whole if whole > 0 else 1 / len(live)
            more = int(left * ((1 - EVEN) * by_demand + EVEN / len(live)))
            extra[name] += more
            rest -= more
        if rest > 0:
            extra[asking[0] if asking else max(live, key=lambda name: live[name].rate)] += rest
        return {name: live[name].used + extra[name] for name in live}

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody that runs lacks something."""
        return any(book.is_restless for book in self._books.values())

    # What is kept

    def unsaved(self) -> list[UseRow]:
        """What was used and is not kept yet; `saved` says that it is."""
        return list(self._unsaved())

    def _unsaved(self) -> Iterator[UseRow]:
        for (limit, start), book in self._books.items():
            for name, part in book.parts.items():
                if not part.is_saved:
                    yield UseRow(limit, start, name, part.used, float(book.end))

    def saved(self, rows: Collection[UseRow]) -> None:
        """These are kept."""
        for row in rows:
            book = self._books.get((row.limit, row.start))
            part = book.parts.get(row.seat) if book is not None else None
            if part is not None and part.used == row.used:
                part.is_saved = True


def _must_give(live: Mapping[str, _Part], seat: str, free: int) -> bool:
    """Whether a part that is above its target is to be lowered: others lack what it holds, or too
    much is held in all."""
    if free < 0:
        return True
    short = any(p.need > 0 and p.used + p.need > p.bound for p in live.values())
    others = any(p.need > 0 for name, p in live.items() if name != seat)
    return others and (short or free <= 0)
