"""From a gateway file to the snapshot that its workers run on. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.app.limits import limits_of
from fairlead.domain.outbound import DIRECT
from fairlead.domain.release import Prompt, sha256_digest
from fairlead.gateway.front.auth import ANYONE
from fairlead.manifest.gateway_file.models import GatewayFile, Service
from fairlead.manifest.gateway_file.releases import Endpoint as DeclaredEndpoint
from fairlead.manifest.gateway_file.releases import Release
from fairlead.manifest.quotas import Quotas
from fairlead.wire.snapshot import (
    CONTINUING,
    Endpoint,
    KeyEntry,
    ReleaseRoute,
    ServiceRoute,
    Shadow,
    Snapshot,
)


def snapshot_of(file: GatewayFile, *, version: int, request_id_key: str) -> Snapshot:
    """The whole routing state that a file declares."""
    ids = _ReplicaIds()
    return Snapshot(
        version=version,
        request_id_key=request_id_key,
        keys=_keys(file),
        services={service.name: _service_route(service, ids) for service in file.services},
        tenants={tenant.name: tenant.limits.quota for tenant in file.tenants},
        workers=file.workers,
        open=not file.keys,
        allow_hosts=(file.listen.host.lower(), *file.allow_hosts),
        allow_origins=file.allow_origins,
    )


def _keys(file: GatewayFile) -> tuple[KeyEntry, ...]:
    if not file.keys:
        return (msgspec.structs.replace(ANYONE, quota=file.limits.quota),)
    return tuple(
        KeyEntry(
            id=key.name,
            name=key.name,
            sha256=key.sha256,
            tenant=key.tenant,
            quota=key.limits.quota,
            priority=key.priority,
        )
        for key in file.keys
    )


def release_digest(service: str, release: Release) -> str:
    """Names what answers: the declared name, model, provider, prompt, sampling and guardrails.

    Left out is what changes while the answers stay what they are: weight, replicas, slots, and
    where keys are kept. What replicas run is known by the release's name alone.
    """
    definition: dict[str, Any] = {
        "service": service,
        "release": release.name,
        "url": release.url.base_url if release.url is not None else None,
        "model": release.upstream_model,
        "prompt": {"system": release.prompt.system, "user": release.prompt.user},
        "sampling": release.sampling_defaults,
    }
    if release.guardrails:
        definition["guardrails"] = [guardrail.declared for guardrail in release.guardrails]
    return sha256_digest(msgspec.json.encode(definition, order="sorted"))


def shares_of(service: Service) -> list[tuple[Release, float]]:
    """The releases that get traffic, the heaviest first, each with its share of 1."""
    # Sorting is stable: of equal ones, the first in the file.
    taking = sorted((r for r in service.releases if r.weight), key=lambda r: -r.weight)
    total = sum(release.weight for release in taking)
    return [(release, release.weight / total) for release in taking]


def lacking_keys(file: GatewayFile, environ: Mapping[str, str]) -> list[str]:
    """What will be refused by a provider since its key is not there, one sentence each."""
    found: dict[str, None] = {}
    for service in file.services:
        for release in service.releases:
            for endpoint in release.endpoints:
                trouble = _trouble_with_key(endpoint, environ)
                if trouble:
                    found[f"{service.name}, {release.name}: {trouble}"] = None
            name = release.outbound.proxy_auth_env
            if name is not None and (trouble := _trouble_with_variable(name, environ)):
                found[f"{service.name}, {release.name}: {trouble}"] = None
    return list(found)


def unpriced(file: GatewayFile) -> list[str]:
    """Releases whose tokens cost nothing though there are limits in USD, one sentence each."""
    of_all = [file.limits, *(k.limits for k in file.keys), *(t.limits for t in file.tenants)]
    is_counted = any(_counts_usd(limits) for limits in of_all)
    return [
        f"{service.name}, {release.name}: has no price, so it costs nothing in limits in USD"
        for service in file.services
        if is_counted or _counts_usd(service.limits)
        for release, _ in shares_of(service)
        if release.price is None
    ]


def _counts_usd(limits: Quotas) -> bool:
    return limits.quota.has_budget


def _trouble_with_key(endpoint: DeclaredEndpoint, environ: Mapping[str, str]) -> str:
    name, path = endpoint.api_key_env, endpoint.api_key_file
    if name is not None and (trouble := _trouble_with_variable(name, environ)):
        return trouble
    if path is not None and not Path(path).is_file():
        return f"the key file {path} is not there"
    return ""


def _trouble_with_variable(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name, "").strip():
        return f"the environment variable {name} is not set"
    return ""


class _ReplicaIds:
    """Names replicas by their addresses, as records and metrics show them."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, str | None, str | None], str] = {}
        self._taken: set[str] = set()

    def of(self, endpoint: DeclaredEndpoint) -> str:
        """The same for the same address under the same key, and for no other."""
        place = (endpoint.upstream.base_url, endpoint.api_key_env, endpoint.api_key_file)
        name = self._by_place.get(place)
        if name is None:
            host = endpoint.upstream.host
            more = (f"{host}#{number}" for number in itertools.count(2))
            name = next(n for n in itertools.chain([host], more) if n not in self._taken)
            self._by_place[place] = name
            self._taken.add(name)
        return name


def _service_route(service: Service, ids: _ReplicaIds) -> ServiceRoute:
    shares = [(release_digest(service.name, r), r, share) for r, share in shares_of(service)]
    weights = tuple((digest, share) for digest, _, share in shares)
    has_canary, has_more = len(shares) == 2, len(shares) > 2
    releases = {digest: _release_route(digest, r, ids) for digest, r, _ in shares}
    shadow: Shadow | None = None
    if service.shadow is not None:
        [release] = [r for r in service.releases if r.name == service.shadow.release]
        digest = release_digest(service.name, release)
        releases[digest] = _release_route(digest, release, ids)
        shadow = Shadow(digest, service.shadow.share, service.shadow.concurrent)
    return ServiceRoute(
        name=service.name,
        releases=releases,
        champion=weights[0][0],
        canary=weights[1][0] if has_canary else None,
        canary_share=weights[1][1] if has_canary else 0.0,
        # The same after each restart and reload: who had a release keeps it.
        salt=service.name,
        limits=limits_of(service.limits),
        weights=weights if has_more else (),
        fallbacks=service.fallbacks,
        shadow=shadow,
        balance=service.balance,
    )


def _release_route(digest: str, release: Release, ids: _ReplicaIds) -> ReleaseRoute:
    return ReleaseRoute(
        digest=digest,
        name=release.name,
        endpoints=tuple(
            Endpoint(
                replica=ids.of(endpoint),
                base_url=endpoint.upstream.base_url,
                slots=endpoint.slots,
                api_key_env=endpoint.api_key_env,
                api_key_file=endpoint.api_key_file,
                outbound=release.outbound.way if endpoint.is_https else DIRECT,
            )
            for endpoint in release.endpoints
        ),
        prompt=Prompt(system=release.prompt.system, user=release.prompt.user),
        sampling=release.sampling_defaults,
        upstream_model=release.upstream_model,
        price=release.price.price if release.price is not None else None,
        continues=release.engine if release.engine in CONTINUING else None,
        guardrails=tuple(guardrail.declared for guardrail in release.guardrails),
    )
