"""A judge model over a champion's live traffic, for as long as it is champion.

The queue is that of rollouts, as blind and as careful with money; but for which samples it takes:
those that the champion answered and no rollout's own queue judges, and of these only what is not
older than `FRESH_S`. A monitor has no use for yesterday, so a judge that was away for hours does
not come back to a mountain of questions. What is spent is spread over the day: a cap that is used
up at noon would leave nobody to look in the evening. While that is what holds it, the next question
is about what is no older than `NEWEST_S`. Whether a sample is asked about depends on the clock and
on what was spent before it, never on itself: long answers are not passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from fairlead.control.judging.asking import Asker, Reply
from fairlead.control.judging.budget import Stop, day_of, live_stop_of
from fairlead.control.judging.judging import Judging
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.judging.queue import REST_S_FIRST, WINDOW, JudgeQueue
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.evaluation.judge_model import Agreement, Exchange, JudgeModel
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.monitoring.monitors.judged import Grading
from fairlead.stats.monitors.rates import Counts, JudgeError
from fairlead.store.interface import Store
from fairlead.store.rows import JudgeSpend, SampleToJudge, ServiceRow

FRESH_S = 900.0
"""Samples older than that, by what is recorded, are left out."""
NEWEST_S = 60.0
"""The same while a cap that is spread over the day leaves most of them out."""
OUT_S = 60.0
"""For so long a judge may give no verdicts before nobody sees."""
LOOK_S = 2.0
MEASURED_S = 30.0


class Sampled(NamedTuple):
    """What is judged, by whom."""

    service: str
    release: str
    judge: JudgeModel
    sample: JudgeSample


class LiveQueue(JudgeQueue):
    """See the head of this file.

    Args:
        is_elsewhere: Whether a rollout's queue judges, or is to, what was assigned at random.

    Attributes:
        of: What it judges.
    """

    def __init__(
        self,
        store: Store,
        asker: Asker,
        of: Sampled,
        now: Callable[[], float],
        is_elsewhere: Callable[[], bool],
    ) -> None:
        super().__init__(store, asker, "", of.service, now, decides=False)
        self.of = of
        self._is_elsewhere = is_elsewhere
        self._floor = self._looks_at = 0.0
        self._paced_at = -FRESH_S
        self._waited_at = now()
        self._blind_since: float | None = None

    async def turn(self) -> bool:
        """As of a rollout's queue; looks at most each `LOOK_S` while there is nothing to do."""
        if 0.0 < self._looks_at - self._now() <= LOOK_S:
            return False
        progress = await super().turn()
        now = self._now()
        self._looks_at = 0.0 if progress else now + LOOK_S
        if self.oldest is not None:
            self._waited_at = now
        elif not 0.0 <= now - self._waited_at <= FRESH_S:
            self._forget_troubles()
        return progress

    def _forget_troubles(self) -> None:
        """There has been nothing to judge: nobody knows whether the judge would."""
        self.stop = self._blind_since = None
        self.trouble = ""
        self._fruitless.clear()
        self._rest_s = REST_S_FIRST

    @property
    def blindness(self) -> str:
        """Why no verdicts come though there are samples; empty while they do."""
        now = self._now()
        if self._blind_since is not None and not 0.0 <= now - self._blind_since < OUT_S:
            what = "does not answer" if self.is_out else "gives no verdicts"
            return f"the judge model {what}: {self.trouble}"
        if self.stop is not None and not self.stop.is_paced:
            return self.stop.why
        is_late = self.oldest is not None and self.oldest < self._floor + 0.2 * FRESH_S
        if is_late and not self._is_paced:
            return (
                f"the judge model is too slow: samples older than {FRESH_S / 60:.0f} min are left "
                "out; lower monitoring.judge.share"
            )
        return ""

    def spend(self) -> tuple[JudgeSpend, JudgeSpend]:
        """What live traffic has cost today, and the service in all."""
        since = day_of(self._now())
        return (
            self._store.judge_spend(service=self.service, rollout="", since=since),
            self._store.judge_spend(service=self.service, since=since),
        )

    def _read(self, until: float) -> list[SampleToJudge]:
        self._floor = until - FRESH_S
        now = self._now()
        self._again_at = {each: at for each, at in self._again_at.items() if at > now - FRESH_S}
        # What is to be asked again is not left out: only some answers are.
        is_newest_only = self._is_paced and not self._again_at
        begin = until - NEWEST_S if is_newest_only else self._floor
        self._after = max(self._after, (begin, ""))
        return self._store.samples_to_judge(
            self.service, self.of.release, after=self._after, until=until, limit=WINDOW
        )

    def _is_chosen(self, row: SampleToJudge) -> bool:
        return not 0.0 < row.rho < 1.0 or not self._is_elsewhere()

    def _share_of(self, row: SampleToJudge) -> float:
        return self._judge.share

    def _pace(self) -> None:
        """Its share stays as it is declared: who is too slow for it is told so (`blindness`)."""

    @property
    def _is_paced(self) -> bool:
        """Whether a cap that is spread over the day has held it lately."""
        return 0.0 <= self._now() - self._paced_at <= FRESH_S

    def _within_budget(
        self, samples: Sequence[SampleToJudge]
    ) -> list[tuple[SampleToJudge, Exchange]]:
        asked = super()._within_budget(samples)
        if self.stop is not None and self.stop.is_paced:
            self._paced_at = self._now()
        return asked

    def _budget(self) -> Callable[[float, float, int], Stop | None]:
        mine, today = self.spend()
        now = self._now()

        def stop_at(before_usd: float, usd: float, before: int) -> Stop | None:
            spent = _with(mine, before_usd, before), _with(today, before_usd, before)
            return live_stop_of(self.of.judge.budget, self.of.sample, spent, usd, now)

        return stop_at

    def _rest(self, asked: Iterable[str], replies: Sequence[Reply], *, is_out: bool) -> None:
        super()._rest(asked, replies, is_out=is_out)
        self._waited_at = self._now()
        if not self.is_blind:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = self._now()


def _with(spent: JudgeSpend, usd: float, asked: int) -> JudgeSpend:
    """After so many questions more that cost so much."""
    return msgspec.structs.replace(spent, usd=spent.usd + usd, asked=spent.asked + asked)


class LiveJudging:
    """Which services' live traffic is judged: one queue each, begun and ended by what is declared.

    Args:
        services: All services with the specs by which they run.
        running: A service's active rollout.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        judging: Judging,
        store: Store,
        services: Callable[[], list[tuple[ServiceRow, ServiceSpec]]],
        running: Callable[[str], Running | None],
        now: Callable[[], float],
    ) -> None:
        self._running = running
        self._judging = judging
        self._store = store
        self._services = services
        self._now = now
        self._queues: dict[str, LiveQueue] = {}
        self._agreements: dict[str, Agreement | None] = {}
        self._measured_at = -MEASURED_S

    async def advance(self) -> None:
        """Begin and end queues, as is declared; raises FairleadError when the store does."""
        wanted = {one.service: one for one in self._wanted()}
        for service, queue in list(self._queues.items()):
            if wanted.get(service) != queue.of:
                del self._queues[service]
                await self._judging.forget(_name(service))
        for service, one in wanted.items():
            if service not in self._queues:
                queue = self._queues[service] = self._queue(one)
                self._judging.begin(_name(service), queue)
        judged = [row.name for row, spec in self._services() if spec.judge is not None]
        is_fresh = 0.0 <= self._now() - self._measured_at < MEASURED_S
        if not is_fresh or judged != list(self._agreements):
            self._agreements = await asyncio.to_thread(self._read_agreements, judged)
            self._measured_at = self._now()

    def grading(self, service: str, judge: JudgeModel | None) -> Grading | None:
        """How scores of this judge are read; None without one."""
        if judge is None:
            return None
        found = self._agreements.get(service)
        error = None
        if found is not None and found.judge == judge.identity and found.good and found.bad:
            error = JudgeError(
                alarms=Counts(found.good_missed, found.good),
                misses=Counts(found.bad_missed, found.bad),
            )
        return Grading(judge.identity, judge.good_at_least, error)

    def rollout_judge(self, service: str) -> str:
        """Identity of the judge of the rollout under way, by its own manifest; empty without."""
        running = self._running(service)
        judge = None if running is None else running.spec.judge
        return "" if judge is None else judge.identity

    def blindness(self, service: str) -> str:
        """Why no verdicts on its live traffic come; empty while they do, or none are wanted."""
        queue = self._queues.get(service)
        return "" if queue is None else queue.blindness

    def view(self, service: str) -> LiveJudgingView | None:
        """How far it is; reads the store. None where live traffic is not judged."""
        queue = self._queues.get(service)
        if queue is None:
            return None
        judge, sample = queue.of.judge, queue.of.sample
        mine, _ = queue.spend()
        paced = queue.stop.why if queue.stop is not None and queue.stop.is_paced else ""
        return LiveJudgingView(
            judge=judge.provider.model if judge.provider else judge.service or "",
            release=queue.of.release,
            share=sample.share,
            pending=queue.pending,
            pending_is_more=queue.is_full,
            oldest_s=None if queue.oldest is None else max(0.0, self._now() - queue.oldest),
            judged_today=mine.judged,
            unjudged_today=mine.unjudged,
            asked_today=mine.asked,
            usd_today=mine.usd,
            per_day=sample.per_day,
            usd_per_day=sample.usd_per_day,
            said=queue.blindness or queue.trouble or paced,
            error=self._judging.measured(judge, service),
        )

    def _queue(self, of: Sampled) -> LiveQueue:
        def is_elsewhere() -> bool:
            running = self._running(of.service)
            return running is not None and running.spec.judge is not None

        judge = msgspec.structs.replace(of.judge, share=of.sample.share)
        return LiveQueue(self._store, self._judging.asker(judge), of, self._now, is_elsewhere)

    def _wanted(self) -> list[Sampled]:
        return [
            Sampled(row.name, row.champion, spec.judge, spec.monitoring.judge)
            for row, spec in self._services()
            if row.champion and spec.judge and spec.monitoring.judge and spec.capture
        ]

    def _read_agreements(self, judged: Sequence[str]) -> dict[str, Agreement | None]:
        return {name: self._judging.agreement(name) for name in judged}


def _name(service: str) -> str:
    """Its queue's name among those of rollouts."""
    return f"live/{service}"
