"""What control says of the installation at each scrape of `/metrics`.

Everything is a look at what there is, so it is right after a restart too. A store that refuses
costs what is read from it, and says so in a metric of its own.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Sequence

from fairlead import __version__
from fairlead.control.metrics.arms import arms_of, used_by
from fairlead.control.metrics.families import Families
from fairlead.control.metrics.observer_families import add_observer
from fairlead.control.metrics.pulse import Pulse
from fairlead.control.parts import Parts
from fairlead.control.world.wants import ServiceWant
from fairlead.domain.errors import FairleadError
from fairlead.domain.release import short
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.desk import Desk
from fairlead.wire.observing import ObserverStanding


class Exposition:
    """Gathers the families.

    Args:
        now: Unix time in seconds.

    Attributes:
        observer: What the observer said last.
        desk: Alerts, as they are; None where nobody watches.
        others: Further families, of parts that count for themselves.
    """

    def __init__(self, parts: Parts, pulse: Pulse, now: Callable[[], float]) -> None:
        self._store = parts.store
        self._overview = parts.overview
        self._fleet = parts.fleet
        self._judging = parts.judging
        self._hub = parts.hub
        self._pulse = pulse
        self._now = now
        self.observer: Callable[[], ObserverStanding | None] = lambda: None
        self.desk: Callable[[], Desk | None] = lambda: None
        self.others: list[Callable[[], Sequence[FamilyState]]] = []

    async def states(self) -> list[FamilyState]:
        """All families with their values now."""
        families = Families()
        families.gauge(
            "fairlead_build_info", "The version of control; always 1.", ("version", "python")
        ).set((__version__, platform.python_version()), 1.0)
        wants = self._overview.wants()
        self._add_releases(families, wants)
        self._add_replicas(families, wants)
        self._add_judging(families)
        _add_alerts(families, self.desk())
        families.gauge("fairlead_control_workers", "Gateway workers that control hears of.").set(
            (), len(self._hub.workers())
        )
        add_observer(families, await asyncio.to_thread(self.observer), self._now())
        await asyncio.to_thread(self._add_stored, families)
        others = [state for other in self.others for state in other()]
        return [*families.states(), *self._pulse.states(), *others]

    def _add_stored(self, families: Families) -> None:
        reachable = families.gauge(
            "fairlead_store_up", "Whether the store could be read for this scrape."
        )
        try:
            watermark, counts = self._store.watermark(), self._store.count_rollouts()
        except FairleadError:
            return
        reachable.set((), 1.0)
        rollouts = families.gauge(
            "fairlead_rollouts",
            "Rollouts that are kept, by state; those that have ended, too.",
            ("service", "state"),
        )
        for (service, state), count in counts.items():
            rollouts.set((service, state), count)
        if watermark:
            families.gauge(
                "fairlead_observer_lag_seconds",
                "Seconds before now up to which the store has all records.",
            ).set((), max(0.0, self._now() - watermark))

    def _add_releases(self, families: Families, wants: Sequence[ServiceWant]) -> None:
        info = families.gauge(
            "fairlead_release_info",
            "A release in use and its arm: champion, canary or shadow; always 1.",
            ("service", "release", "name", "arm"),
        )
        share = families.gauge(
            "fairlead_release_share",
            "Share of a service's users that a release answers.",
            ("service", "release", "arm"),
        )
        for want in wants:
            for digest, (arm, part) in arms_of(want).items():
                name = self._fleet.name_of(digest) or short(digest)
                info.set((want.spec.service, short(digest), name, arm), 1.0)
                share.set((want.spec.service, short(digest), arm), part)

    def _add_replicas(self, families: Families, wants: Sequence[ServiceWant]) -> None:
        gauge = families.gauge(
            "fairlead_replicas",
            "Replicas by state. One that several releases share counts for each of them.",
            ("service", "release", "state"),
        )
        wanted = families.gauge(
            "fairlead_replicas_wanted",
            "Ready replicas that a release is to have.",
            ("service", "release"),
        )
        replicas = self._fleet.replicas()
        for want in wants:
            for digest, known in used_by(want).items():
                engine = known.release.engine_digest
                where = (want.spec.service, short(digest))
                wanted.set(where, want.replicas.get(digest, 0))
                counts = Counter(r.state.value for r in replicas if r.engine_digest == engine)
                for state, count in counts.items():
                    gauge.set((*where, state), count)
        restarts = families.counter(
            "fairlead_replica_restarts_total",
            "Times that a replica was started again after it had ended by itself.",
            ("replica",),
        )
        for replica in replicas:
            restarts.inc((replica.id,), replica.restarts)

    def _add_judging(self, families: Families) -> None:
        pending = families.gauge(
            "fairlead_judge_pending",
            "Samples that wait for a rollout's judge model, as far as it looks ahead.",
            ("service", "rollout"),
        )
        oldest = families.gauge(
            "fairlead_judge_oldest_seconds",
            "Age of the oldest sample that waits for a rollout's judge model.",
            ("service", "rollout"),
        )
        for queue in self._judging.queues():
            where = (queue.service, queue.rollout)
            pending.set(where, queue.pending)
            oldest.set(where, max(0.0, self._now() - queue.oldest) if queue.oldest else 0.0)


def _add_alerts(families: Families, desk: Desk | None) -> None:
    if desk is None:
        return
    gauge = families.gauge(
        "fairlead_alerts",
        "Alerts that are pending or firing.",
        ("service", "monitor", "severity", "state"),
    )
    present = [one for one in desk.alerts.values() if one.state is not AlertState.RESOLVED]
    counts = Counter(
        (one.of.get("service", ""), one.of.get("monitor", ""), one.severity.value, one.state.value)
        for one in present
    )
    for labels, count in counts.items():
        gauge.set(labels, count)
