"""How the parts of control are put together: who needs whom, in one place.

Nothing is read or begun here. Where two parts need each other, the later one is handed to the
earlier one as soon as it is made.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fairlead.control.acting.carrying_out import Acting
from fairlead.control.acting.platform import Platform
from fairlead.control.bias.bias_probes import BiasProbes
from fairlead.control.bias.scoring import BiasScores
from fairlead.control.bias.tracking import ScoreTracking
from fairlead.control.drill.drills import Drills
from fairlead.control.judging.judging import Judging
from fairlead.control.judging.live import LiveJudging
from fairlead.control.metrics.exposition import Exposition
from fairlead.control.metrics.pulse import Pulse
from fairlead.control.metrics.replica_metrics import ReplicaMetrics
from fairlead.control.outside.hooks import Hooks
from fairlead.control.parts import Ground, Parts
from fairlead.control.probing.probes import Probes
from fairlead.control.reports import Reports
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.rollouts import Rollouts
from fairlead.control.shipping.slow_watches import SlowWatches
from fairlead.control.watching.monitors import MonitorMaker
from fairlead.control.watching.platform import ControlPlatform
from fairlead.control.watching.watching import Watching
from fairlead.control.world.fleet import Fleet


def shipping_on(ground: Ground) -> Parts:
    """The parts that ship releases."""
    store, registry, now = ground.store, ground.registry, ground.now
    fleet = Fleet(registry, ground.target, now)
    evaluations = Evaluations(registry, store, now)
    hooks = Hooks()
    overview: Overview
    judging = Judging(store, now, lambda service: overview.seat_of(service))
    rollouts = Rollouts(store, fleet, evaluations, hooks, judging, ground.hub, now)
    overview = rollouts.overview
    return Parts(
        store,
        ground.hub,
        fleet,
        evaluations,
        hooks,
        judging,
        LiveJudging(judging, store, overview.services, overview.running, now),
        rollouts,
        SlowWatches(store, rollouts, now, lambda: ground.new_id("ro")),
        Drills(store, rollouts, lambda: ground.hub.worker_count, now, lambda: ground.new_id("dr")),
        Probes(store, registry, overview.client, now),
    )


@dataclass(frozen=True)
class Monitoring:
    """What looks at services and at the platform, and what acts on that."""

    acting: Acting
    bias: BiasProbes
    bias_scores: BiasScores
    bias_tracking: ScoreTracking
    platform: Platform
    watching: Watching


def monitoring_on(ground: Ground, parts: Parts, lock: asyncio.Lock) -> Monitoring:
    """The parts that monitor.

    Args:
        lock: Held by who changes what control has decided.
    """
    store, registry, now, overview = ground.store, ground.registry, ground.now, parts.overview
    acting = Acting(store, registry, parts.rollouts, parts.fleet, parts.probes, parts.judging, now)
    bias = BiasProbes(store, overview.client, now, acting.tightenings.names)
    tracking = ScoreTracking(store, registry.read_blob, overview.client, now)
    platform = Platform(parts, acting, now)
    watched = ControlPlatform(overview, platform, acting, bias, tracking, parts.live_judging, lock)
    maker = MonitorMaker(
        store, ground.word_vectors, overview.seat_of, now, ground.monotonic,
        service_vectors=ground.service_vectors,
    )  # fmt: skip
    watching = Watching(store, watched, maker, now, monotonic=ground.monotonic)
    acting.fresh_cases.watched = watching
    scores = BiasScores(store, registry, overview, now)
    return Monitoring(acting, bias, scores, tracking, platform, watching)


@dataclass(frozen=True)
class Shown:
    """What people and scrapers are shown.

    Attributes:
        pulse: How long the loop's turns take; told by whoever turns.
    """

    reports: Reports
    exposition: Exposition
    replica_metrics: ReplicaMetrics
    pulse: Pulse


def shown_on(ground: Ground, parts: Parts, monitoring: Monitoring) -> Shown:
    """The parts that show what the others do."""
    reports = Reports(parts, ground.registry, ground.gateway_url, ground.now)
    reports.tightened = monitoring.acting.tightenings.names
    pulse = Pulse(ground.monotonic)
    exposition = Exposition(parts, pulse, ground.now)
    exposition.desk = lambda: monitoring.watching.desk
    exposition.others.append(monitoring.watching.states)
    scraped = ReplicaMetrics(parts.overview.wants, parts.fleet.replicas, ground.monotonic)
    return Shown(reports, exposition, scraped, pulse)
