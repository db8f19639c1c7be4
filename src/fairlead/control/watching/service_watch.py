"""One service as it is watched: counts for its promises, and the monitors of its releases.

A look reads on, lets all monitors see it, and says what holds now. What it has read and what was
made of that is kept in one transaction, now and then: after a restart it goes on from there, and
comes to the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from fairlead.control.acting.traffic import Minutes
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.judged_metrics import JudgedMetrics
from fairlead.control.watching.kept_documents import UNASKED_S, KeptDocuments
from fairlead.control.watching.reading import Portion, Positions, let_go, read
from fairlead.control.watching.release_monitors import SELF_TEST_S, ReleaseMonitors
from fairlead.control.watching.sampling import is_due, unseen
from fairlead.control.watching.served import Served
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import NotFound
from fairlead.domain.judging import JUDGED
from fairlead.monitoring.burning import assess
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.counting import Count, Ledger, counted, judged, summed
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Monitor, SeenFeedback, SuggestedCase
from fairlead.monitoring.monitors.quality import QualityMonitor
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.promising import conditions_of, self_test
from fairlead.monitoring.watchers import Report
from fairlead.store.rows import MinuteRow
from fairlead.store.watching import WatchStore

POSITION = "watch_position"
SAVE_S = 30.0
CLOCK_S = 5.0
PAGES = 5
RELEASES_MAX = 8
ASSESS_S = 10.0


Build = Callable[[Served, str], Sequence[Monitor]]
"""Makes the monitors of a release (its digest) of a service."""

_log = logging.getLogger(__name__)


class ServiceWatch:
    """Watches one service; its methods read the store, and are for one thread at a time.

    Args:
        build: Makes the monitors of a release, by service and digest.
        now: Unix time in seconds.
        judged: Shows Prometheus what judges said of this service.
    """

    def __init__(
        self,
        store: WatchStore,
        service: str,
        build: Build,
        now: Callable[[], float],
        judged: JudgedMetrics,
    ) -> None:
        self.service = service
        self._judged = judged
        self._served: Served | None = None
        self._rollout_judge = ""
        self._store = store
        self._build = build
        self._now = now
        self._positions = Positions()
        self._ledgers: dict[Objective, Ledger] = {}
        self._unsaved: list[Count] = []
        self._releases: dict[str, ReleaseMonitors] = {}
        self._saved_at = 0.0
        self._kept = KeptDocuments(store, service)
        self._watermark = 0.0
        self._has_caught_up = self._is_whole = False
        self._captured_since = 0.0
        self._assessed: tuple[float, list[Condition]] = (0.0, [])
        self._seen = 0
        self._tested = (now(), self_test())
        self.known_until = 0.0

    def load(self) -> None:
        """Go on from what is kept."""
        kept = self._store.documents(POSITION).get(self.service)
        if kept is None:
            self._positions = Positions.first(self._store, self.service, self._now())
        else:
            try:
                self._positions = decode_json(kept, Positions)
            except msgspec.DecodeError as error:
                # What was counted already must not be counted again: it goes on from now.
                _log.error("%s: where its monitors were cannot be read: %s", self.service, error)
                self._positions = Positions.since(self._now())
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
        """The release that serves, and what is declared of the service.

        Nothing has changed when the store raises; it is called again.
        """
        before, promises = self._served, served.declared.promises
        is_other = before is not None and before.watched_by != served.watched_by
        if is_other:
            self.save(at_once=True)  # What fits goes on from there, the rest learns anew.
            self._kept.sweep_soon()
        wanted = {served.champion, self._positions.heir, *(self._releases if is_other else ())}
        made = {
            release: self._monitors_of(served, release)
            for release in sorted(wanted - {""})
            if is_other or release not in self._releases
        }
        ledgers = self._ledgers if tuple(self._ledgers) == promises else self._counted(promises)
        if before is None or before.capture != served.capture:
            # What came before was sampled in another way, or not at all.
            self._captured_since = self._now()
        self._served, self._ledgers = served, ledgers
        if any(one.kind is ObjectiveKind.QUALITY for one in promises):
            self._judged.begin(self.service)
        # Its last verdicts may be read when it is over.
        self._rollout_judge = served.rollout_judge or self._rollout_judge
        self._releases.update(made)
        self._hand_on(served.champion)

    def traffic(self) -> Minutes:
        """Requests of the last minutes before what is known ends."""
        for objective, ledger in self._ledgers.items():
            if objective.kind is ObjectiveKind.AVAILABILITY:
                return ledger.traffic(self.known_until)
        return []

    def look(self, watermark: float) -> bool:
        """Read what was recorded until the watermark; whether that was all of it."""
        self._seen, self._watermark, self._is_whole = 0, watermark, False
        for _ in range(PAGES):
            portion = read(self._store, self.service, self._positions, watermark)
            self._take(portion)
            if portion.is_whole:
                self.known_until = watermark
                self._has_caught_up = self._is_whole = True
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
        if served is None or self._served is None:
            return self._assessed[1]
        return [*self._assessed[1], *served.conditions(now, is_remote=self._served.is_remote)]

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
        # Without traffic the watermark moves on all the same: where it does not, nobody sees. What
        # was there before it was watched at all is read first, which takes its time.
        until = self.known_until if self._has_caught_up else None
        lag_s = 0.0 if until is None else now - until
        requests = max(self._seen, int(lag_s > 60.0))
        if lag_s < -CLOCK_S:
            error = error or (
                f"a clock was set: records are known until {-lag_s:.0f} s from now, and what comes "
                "with an earlier date is not seen"
            )
        yield Report(
            SLO, self.service, now, requests=requests, looked_at=requests,
            data_until=until, error=error,
            self_tested_at=self._tested[0], self_test_error=self._tested[1],
        )  # fmt: skip
        for each in served.reports(now) if served is not None else ():
            # What is not read yet may have the texts that one waits for.
            missing = each.requests if self._is_whole else 0
            yield msgspec.structs.replace(
                each, at=now, requests=missing or requests, looked_at=0 if missing else requests,
                data_until=until, error=error or each.error or self._blindness_of(each.monitor),
                is_unserved=each.is_unserved and not error,
            )  # fmt: skip

    def _blindness_of(self, monitor: str) -> str:
        """Why a monitor has nothing to see though there is traffic."""
        if monitor != QualityMonitor.name or self._served is None:
            return ""
        return self._served.judge_blindness

    def standings(self) -> list[MonitorStanding]:
        """All monitors, those of the release that serves first."""
        order = sorted(self._releases, key=lambda release: (release != self.champion, release))
        return [
            each
            for release in order
            for each in self._releases[release].standings(self.known_until)
        ]

    def unwatched(self) -> list[MonitorStanding]:
        """Monitors of texts of the release that serves, where there are no texts."""
        served = self._served
        if served is None:
            return []
        return [
            MonitorStanding(self.service, served.champion, name, why, 0, 0.0, 0.0)
            for name, why in unseen(served.capture, served.declared.monitors.off).items()
        ]

    def suggested_cases(self) -> list[SuggestedCase]:
        """What the suites of the release that serves lack."""
        served = self._releases.get(self.champion)
        return [] if served is None else served.suggested_cases()

    @property
    def known_cases(self) -> list[SuggestedCase] | None:
        """The same, as they are known already, to whatever thread; None where they are not."""
        served = self._releases.get(self.champion)
        return None if served is None else served.known_cases

    def forget_deleted(self) -> None:
        """Drop texts whose samples are deleted by now, from what is kept as well."""
        has_forgotten = False
        for monitors in self._releases.values():
            kept = monitors.kept_requests()
            gone = kept - self._store.kept_samples(kept) if kept else set()
            if gone:
                monitors.forget(gone)
                has_forgotten = True
        if has_forgotten:
            self.save(at_once=True)

    def self_test(self) -> bool:
        """Let one monitor of the champion test itself, if one is due; whether there was one."""
        if self._now() - self._tested[0] >= SELF_TEST_S:
            self._tested = (self._now(), self_test())
            return True
        served = self._releases.get(self.champion)
        return served is not None and served.self_test(self._now())

    def save(self, *, at_once: bool = False) -> None:
        """Keep how far it is with what was made of it, now and then: of that, what has changed."""
        now = self._now()
        if not at_once and 0.0 <= now - self._saved_at < SAVE_S:
            return
        gone = self._gone(now)
        kept = {name: each for name, each in self._releases.items() if name not in gone}
        puts = {(POSITION, self.service): msgspec.json.encode(self._positions)}
        for monitors in kept.values():
            puts.update(monitors.documents())
        rows = [
            MinuteRow(self.service, one.minute, one.kind, one.total, one.bad)
            for one in summed(self._unsaved)
        ]
        named = {release: monitors.named for release, monitors in kept.items()}
        self._kept.commit(puts, named, now, rows)
        self._unsaved.clear()
        self._releases = kept
        self._saved_at = now

    def drop(self) -> None:
        """The service is gone: nothing of its monitors is kept."""
        self._kept.drop((POSITION, self.service))

    def _gone(self, now: float) -> set[str]:
        """Releases that nobody asks any more."""
        serving = (self.champion, self._positions.heir)
        others = [name for name in self._releases if name not in serving]
        others.sort(key=lambda name: self._releases[name].last_seen)
        gone = {name for name in others if now - self._releases[name].last_seen > UNASKED_S}
        return gone | set(others[: max(0, len(others) + 1 - RELEASES_MAX)])

    def _hand_on(self, champion: str) -> None:
        """The champion goes on with what the one before has shown of the service's users."""
        heir = self._positions.heir
        if champion and heir and champion != heir:
            self._releases[champion].inherit(self._releases[heir])
            self._saved_at = 0.0  # It is kept with this look.
        self._positions.heir = champion or heir

    def _take(self, portion: Portion) -> None:
        promises = self.declared.promises
        # Before anything is seen: the store may raise, and all of it is read again then.
        requests = [
            *(one.request for one in portion.seen),
            *(one.request for one in portion.feedback),
            *(one.request for one in portion.texts),
        ]
        for release in {request.release for request in requests if request.release}:
            self._release(release)
        capture = None if self._served is None else self._served.capture
        for seen in portion.seen:
            self._count(counted(promises, seen))
            if seen.request.release:
                is_new = seen.request.started_at >= self._captured_since
                due = is_new and is_due(capture, seen.request)
                self._release(seen.request.release).see(seen, is_due=due)
        for given in portion.feedback:
            if self._is_anothers(given):
                continue
            feedback = self._graded(given)
            if feedback.name == JUDGED:
                verdict = judged(feedback.value, feedback.at)
                self._count([verdict])
                self._judged.add(self.service, verdict, self._now())
            if feedback.request.release:
                self._release(feedback.request.release).see_feedback(feedback)
        for text in portion.texts:
            if text.request.release:
                self._release(text.request.release).see_text(text)
        self._positions = portion.after
        self._seen += len(portion.seen)

    def _is_anothers(self, feedback: SeenFeedback) -> bool:
        """Whether a rollout's own judge gave it, which is not the service's.

        A rollout's manifest may have another rubric or scale: its scores mean something else.
        """
        if self._served is None or not feedback.rollout or not self._rollout_judge:
            return False
        grading = self._served.grading
        return grading is None or grading.identity != self._rollout_judge

    def _graded(self, feedback: SeenFeedback) -> SeenFeedback:
        """A judge's score as what it means: 1 for a good answer, 0 for a bad one."""
        grading = None if self._served is None else self._served.grading
        if feedback.name != JUDGED or grading is None:
            return feedback
        return feedback._replace(value=float(feedback.value >= grading.good_at_least))

    def _count(self, counts: Iterable[Count]) -> None:
        for count in counts:
            self._unsaved.append(count)
            for objective, ledger in self._ledgers.items():
                if objective.kind.value == count.kind:
                    ledger.add(count)
        if len(self._unsaved) > 10_000:
            self._unsaved = summed(self._unsaved)

    def _counted(self, objectives: Sequence[Objective]) -> dict[Objective, Ledger]:
        """Other promises: their counts begin with what was counted of the same kind before."""
        ledgers = {objective: Ledger(objective) for objective in objectives}
        longest = max(objective.period_s for objective in objectives)
        kept = [
            Count(row.promise, row.minute, row.total, row.bad)
            for row in self._store.minutes(self.service, self._now() - longest)
        ]
        for count in (*kept, *self._unsaved):
            for objective, ledger in ledgers.items():
                if objective.kind.value == count.kind:
                    ledger.add(count)
        return ledgers

    def _promises(self, now: float) -> Iterator[Condition]:
        # Where the gateway's clocks are ahead, the last minutes are those of its records.
        now = max(now, self.known_until)
        for objective, ledger in self._ledgers.items():
            found = assess(objective, ledger.buckets(self.known_until), now)
            yield from conditions_of(self.service, found)

    def _release(self, release: str) -> ReleaseMonitors:
        found = self._releases.get(release)
        if found is None:
            assert self._served is not None
            found = self._releases[release] = self._monitors_of(self._served, release)
        return found

    def _monitors_of(self, served: Served, release: str) -> ReleaseMonitors:
        monitors = ReleaseMonitors(self.service, release, lambda: self._build(served, release))
        monitors.restore(*self._kept.of_release(release))
        return monitors
