"""What a gateway file holds: where to listen, who may ask, which services there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fairlead.domain.quota import NO_QUOTA
from fairlead.manifest.gateway_file.addresses import (
    AllowedHost,
    AllowedOrigin,
    Listen,
    ListenAddress,
)
from fairlead.manifest.gateway_file.releases import Release
from fairlead.manifest.gateway_file.scraping import Metrics
from fairlead.manifest.gateway_file.tracing import Tracing
from fairlead.manifest.models import FALLBACKS_MAX, Balance, Limits, check_fallbacks
from fairlead.manifest.quotas import Quotas
from fairlead.manifest.values import FilePath, Label, Share, Strict, nearest, shown, wrong

KEYS_MAX = 1_000
SERVICES_MAX = 500
RELEASES_MAX = 20
ALLOWED_MAX = 100
NO_KEYS = "none"
NOT_RECORDED = "off"
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@-]{0,126}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def is_service_name(value: str) -> bool:
    """Whether a service can have this name."""
    return _SERVICE.fullmatch(value) is not None


def _service_name(value: object) -> str:
    if not isinstance(value, str) or not is_service_name(value):
        raise wrong(
            "must be a name of letters, digits and . _ : / @ - (not at its ends), at most 128 of "
            f"them, not {shown(value)}"
        )
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        # Not shown: it may be the key itself.
        raise wrong("must be the SHA-256 of the key in 64 hex digits; `fairlead gateway key` does")
    return value.lower()


def _keys(value: object) -> object:
    if value == NO_KEYS:
        return ()
    if value is None or value == []:
        raise wrong(
            'needs "keys": at least one with name and sha256 (`fairlead gateway key` makes one), '
            f"or {NO_KEYS} for a gateway that only this machine can reach"
        )
    return value


def _spool(value: object, info: ValidationInfo) -> Path | None:
    if value == NOT_RECORDED:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong(f"must be a folder, or {NOT_RECORDED}, not {shown(value)}")
    base: Path = info.context["base"] if info.context else Path()
    return base / value


ServiceName = Annotated[
    str,
    BeforeValidator(_service_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_SERVICE.pattern}$"}),
]
Sha256 = Annotated[
    str,
    BeforeValidator(_sha256),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHA256.pattern}$"}),
]
Spool = Annotated[
    Path | None, PlainValidator(_spool), WithJsonSchema({"type": "string", "minLength": 1})
]


class Tls(Strict):
    """HTTPS on the front, as PEM files; paths are relative to the gateway file."""

    cert: FilePath = Field(
        description="The gateway's certificate, followed by the chain of its issuers."
    )
    key: FilePath = Field(description="Its private key, not encrypted.")
    client_ca: FilePath | None = Field(
        default=None,
        description="Authorities; only clients with a certificate of one of them are let in.",
    )


class ApiKey(Strict):
    """A key that clients may use. The file never holds the key itself."""

    name: Label = Field(description="Who uses it; written into records.")
    sha256: Sha256 = Field(
        description="SHA-256 of the key in hex, as `fairlead gateway key` prints it."
    )
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="Where requests have to wait, those of a key with a higher one go first.",
    )
    tenant: Label | None = Field(
        default=None, description="The one of `tenants` whose limits count for it too."
    )
    limits: Quotas = Field(default_factory=Quotas, description="What may be used of it.")


class Tenant(Strict):
    """A group of keys with limits for all of them together."""

    name: Label = Field(description="Its name; keys name it by `tenant`.")
    limits: Quotas = Field(
        default_factory=Quotas, description="What may be used by all its keys together."
    )


class Shadow(Strict):
    """A release that gets copies of the requests; its answers are recorded and thrown away."""

    release: Label = Field(description="Its name: one of the service's releases of weight 0.")
    share: Share = Field(description="Share of the requests that are copied to it.")
    concurrent: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Copies that one worker has open at most; further ones are dropped.",
    )


class Service(Strict):
    """A name that clients put into the field `model`, and who answers for it."""

    name: ServiceName = Field(description="What clients put into the field `model`.")
    releases: tuple[Release, ...] = Field(
        strict=False,
        min_length=1,
        max_length=RELEASES_MAX,
        description=(
            "Who answers, by weight: a session, user or key stays with one. The heaviest stands in "
            "for the others."
        ),
    )
    fallbacks: tuple[ServiceName, ...] = Field(
        default=(),
        strict=False,
        max_length=FALLBACKS_MAX,
        description=(
            "Other services of this file whose heaviest release answers, the first that can, when "
            "no replica of this service can be used or all attempts have failed."
        ),
    )
    balance: Balance = "prefix"
    shadow: Shadow | None = Field(
        default=None, description="A release that gets copies of the requests, and no clients."
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="What it may take up in each worker, and what may be used of it in all.",
    )

    @model_validator(mode="after")
    def _releases_fit(self) -> Service:
        _differ((release.name for release in self.releases), "releases", "release", "name")
        if not any(release.weight for release in self.releases):
            raise wrong("must have a weight above 0 in one of them", at=("releases",))
        check_fallbacks(self.name, self.fallbacks)
        if self.shadow is not None:
            idle = [release.name for release in self.releases if not release.weight]
            if self.shadow.release not in idle:
                raise wrong(
                    f"must name a release of weight 0, not {shown(self.shadow.release)}"
                    + _near(self.shadow.release, idle),
                    at=("shadow", "release"),
                )
        return self


class GatewayFile(Strict):
    """A gateway that runs alone."""

    listen: ListenAddress = Field(
        default=Listen("127.0.0.1", 7600),
        description="Address and port, `host:port`; port 0 takes any that is free.",
    )
    tls: Tls | None = Field(
        default=None, description="Serve HTTPS with these files; plain HTTP if not given."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes; about one for each processor core."
    )
    keys: Annotated[tuple[ApiKey, ...], BeforeValidator(_keys)] = Field(
        default=None,
        validate_default=True,
        strict=False,
        max_length=KEYS_MAX,
        description=(
            "Keys that clients may use; `none` asks for no key, and is possible only where "
            "`listen` is an address that only this machine can reach."
        ),
    )
    tenants: tuple[Tenant, ...] = Field(
        default=(),
        strict=False,
        max_length=KEYS_MAX,
        description="Groups of keys, each with limits for all its keys together.",
    )
    limits: Quotas = Field(
        default_factory=Quotas,
        description=f"What may be used in all where `keys` is `{NO_KEYS}`; else keys have limits.",
    )
    allow_hosts: tuple[AllowedHost, ...] = Field(
        default=(),
        strict=False,
        max_length=ALLOWED_MAX,
        description=(
            f"Where `keys` is `{NO_KEYS}`: names by which clients may call the gateway (header "
            "`host`), beside those of this machine itself."
        ),
    )
    allow_origins: tuple[AllowedOrigin, ...] = Field(
        default=(),
        strict=False,
        max_length=ALLOWED_MAX,
        description=(
            f"Where `keys` is `{NO_KEYS}`: pages and apps (header `origin`) that may call the "
            "gateway, as `https://host` or `app://name`."
        ),
    )
    services: tuple[Service, ...] = Field(
        strict=False,
        min_length=1,
        max_length=SERVICES_MAX,
        description="The services, each with its releases.",
    )
    tracing: Tracing | None = Field(
        default=None, description="Send spans of requests to a collector; none if not given."
    )
    spool: Spool = Field(
        default=None,
        description=(
            "Folder for one record of each request, and for what was used of limits, relative to "
            "this file; `off` keeps neither."
        ),
    )
    metrics: Metrics = Field(
        default_factory=Metrics, description="Who may read `/metrics`; programs on this machine."
    )
    drain_seconds: float = Field(
        default=15.0,
        ge=0,
        le=3_600,
        description="How long open requests have to end when the gateway is stopped.",
    )
    worker_memory_mb: int | None = Field(
        default=None,
        ge=128,
        description=(
            "Resident memory that each worker may have, in megabytes. Near it, a worker takes in "
            "no large bodies, then none at all. Without it, 80 % of what the machine or container "
            "has, in equal parts."
        ),
    )

    @property
    def has_limits(self) -> bool:
        """Whether anything may be used only so much."""
        declared = [self.limits, *(k.limits for k in self.keys), *(t.limits for t in self.tenants)]
        return any(q.quota != NO_QUOTA for q in (*declared, *(s.limits for s in self.services)))

    @field_validator("keys")
    @classmethod
    def _keys_differ(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        _differ((key.name for key in keys), "", "key", "name")
        _differ((key.sha256 for key in keys), "", "key", "sha256", show=False)
        return keys

    @field_validator("tenants")
    @classmethod
    def _tenants_differ(cls, tenants: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        _differ((tenant.name for tenant in tenants), "", "tenant", "name")
        return tenants

    @field_validator("services")
    @classmethod
    def _services_differ(cls, services: tuple[Service, ...]) -> tuple[Service, ...]:
        _differ((service.name for service in services), "", "service", "name")
        return services

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> GatewayFile:
        if not self.keys and not self.listen.is_loopback:
            raise wrong(
                f"must not be {NO_KEYS} where other machines can reach the gateway: make one "
                "with `fairlead gateway key`, or listen on 127.0.0.1",
                at=("keys",),
            )
        for name in ("limits", "allow_hosts", "allow_origins") if self.keys else ():
            if name in self.model_fields_set:
                instead = (
                    "; give each key its limits, or several a tenant" if name == "limits" else ""
                )
                raise wrong(f"is only for `keys: {NO_KEYS}`{instead}", at=(name,))
        return self

    @model_validator(mode="after")
    def _names_are_there(self) -> GatewayFile:
        tenants = [tenant.name for tenant in self.tenants]
        for index, key in enumerate(self.keys):
            if key.tenant is not None and key.tenant not in tenants:
                raise wrong(
                    f"names no tenant of `tenants`: {shown(key.tenant)}"
                    + _near(key.tenant, tenants),
                    at=("keys", index, "tenant"),
                )
        services = [service.name for service in self.services]
        for index, service in enumerate(self.services):
            for place, name in enumerate(service.fallbacks):
                if name not in services:
                    raise wrong(
                        f"names no service of this file: {shown(name)}" + _near(name, services),
                        at=("services", index, "fallbacks", place),
                    )
        return self


def _near(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return f' (did you mean "{near}"?)' if near else ""


def _differ(
    values: Iterator[str], inside: str, what: str, field: str, *, show: bool = True
) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            at: tuple[Any, ...] = (inside, index, field) if inside else (index, field)
            named = f'"{value}" is' if show else "is"
            raise wrong(f"{named} the {field} of an earlier {what}", at=at)
        seen.add(value)
