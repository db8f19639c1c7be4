"""What a service wants at one moment: the link between its rollout and the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec, prices_of
from fairlead.domain.capture import Capture
from fairlead.domain.fault import Fault
from fairlead.domain.quota import Price
from fairlead.domain.release import Release
from fairlead.domain.replica import ReplicaStatus
from fairlead.domain.strata import Strata
from fairlead.rollout.declared import facts_of
from fairlead.rollout.machine import Desired, desired
from fairlead.store.rows import ServiceRow
from fairlead.wire.snapshot import Pin

_WATCHED = (("format", "format"), ("refusals", "refusal"))
"""Monitors that go by facts of answers, and these."""


class KnownRelease(msgspec.Struct, frozen=True):
    """A release together with what the routing needs to know of it; a drill's has a fault."""

    digest: str
    name: str
    release: Release
    fault: Fault | None = None


class ServiceWant(msgspec.Struct, frozen=True):
    """One service's desired state.

    Attributes:
        spec: The spec of the release that is champion, by which the service runs.
        rollout: Id of its active rollout.
        known: The releases that `desired` speaks of.
        replicas: Ready replicas wanted, by release digest.
        prices: What the releases cost, where that is known.
        facts: What its monitors, and the metrics of its rollout, need to know of answers.
        pins: Who is sent to one arm for as long as the rollout goes on; keys by their names.
        finishing: The units of the conversations that `desired.finish` speaks of.
        diverted: The champion's replicas are not to be used: the fallbacks are to answer.
        capture: What is kept of prompts and answers: as the rollout under way says, if it does.
        tightened: Names of guardrails that block though releases only flag by them.
        harm: Requests that all workers together may assign to its drill; None without one.
        strata: How its rollout has requests told apart by their risk.
    """

    spec: ServiceSpec
    desired: Desired
    rollout: str | None
    known: Mapping[str, KnownRelease]
    replicas: Mapping[str, int]
    prices: Mapping[str, Price] = {}
    pins: tuple[Pin, ...] = ()
    finishing: tuple[str, ...] = ()
    diverted: bool = False
    capture: Capture | None = None
    facts: tuple[str, ...] = ()
    harm: int | None = None
    tightened: tuple[str, ...] = ()
    strata: Strata | None = None


def engine_counts(wants: Sequence[ServiceWant]) -> dict[str, tuple[str, int]]:
    """By engine digest: a release that has it, and how many replicas are wanted.

    Releases with the same engine digest share replicas, so the largest wish counts.
    """
    counts: dict[str, tuple[str, int]] = {}
    for want in wants:
        for digest, count in want.replicas.items():
            engine = want.known[digest].release.engine_digest
            release, before = counts.get(engine, (digest, 0))
            if count > 0:
                counts[engine] = (release, max(before, count))
    return counts


def want_of(
    service: ServiceRow,
    spec: ServiceSpec,
    running: Running | None,
    known: Mapping[str, KnownRelease],
) -> ServiceWant:
    """What the service wants: its champion, and what its rollout adds to it.

    Args:
        spec: The service's, which is its champion's.
    """
    if running is None:
        want = Desired(champion=service.champion)
        replicas = {service.champion: spec.plan.champion_replicas} if service.champion else {}
        return ServiceWant(
            spec, want, None, known, replicas, prices_of(spec),
            capture=spec.capture, facts=watched_facts(spec),
        )  # fmt: skip
    want = desired(running.rollout)
    replicas = {}
    if service.champion is not None:
        replicas[service.champion] = spec.plan.champion_replicas
    drill = running.rollout.drill
    if want.candidate_replicas and drill is None:  # A drill runs on the champion's.
        # The champion itself may be evaluated: it keeps the replicas with which it serves.
        release = running.rollout.release
        replicas[release] = max(replicas.get(release, 0), want.candidate_replicas)
    prices = prices_of(running.spec, spec)
    return ServiceWant(
        spec,
        want,
        running.rollout.id,
        known,
        replicas,
        prices,
        pins=running.spec.pins,
        capture=running.spec.capture or spec.capture,
        facts=tuple(sorted({*facts_of(running.rollout.plan.metrics), *watched_facts(spec)})),
        harm=None if drill is None else drill.harm,
        strata=running.rollout.plan.strata,
    )


def watched_facts(spec: ServiceSpec) -> tuple[str, ...]:
    """What monitors that are on need to know of answers."""
    off = spec.monitoring.monitors.off
    return tuple(fact for monitor, fact in _WATCHED if monitor not in off)


def usable_replicas(
    want: ServiceWant, replicas: Sequence[ReplicaStatus]
) -> Sequence[ReplicaStatus]:
    """Those that may serve it; without the champion's when it is diverted."""
    champion = want.desired.champion
    if not want.diverted or champion is None or champion not in want.known:
        return replicas
    engine = want.known[champion].release.engine_digest
    return [replica for replica in replicas if replica.engine_digest != engine]


def readable(want: ServiceWant) -> ServiceWant:
    """Without the releases that could not be read; without its champion, no route at all."""
    known = want.known
    split = want.desired
    if split.champion is not None and split.champion not in known:
        split = msgspec.structs.replace(split, champion=None, canary=None, share=0.0)
    if split.canary is not None and split.canary not in known:
        split = msgspec.structs.replace(split, canary=None, share=0.0)
    if split.shadow is not None and (split.champion is None or split.shadow not in known):
        split = msgspec.structs.replace(split, shadow=None, shadow_share=0.0)
    if split.finish is not None and split.finish.release not in known:
        split = msgspec.structs.replace(split, finish=None)
    replicas = {digest: count for digest, count in want.replicas.items() if digest in known}
    return msgspec.structs.replace(want, desired=split, replicas=replicas)
