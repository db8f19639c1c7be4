"""What watching needs of control's other parts, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from fairlead.control.acting.carrying_out import Acting
from fairlead.control.acting.platform import Platform
from fairlead.control.acting.sources import Sources
from fairlead.control.acting.traffic import Minutes
from fairlead.control.bias.bias_probes import BiasProbes
from fairlead.control.bias.telling import MONITOR as BIAS
from fairlead.control.bias.tracking import ScoreTracking
from fairlead.control.bias.tracking_views import MONITOR as SCORES
from fairlead.control.judging.live import LiveJudging
from fairlead.control.shipping.overview import Overview
from fairlead.control.watching.served import Served
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, Looked
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.watchers import Report, Watch
from fairlead.rollout.declared import FeedbackRule


class ControlPlatform:
    """Implements `fairlead.control.watching.around.Platform`.

    Args:
        lock: Held by who changes what control has decided.
    """

    def __init__(
        self,
        overview: Overview,
        platform: Platform,
        acting: Acting,
        bias: BiasProbes,
        scores: ScoreTracking,
        live_judging: LiveJudging,
        lock: asyncio.Lock,
    ) -> None:
        self._overview = overview
        self._live_judging = live_judging
        self._bias = bias
        self._scores = scores
        self._platform = platform
        self._acting = acting
        self._sources = Sources()
        self._lock = lock

    def services(self) -> Sequence[Served]:
        """All that have served, or are to."""
        champions = {row.name: row.champion or "" for row, _ in self._overview.services()}
        return [
            Served(
                row.name,
                row.champion or "",
                spec.monitoring,
                capture=spec.capture,
                segments=() if spec.bias is None else spec.bias.segments,
                feedback=_feedback(spec.plan.feedback),
                request_timeout_s=spec.limits.request_timeout_s,
                grading=self._live_judging.grading(row.name, spec.judge),
                judge_blindness=self._live_judging.blindness(row.name),
                rollout_judge=self._live_judging.rollout_judge(row.name),
                embedding_release=_embedding_release(spec.monitoring, champions),
                is_remote=self._overview.is_remote(row.champion or ""),
            )
            for row, spec in self._overview.services()
        ]

    async def refresh(self, counts: Mapping[str, Minutes]) -> None:
        """Look at the platform."""
        self._sources.begin()
        await self._platform.look(counts)

    def conditions(self, now: float) -> Sequence[Condition]:
        """What is wrong with it, and what pairs of requests have shown."""
        shown = self._sources.ask((BIAS,), lambda: self._bias.conditions(now))
        scored = self._sources.ask((SCORES,), lambda: self._scores.conditions(now))
        own = self._platform.conditions(now)
        return [*own, *shown, *scored, *self._sources.conditions()]

    def looked(self) -> Sequence[Looked]:
        """Which of these monitors have looked."""
        looked = self._sources.ask((BIAS,), self._bias.looked)
        looked += self._sources.ask((SCORES,), self._scores.looked)
        return [*self._platform.looked(), *(() if self._sources.failed else looked)]

    def reports(self, now: float) -> Sequence[Report]:
        """What became of pairs; and of all monitors, which could not look."""
        reports = self._sources.ask((BIAS,), lambda: self._bias.reports(now))
        reports += self._sources.ask((SCORES,), lambda: self._scores.reports(now))
        blind = [
            Report(monitor, row.name, now, error=why)
            for monitor, why in self._sources.failed.items()
            for row, _ in self._overview.services()
        ]
        return [*self._platform.reports(now), *reports, *blind]

    def watches(self) -> Sequence[Watch]:
        """What is expected of pairs, and of scores."""
        expected = self._sources.ask((BIAS,), self._bias.expected)
        return [*expected, *self._sources.ask((SCORES,), self._scores.expected)]

    def changes(self, since: float) -> Sequence[Change]:
        """What was changed."""
        return self._platform.changes(since)

    def events(self, since: float) -> Sequence[Event]:
        """What else happened."""
        return self._platform.events(since)

    def circumstances(self) -> dict[str, Circumstances]:
        """What there is to act on."""
        return self._platform.circumstances

    async def carry_out(self, entry: ActionEntry) -> str:
        """Do it; raises FairleadError to be tried again."""
        async with self._lock:
            return await self._acting.carry_out(entry)


def _embedding_release(declared: Declared, champions: Mapping[str, str]) -> str:
    model = declared.embeddings
    return "" if model is None else champions.get(model.service or "", "")


def _feedback(rule: FeedbackRule | None) -> tuple[tuple[str, float], ...]:
    """What clients say; what a judge model says of a sample is watched by the monitor `quality`."""
    return () if rule is None or rule.sampled else ((rule.name, rule.good_at_least),)
