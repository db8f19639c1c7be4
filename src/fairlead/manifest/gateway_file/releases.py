"""A release in a gateway file: who answers, and how it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from fairlead.domain.release import SamplingValue
from fairlead.manifest.gateway_file.addresses import ProviderUrl, ReplicaUrl, Upstream
from fairlead.manifest.guardrails import Guardrails
from fairlead.manifest.release import Outbound, Price, Prompt, Sampling
from fairlead.manifest.values import EnvName, Label, Strict, wrong

SLOTS = 256
REPLICAS_MAX = 200
_FILE = r"^/[^\x00]{1,1023}$"

Engine = Literal["llama.cpp", "vllm", "other"]


def _url_alone(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class Endpoint(NamedTuple):
    """One place that serves a release, with what is inherited filled in."""

    upstream: Upstream
    slots: int
    api_key_env: str | None
    api_key_file: str | None

    @property
    def is_https(self) -> bool:
        """Whether it is reached by TLS."""
        return self.upstream.base_url.startswith("https://")


class Replica(Strict):
    """One running engine. Its address alone may be given."""

    url: ReplicaUrl = Field(
        description=("Base URL, `http(s)://host:port`; a path in it is used in place of `/v1`.")
    )
    slots: int | None = Field(
        default=None, ge=1, le=65_536, description="The release's `slots`, for this one alone."
    )
    api_key_env: EnvName | None = Field(
        default=None, description="The release's `api_key_env`, for this one alone."
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
    api_key_env: EnvName | None = Field(
        default=None, description="Environment variable that holds their key."
    )
    api_key_file: str | None = Field(
        default=None,
        pattern=_FILE,
        description="Absolute path of a file with their key; read again at each reload.",
    )
    outbound: Outbound = Field(
        default_factory=Outbound,
        description="Own authority, proxy and addresses, for all places that are at https://.",
    )
    engine: Engine = Field(
        default="other",
        description=(
            "What runs there. llama.cpp and vllm can go on with a stream that another replica of "
            "the release began and broke off; with other, such a stream ends with an error."
        ),
    )
    price: Price | None = Field(
        default=None,
        description="What its tokens cost, for limits in USD; it is not part of its digest.",
    )
    prompt: Prompt = Field(
        default_factory=Prompt, description="Prompt template, applied to each request."
    )
    sampling: Sampling = Field(
        default_factory=Sampling, description="Defaults for what a client does not send."
    )
    guardrails: Guardrails = Field(
        default_factory=list, description="What its prompts and answers must not have."
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
        if self.outbound != Outbound() and not any(e.is_https for e in self.endpoints):
            raise wrong("is only for places at https://", at=("outbound",))
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
