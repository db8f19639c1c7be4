"""From what is stored and what runs to what the gateway is told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.world.wants import KnownRelease, ServiceWant
from fairlead.domain.guardrail import tightened as tightened_guardrails
from fairlead.domain.outbound import DIRECT
from fairlead.domain.quota import Price
from fairlead.domain.release import Release, RemoteModel
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.rollout.machine import Desired
from fairlead.wire.snapshot import (
    CONTINUING,
    Endpoint,
    Finishing,
    ReleaseRoute,
    ServiceRoute,
    Shadow,
)

ILL_S_MAX = 60.0
"""Seconds for which a release may have unhealthy replicas only, before its rollout ends."""


def service_route(
    want: ServiceWant, replicas: Sequence[ReplicaStatus], services: Collection[str] = ()
) -> ServiceRoute:
    """The route of one service: its champion, and its canary or shadow if it has one.

    Args:
        want: With keys by their ids, and what one worker may assign to a drill.
        replicas: Those that may serve it.
        services: Names of all services; fallbacks that are not among them are left out.
    """
    spec, desired, finishing = want.spec, want.desired, want.finishing
    stays = desired.finish if finishing else None
    wanted = (desired.champion, desired.canary, desired.shadow, stays.release if stays else None)
    digests = [d for d in wanted if d is not None]
    return ServiceRoute(
        name=spec.service,
        releases={
            digest: _release_route(
                want.known[digest],
                replicas,
                price=want.prices.get(digest),
                serves=digest == desired.champion,
                tight=want.tightened,
            )
            for digest in digests
        },
        champion=desired.champion,
        canary=desired.canary,
        canary_share=desired.share if desired.canary is not None else 0.0,
        rollout=want.rollout,
        phase=desired.phase,
        salt=desired.salt,
        limits=spec.limits,
        fallbacks=tuple(name for name in spec.fallbacks if name in services),
        shadow=_shadow(desired),
        balance=spec.balance,
        pins=want.pins,
        finishing=None if stays is None else Finishing(stays.release, finishing),
        capture=want.capture,
        facts=want.facts,
        harm=want.harm,
        strata=want.strata,
    )


def _shadow(desired: Desired) -> Shadow | None:
    if desired.shadow is None:
        return None
    return Shadow(desired.shadow, desired.shadow_share, timeout_s=desired.shadow_timeout_s)


def unknown_fallbacks(spec: ServiceSpec, services: Collection[str]) -> str:
    """What is said of fallbacks that are no services (yet); empty when all are."""
    unknown = [name for name in spec.fallbacks if name not in services]
    if not unknown:
        return ""
    return f"no fallback: there is no service {', '.join(unknown)}; ship it, or take it out"


def ready_of(release: Release, replicas: Sequence[ReplicaStatus]) -> list[ReplicaStatus]:
    """The ready replicas that can serve this release."""
    digest = release.engine_digest
    return [
        replica
        for replica in replicas
        if replica.engine_digest == digest and replica.state is ReplicaState.READY
    ]


def failure_of(release: Release, replicas: Sequence[ReplicaStatus], now: float) -> str | None:
    """Why the release cannot run: its replicas were given up, or none gets well again."""
    mine = [r for r in replicas if r.engine_digest == release.engine_digest]
    for replica in mine:
        if replica.state is ReplicaState.FAILED:
            return replica.detail or "its replicas failed to start"
    ill = [r for r in mine if r.state is ReplicaState.UNHEALTHY]
    if ill and len(ill) == len(mine) and all(now - r.since > ILL_S_MAX for r in ill):
        return ill[0].detail or "its replicas do not answer"
    return None


def _likely(release: Release, replicas: Sequence[ReplicaStatus]) -> list[ReplicaStatus]:
    """The replicas that may well serve this release though no probe says so now.

    Where there is no better one, a request to them is worth more than a refusal: a probe can be
    late for other reasons, and the gateway leaves those that fail alone by itself. What runs
    elsewhere may serve before its first probe after a restart of control is answered.
    """
    states = {ReplicaState.UNHEALTHY}
    if isinstance(release.model, RemoteModel):
        states.add(ReplicaState.STARTING)
    return [
        replica
        for replica in replicas
        if replica.engine_digest == release.engine_digest
        and replica.state in states
        and replica.base_url
    ]


def _release_route(
    known: KnownRelease,
    replicas: Sequence[ReplicaStatus],
    *,
    price: Price | None,
    serves: bool,
    tight: Collection[str],
) -> ReleaseRoute:
    """The route of one release; with `serves` it is the champion, which others rely on."""
    model = known.release.model
    remote = model if isinstance(model, RemoteModel) else None
    usable = ready_of(known.release, replicas)
    if serves and not usable:
        usable = _likely(known.release, replicas)
    return ReleaseRoute(
        digest=known.digest,
        name=known.name,
        endpoints=tuple(
            Endpoint(
                replica=replica.id,
                base_url=replica.base_url,
                slots=replica.slots,
                api_key_env=remote.api_key_env if remote else None,
                api_key_file=remote.api_key_file if remote else None,
                outbound=(remote.outbound or DIRECT) if remote else DIRECT,
            )
            for replica in sorted(usable, key=lambda r: r.id)
        ),
        prompt=known.release.prompt,
        sampling=known.release.sampling,
        upstream_model=remote.model if remote else None,
        price=price,
        continues=engine
        if (engine := known.release.engine.kind) in CONTINUING and known.fault is None
        else None,
        fault=known.fault,
        guardrails=tightened_guardrails(known.release.guardrails or (), tight),
    )
