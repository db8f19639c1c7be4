"""What a gateway file holds: where to listen, who may ask, which services there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fairlead.domain.release import SamplingValue
from fairlead.manifest.gateway_file.addresses import (
    Listen,
    ListenAddress,
    ProviderUrl,
    ReplicaUrl,
    Upstream,
)
from fairlead.manifest.models import Limits
from fairlead.manifest.release import Prompt, Sampling
from fairlead.manifest.values import Label, Strict, shown, wrong

SLOTS = 256
KEYS_MAX = 1_000
SERVICES_MAX = 500
RELEASES_MAX = 20
REPLICAS_MAX = 200
NO_KEYS = "none"
NOT_RECORDED = "off"
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@-]{0,126}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ENV = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_FILE = r"^/[^\x00]{1,1023}$"


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


def _url_alone(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


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


class Endpoint(NamedTuple):
    """One place that serves a release, with what is inherited filled in."""

    upstream: Upstream
    slots: int
    api_key_env: str | None
    api_key_file: str | None


class ApiKey(Strict):
    """A key that clients may use. The file never holds the key itself."""

    name: Label = Field(description="Who uses it; written into records.")
    sha256: Sha256 = Field(
        description="SHA-256 of the key in hex, as `fairlead gateway key` prints it."
    )


class Replica(Strict):
    """One running engine. Its address alone may be given."""

    url: ReplicaUrl = Field(
        description=("Base URL, `http(s)://host:port`; a path in it is used in place of `/v1`.")
    )
    slots: int | None = Field(
        default=None, ge=1, le=65_536, description="The release's `slots`, for this one alone."
    )
    api_key_env: str | None = Field(
        default=None, pattern=_ENV, description="The release's `api_key_env`, for this one alone."
    )
    api_key_file: str | None = Field(
        default=None, pattern=_FILE, description="The release's `api_key_file`, for this one alone."
    )

    @model_validator(mode="after")
    def _one_key(self) -> Replica:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise wrong("is one place too many: api_key_env is given too", at=("api_key_file",))
        return self


class Release(Strict):
    """One of those that answer for a service."""

    name: Label = Field(
        description="Its name within the service; with prompt, sampling and model its identity."
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        le=1e12,
        description=(
            "Its share of the sessions, users or keys, as a part of the sum over the service's "
            "releases; 0 gets none."
        ),
    )
    url: ProviderUrl | None = Field(
        default=None,
        description=(
            "A provider: https://host/v1 or openai://host/v1?model=NAME (without TLS on loopback "
            "only)."
        ),
    )
    replicas: tuple[Annotated[Replica, BeforeValidator(_url_alone)], ...] = Field(
        default=(),
        strict=False,
        max_length=REPLICAS_MAX,
        description="Engines that all serve this release: base URLs, or mappings.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Put into the field `model` for them; the service's name if not given.",
    )
    slots: int = Field(
        default=SLOTS,
        ge=1,
        le=65_536,
        description=(
            "Requests that one worker sends to each of them at the same time; more wait in the "
            "queue."
        ),
    )
    api_key_env: str | None = Field(
        default=None, pattern=_ENV, description="Environment variable that holds their key."
    )
    api_key_file: str | None = Field(
        default=None,
        pattern=_FILE,
        description="Absolute path of a file with their key; read again at each reload.",
    )
    prompt: Prompt = Field(
        default_factory=Prompt, description="Prompt template, applied to each request."
    )
    sampling: Sampling = Field(
        default_factory=Sampling, description="Defaults for what a client does not send."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Release:
        if self.url is not None and self.replicas:
            raise wrong("are one place too many: url is given too", at=("replicas",))
        if self.url is None and not self.replicas:
            raise wrong('needs "replicas" (base URLs) or the "url" of a provider')
        if self.url is not None and self.url.model is not None and self.model is not None:
            raise wrong("is given in the url too", at=("model",))
        if self.api_key_env is not None and self.api_key_file is not None:
            raise wrong("is one place too many: api_key_env is given too", at=("api_key_file",))
        for index, endpoint in enumerate(self.endpoints):
            if endpoint.upstream.is_open and (endpoint.api_key_env or endpoint.api_key_file):
                raise wrong(
                    f"would get its key unencrypted ({endpoint.upstream.host}); use https://",
                    at=("replicas", index),
                )
        return self

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where it is served."""
        return list(self._endpoints())

    @property
    def upstream_model(self) -> str | None:
        """What is put into the field `model`."""
        return self.model or (self.url.model if self.url is not None else None)

    @property
    def sampling_defaults(self) -> dict[str, SamplingValue]:
        """The sampling defaults that are set."""
        document: dict[str, SamplingValue] = self.sampling.model_dump(exclude_none=True)
        return document

    def _endpoints(self) -> Iterator[Endpoint]:
        if self.url is not None:
            yield Endpoint(self.url, self.slots, self.api_key_env, self.api_key_file)
        for replica in self.replicas:
            has_own = replica.api_key_env is not None or replica.api_key_file is not None
            yield Endpoint(
                replica.url,
                replica.slots or self.slots,
                replica.api_key_env if has_own else self.api_key_env,
                replica.api_key_file if has_own else self.api_key_file,
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
    limits: Limits = Field(
        default_factory=Limits, description="What it may take up in each worker."
    )

    @model_validator(mode="after")
    def _releases_fit(self) -> Service:
        _differ((release.name for release in self.releases), "releases", "release", "name")
        if not any(release.weight for release in self.releases):
            raise wrong("must have a weight above 0 in one of them", at=("releases",))
        return self


class GatewayFile(Strict):
    """A gateway that runs alone."""

    listen: ListenAddress = Field(
        default=Listen("127.0.0.1", 7600),
        description="Address and port, `host:port`; port 0 takes any that is free.",
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
    services: tuple[Service, ...] = Field(
        strict=False,
        min_length=1,
        max_length=SERVICES_MAX,
        description="The services, each with its releases.",
    )
    spool: Spool = Field(
        default=None,
        description=(
            "Folder for one record of each request, relative to this file; `off` keeps none."
        ),
    )
    drain_seconds: float = Field(
        default=15.0,
        ge=0,
        le=3_600,
        description="How long open requests have to end when the gateway is stopped.",
    )

    @field_validator("keys")
    @classmethod
    def _keys_differ(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        _differ((key.name for key in keys), "", "key", "name")
        _differ((key.sha256 for key in keys), "", "key", "sha256", show=False)
        return keys

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
        return self


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
