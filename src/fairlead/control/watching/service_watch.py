"""One service as it is watched: counts for its promises, and the monitors of its releases.

A look reads on, lets all monitors see it, and says what holds now. What it has read and what was
made of that is kept in one transaction, now and then: after a restart it goes on from there, and
comes to the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from fairlead.control.acting.traffic import Minutes
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.reading import Portion, Positions, let_go, read
from fairlead.control.watching.release_monitors import MONITOR, SELF_TEST_S, ReleaseMonitors
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import NotFound
from fairlead.domain.judging import JUDGED
from fairlead.monitoring.alerts import Condition
from fairlead.monitoring.burning import assess
from fairlead.monitoring.counting import Count, Ledger, counted, judged, summed
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Monitor, SuggestedCase
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.promising import conditions_of, self_test
from fairlead.monitoring.watchers import Report
from fairlead.probing.bias_model import Segment
from fairlead.store.rows import MinuteRow
from fairlead.store.watching import WatchStore

POSITION = "watch_position"
SAVE_S = 30.0
BEGIN_S = 86_400.0
"""A service that was not watched before is read from so long ago on."""
PAGES = 5
RELEASES_MAX = 8
ASSESS_S = 10.0


class Served(Protocol):
    """A service as it is now.

    Attributes:
        champion: Digest of the release that serves; empty for none.
        has_texts: Whether a sample of prompts or answers is kept.
        segments: Users who are compared with all others.
    """

    @property
    def name(self) -> str: ...
    @property
    def champion(self) -> str: ...
    @property
    def declared(self) -> Declared: ...
    @property
    def has_texts(self) -> bool: ...
    @property
    def segments(self) -> tuple[Segment, ...]: ...


Build = Callable[[Served, str], Sequence[Monitor]]
"""Makes the monitors of a release (its digest) of a service."""

_log = logging.getLogger(__name__)


class ServiceWatch:
    """Watches one service; its methods read the store, and are for one thread at a time.

    Args:
        build: Makes the monitors of a release, by service and digest.
        now: Unix time in seconds.
    """

    def __init__(
        self, store: WatchStore, service: str, build: Build, now: Callable[[], float]
    ) -> None:
        self.service = service
        self._served: Served | None = None
        self._store = store
        self._build = build
        self._now = now
        self._positions = Positions()
        self._ledgers: dict[Objective, Ledger] = {}
        self._unsaved: list[Count] = []
        self._releases: dict[str, ReleaseMonitors] = {}
        self._saved_at = 0.0
        self._assessed: tuple[float, list[Condition]] = (0.0, [])
        self._seen = 0
        self._tested = (now(), self_test())
        self.known_until = 0.0

    def load(self) -> None:
        """Go on from what is kept."""
        kept = self._store.documents(POSITION).get(self.service)
        begin = self._now() - BEGIN_S
        at = (begin, "")
        self._positions = Positions(requests=at, feedback=at, judged=at, texts=at)
        if kept is not None:
            try:
                self._positions = decode_json(kept, Positions)
            except msgspec.DecodeError as error:
                _log.error("%s: where its monitors were cannot be read: %s", self.service, error)
        self._saved_at = self._now()

    @property
    def champion(self) -> str:
        """Digest of the release that serves; empty for none."""
        return "" if self._served is None else self._served.champion

    @property
    def declared(self) -> Declared:
        """What is declared of the service."""
        return Declared() if self._served is None else self._served.declared

    def follow(self, served: Served) -> None:
        """The release that serves, and what is declared of the service."""
        before, self._served = self._served, served
        if before is not None and _watched_by(before) != _watched_by(served):
            self._make_anew()
        if served.champion:
            champion = self._release(served.champion)
            past = None if before is None else self._releases.get(before.champion)
            if past is not None and past is not champion:
                champion.inherit(past)
        promises = served.declared.promises
        if not self._ledgers or tuple(self._ledgers) != promises:
            self._count_anew(promises)

    def traffic(self) -> Minutes:
        """Requests of the last minutes before what is known ends."""
        for objective, ledger in self._ledgers.items():
            if objective.kind is ObjectiveKind.AVAILABILITY:
                return ledger.traffic(self.known_until)
        return []

    def look(self, watermark: float) -> bool:
        """Read what was recorded until the watermark; whether that was all of it."""
        self._seen = 0
        for _ in range(PAGES):
            portion = read(self._store, self.service, self._positions, watermark)
            self._take(portion)
            if portion.is_whole:
                self.known_until = watermark
                let_go(self._positions, watermark)
                return True
        self.known_until = self._positions.requests[0]
        return False

    def conditions(self) -> list[Condition]:
        """What holds now, of promises and of the release that serves."""
        now = self._now()
        if not 0.0 <= now - self._assessed[0] < ASSESS_S:
            self._assessed = (now, list(self._promises(now)))
        served = self._releases.get(self.champion)
        found = served.conditions(now) if served is not None else []
        runbook = self.declared.runbook
        return [
            *self._assessed[1],
            *(msgspec.structs.replace(one, runbook=one.runbook or runbook) for one in found),
        ]

    def accept(self, monitor: str) -> None:
        """See `Watched.accept`; raises NotFound."""
        served = self._releases.get(self.champion)
        if served is None:
            raise NotFound(f"no release of {self.service!r} is watched")
        served.accept(monitor)

    def reports(self, error: str = "") -> Iterator[Report]:
        """What each monitor says of its looking; with an error none of them could."""
        now = self._now()
        served = self._releases.get(self.champion)
        lag_s = now - self.known_until
        # Without traffic the watermark moves on all the same: where it does not, nobody sees.
        requests = max(self._seen, int(lag_s > 60.0))
        yield Report(
            SLO, self.service, now, requests=requests, looked_at=requests,
            data_until=self.known_until, error=error,
            self_tested_at=self._tested[0], self_test_error=self._tested[1],
        )  # fmt: skip
        for each in served.reports() if served is not None else ():
            yield msgspec.structs.replace(
                each, at=now, requests=requests, looked_at=requests,
                data_until=self.known_until, error=error or each.error,
            )  # fmt: skip

    def standings(self) -> list[MonitorStanding]:
        """All monitors, those of the release that serves first."""
        order = sorted(self._releases, key=lambda release: (release != self.champion, release))
        return [
            each
            for release in order
            for each in self._releases[release].standings(self.known_until)
        ]

    def suggested_cases(self) -> list[SuggestedCase]:
        """What the suites of the release that serves lack."""
        served = self._releases.get(self.champion)
        return [] if served is None else served.suggested_cases()

    def forget_deleted(self) -> None:
        """Drop texts whose samples are deleted by now, from what is kept as well."""
        for monitors in self._releases.values():
            kept = monitors.kept_requests()
            gone = kept - self._store.kept_samples(kept) if kept else set()
            if gone:
                monitors.forget(gone)
                self.save(at_once=True)

    def self_test(self) -> bool:
        """Let one monitor of the champion test itself, if one is due; whether there was one."""
        if self._now() - self._tested[0] >= SELF_TEST_S:
            self._tested = (self._now(), self_test())
            return True
        served = self._releases.get(self.champion)
        return served is not None and served.self_test(self._now())

    def save(self, *, at_once: bool = False) -> None:
        """Keep how far it is with what was made of it, now and then."""
        now = self._now()
        if not at_once and 0.0 <= now - self._saved_at < SAVE_S:
            return
        puts = {(POSITION, self.service): msgspec.json.encode(self._positions)}
        for monitors in self._releases.values():
            puts.update(monitors.documents())
        rows = [
            MinuteRow(self.service, one.minute, one.kind, one.total, one.bad)
            for one in summed(self._unsaved)
        ]
        self._store.commit_documents(puts, self._let_go(now), minutes=rows)
        self._unsaved.clear()
        self._saved_at = now

    def _take(self, portion: Portion) -> None:
        promises = self.declared.promises
        for seen in portion.seen:
            self._count(counted(promises, seen))
            if seen.request.release:
                self._release(seen.request.release).see(seen)
        for feedback in portion.feedback:
            if feedback.name == JUDGED:
                self._count([judged(feedback.value, feedback.at)])
            if feedback.request.release:
                self._release(feedback.request.release).see_feedback(feedback)
        for text in portion.texts:
            if text.request.release:
                self._release(text.request.release).see_text(text)
        self._positions = portion.after
        self._seen += len(portion.seen)

    def _count(self, counts: Iterable[Count]) -> None:
        for count in counts:
            self._unsaved.append(count)
            for objective, ledger in self._ledgers.items():
                if objective.kind.value == count.kind:
                    ledger.add(count)
        if len(self._unsaved) > 10_000:
            self._unsaved = summed(self._unsaved)

    def _count_anew(self, objectives: Sequence[Objective]) -> None:
        """Other promises: their counts begin with what was counted of the same kind before."""
        self._ledgers = {objective: Ledger(objective) for objective in objectives}
        longest = max(objective.period_s for objective in objectives)
        kept = [
            Count(row.promise, row.minute, row.total, row.bad)
            for row in self._store.minutes(self.service, self._now() - longest)
        ]
        for count in (*kept, *self._unsaved):
            for objective, ledger in self._ledgers.items():
                if objective.kind.value == count.kind:
                    ledger.add(count)

    def _promises(self, now: float) -> Iterator[Condition]:
        for objective, ledger in self._ledgers.items():
            found = assess(objective, ledger.buckets(self.known_until), now)
            yield from conditions_of(self.service, found, self.declared.runbook)

    def _make_anew(self) -> None:
        """Other settings: monitors that fit go on from what is kept, the others learn anew."""
        self.save(at_once=True)
        for release in list(self._releases):
            self._releases[release] = self._monitors_of(release)

    def _release(self, release: str) -> ReleaseMonitors:
        found = self._releases.get(release)
        if found is None:
            found = self._releases[release] = self._monitors_of(release)
        return found

    def _monitors_of(self, release: str) -> ReleaseMonitors:
        assert self._served is not None
        monitors = ReleaseMonitors(self.service, release, self._build(self._served, release))
        monitors.restore(self._store.documents(MONITOR))
        return monitors

    def _let_go(self, now: float) -> list[tuple[str, str]]:
        """Forget releases that nobody asks any more; the documents to delete."""
        others = [name for name in self._releases if name != self.champion]
        others.sort(key=lambda name: self._releases[name].last_seen)
        gone = [name for name in others if now - self._releases[name].last_seen > BEGIN_S]
        gone += others[: max(0, len(others) + 1 - RELEASES_MAX)]
        return [key for name in dict.fromkeys(gone) for key in self._releases.pop(name).named]


def _watched_by(served: Served) -> object:
    """What the monitors of its releases are made from."""
    declared = served.declared
    return served.has_texts, served.segments, declared.monitors, declared.texts
