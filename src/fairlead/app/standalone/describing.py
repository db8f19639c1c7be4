"""A gateway file in words: what is served, to whom, within which limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from fairlead.app.standalone.folder import LIMITS
from fairlead.app.standalone.routes import lacking_keys, shares_of, unpriced
from fairlead.app.standalone.scraping import metrics_access
from fairlead.domain.errors import InvalidInput
from fairlead.domain.quota import Quota
from fairlead.manifest.gateway_file import GatewayFile
from fairlead.manifest.gateway_file.models import Service
from fairlead.manifest.gateway_file.releases import Release
from fairlead.wire.snapshot import CONTINUING

_READERS = {
    "local": "programs on this machine, and who has the token if there is one",
    "token": "who has the token",
    "open": "everybody",
}


def describe_services(file: GatewayFile) -> list[str]:
    """One line for each service: its releases, their shares, and where they are."""
    return [
        f"service {service.name}: "
        + ", ".join(
            f"{release.name} {100 * share:.4g} % ({_places(release)})"
            for release, share in shares_of(service)
        )
        for service in file.services
    ]


def describe_file(file: GatewayFile) -> list[str]:
    """All that the file says, and what it leaves to a default, in plain lines."""
    return [*_whole(file), *_who(file), *_services(file)]


def warnings(file: GatewayFile, environ: Mapping[str, str]) -> list[str]:
    """What will not do what its writer may expect, one sentence each."""
    found = [*lacking_keys(file, environ), *unpriced(file)]
    try:
        metrics_access(file.metrics, environ)
    except InvalidInput as error:
        found.append(error.message)
    return found


def _whole(file: GatewayFile) -> Iterator[str]:
    host = f"[{file.listen.host}]" if ":" in file.listen.host else file.listen.host
    workers = "1 worker" if file.workers == 1 else f"{file.workers} workers"
    tls = ""
    if file.tls is not None:
        tls = ", HTTPS" + (" for clients with certificates" if file.tls.client_ca else "")
    yield f"listens on {host}:{file.listen.port} with {workers}{tls}"
    yield f"records: {file.spool or 'off'}"
    yield f"metrics are for {_READERS[file.metrics.access]}"
    if file.has_limits:
        kept = f"in {file.spool / LIMITS}" if file.spool else "in memory: a new start forgets it"
        yield f"use of limits: {kept}"


def _who(file: GatewayFile) -> Iterator[str]:
    if not file.keys:
        yield f"no key is asked for; {_limits(file.limits.quota)}"
        yield "may call it: this machine" + "".join(
            f", {what} {', '.join(names)}"
            for what, names in (("hosts", file.allow_hosts), ("pages of", file.allow_origins))
            if names
        )
    for key in file.keys:
        tenant = f" of {key.tenant}" if key.tenant else ""
        priority = f"priority {key.priority}, " if key.priority else ""
        yield f"key {key.name}{tenant}: {priority}{_limits(key.limits.quota)}"
    for tenant_ in file.tenants:
        yield f"tenant {tenant_.name}: {_limits(tenant_.limits.quota)}"


def _services(file: GatewayFile) -> Iterator[str]:
    for line, service in zip(describe_services(file), file.services, strict=True):
        yield line
        yield f"  in all: {_limits(service.limits.quota)}"
        yield f"  each request: {_bounds(service)}"
        if service.fallbacks:
            yield f"  falls back to: {', '.join(service.fallbacks)}"
        if service.shadow is not None:
            share = f"{100 * service.shadow.share:.4g} %"
            yield f"  copies {share} of the requests to {service.shadow.release}"
        for release in service.releases:
            yield f"  {release.name}: {_release(release, service)}"


def _bounds(service: Service) -> str:
    limits = service.limits
    attempts = "1 attempt" if limits.attempts == 1 else f"{limits.attempts} attempts"
    parts = [
        f"{limits.queue} may wait, {limits.queue_timeout_seconds:g} s",
        attempts
        if limits.attempt_timeout_seconds is None
        else f"{attempts} of {limits.attempt_timeout_seconds:g} s to the first byte",
        f"{limits.request_timeout_seconds:g} s in all",
        f"{limits.body_bytes} bytes",
    ]
    if limits.hedge_after_ms is not None:
        parts.append(f"embeddings hedged after {limits.hedge_after_ms:g} ms")
    return "; ".join(parts)


def _release(release: Release, service: Service) -> str:
    endpoints = release.endpoints
    slots = sum(endpoint.slots for endpoint in endpoints)
    count = "1 place" if len(endpoints) == 1 else f"{len(endpoints)} places, {service.balance}"
    parts = [f"{count}, {slots} requests at a time per worker"]
    if release.upstream_model:
        parts.append(f"as {release.upstream_model}")
    can = "go on" if release.engine in CONTINUING and len(endpoints) > 1 else "end with an error"
    parts.append(f"broken streams {can}")
    if release.price is not None:
        each = release.price
        parts.append(
            f"{each.input_per_million:g} and {each.output_per_million:g} USD per million tokens"
        )
    if not release.weight:
        parts.append("gets no clients")
    return "; ".join(parts)


def _limits(quota: Quota) -> str:
    """The limits in words."""
    found = [
        f"{value:g} {name.replace('_', ' ')}" if isinstance(value, float) else
        f"{value} {name.replace('_', ' ')}"
        for name, value in msgspec.structs.asdict(quota).items()
        if value is not None
    ]  # fmt: skip
    return ", ".join(found) or "no limits"


def _places(release: Release) -> str:
    first, *others = [endpoint.upstream.host for endpoint in release.endpoints]
    return f"{first} and {len(others)} more" if others else first
