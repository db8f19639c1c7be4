"""The manifest's `release`: model, engine, prompt template, sampling defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fairlead.domain.outbound import Outbound as Way
from fairlead.domain.outbound import check_host, parse_proxy
from fairlead.domain.prompting import INPUT_SLOT
from fairlead.domain.quota import Price as TokenPrice
from fairlead.domain.release import SamplingValue
from fairlead.manifest.engines import LlamaCppEngine, RemoteEngine, SettingValue
from fairlead.manifest.guardrails import Guardrails
from fairlead.manifest.sources import ModelSource, RemoteSource, is_remote, source_text
from fairlead.manifest.values import EnvName, Label, Strict, wrong

Engine = Annotated[LlamaCppEngine | RemoteEngine, Field(discriminator="kind")]


class Prompt(Strict):
    """The prompt template, applied to each request."""

    system: str | None = Field(
        default=None,
        max_length=262_144,
        description="System message that is put first when the client sends none.",
    )
    user: str | None = Field(
        default=None,
        max_length=262_144,
        description="Wraps the last user message; {input} stands for it.",
    )

    @model_validator(mode="after")
    def _has_slot(self) -> Prompt:
        if self.user is not None and self.user.count(INPUT_SLOT) != 1:
            raise wrong(f"must hold {INPUT_SLOT} exactly once", at=("user",))
        return self


def _proxy(value: object) -> object:
    if isinstance(value, str):
        try:
            parse_proxy(value)
        except ValueError as error:
            raise wrong(f"cannot be used: {error}") from None
    return value


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    list[str],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Sampling(Strict):
    """Defaults for what a client does not send; named as in the OpenAI API."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness of the answer; 0 takes the likeliest."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the likeliest tokens of this mass."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Sample from so many likeliest tokens (llama.cpp)."
    )
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Leave out tokens less likely than this share of the likeliest (llama.cpp).",
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens in an answer.")
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="The same by the name that newer providers want."
    )
    stop: Stop | None = Field(
        default=None,
        max_length=16,
        description="Texts at which the answer ends.",
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**32, description="Makes sampling repeatable where it can be."
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens that have been used."
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Against tokens by how often they were used."
    )
    repeat_penalty: float | None = Field(
        default=None, gt=0, le=2, description="llama.cpp's own penalty; 1 is none."
    )
    response_format: dict[str, Any] | None = Field(
        default=None, description="Form of the answer, such as {type: json_object}."
    )
    grammar: str | None = Field(
        default=None, max_length=262_144, description="GBNF grammar of the answer (llama.cpp)."
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = Field(
        default=None, description="How long the model reasons (providers that know it)."
    )


class Price(Strict):
    """What the release's tokens cost. It is not part of the release's digest."""

    input_per_million: float = Field(
        default=0.0, ge=0, le=1e6, description="USD per million tokens of prompts."
    )
    output_per_million: float = Field(
        default=0.0, ge=0, le=1e6, description="USD per million tokens of answers."
    )

    @property
    def price(self) -> TokenPrice:
        """The same as the rest of the program has it."""
        return TokenPrice(self.input_per_million, self.output_per_million)


class Outbound(Strict):
    """How a provider is reached, where that is not the plain way."""

    ca_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description=(
            "Absolute path of a file (PEM) with the authorities that are trusted for this "
            "provider, and no others."
        ),
    )
    proxy: Annotated[str, BeforeValidator(_proxy)] | None = Field(
        default=None,
        max_length=300,
        description=(
            "Proxy through which connections go (CONNECT), as http://host:port or "
            "https://host:port. Never taken from the environment."
        ),
    )
    proxy_auth_env: EnvName | None = Field(
        default=None,
        description="Environment variable that holds user:password for the proxy.",
    )
    link_local: bool = Field(
        default=False,
        description="Allow link-local addresses, where clouds also have their metadata.",
    )

    @model_validator(mode="after")
    def _has_a_proxy(self) -> Outbound:
        if self.proxy_auth_env is not None and self.proxy is None:
            raise wrong("needs a proxy", at=("proxy_auth_env",))
        return self

    @property
    def way(self) -> Way:
        """The same as the rest of the program has it."""
        return Way(
            ca_file=self.ca_file,
            proxy=self.proxy,
            proxy_auth_env=self.proxy_auth_env,
            link_local=self.link_local,
        )


class Release(Strict):
    """What the service answers with."""

    name: Label | None = Field(
        default=None, description="Label for people; the release itself is named by its digest."
    )
    model: ModelSource = Field(
        description=(
            "A model file or folder relative to this file, hf://org/repo@revision[/file], or an "
            "OpenAI-compatible endpoint as openai://host/v1?model=NAME "
            "(openai+http:// without TLS, on loopback only)."
        )
    )
    api_key_env: EnvName | None = Field(
        default=None,
        description="Environment variable that holds the provider's key (openai:// only).",
    )
    api_key_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description="Absolute path of a file with the provider's key (openai:// only).",
    )
    outbound: Outbound = Field(
        default_factory=Outbound,
        description="Own authority, proxy and addresses of the provider (openai:// only).",
    )
    engine: Engine = Field(
        default_factory=LlamaCppEngine,
        description="What runs the model; remote for openai://, else llama.cpp.",
    )
    prompt: Prompt = Field(
        default_factory=Prompt, description="Prompt template, applied to each request."
    )
    sampling: Sampling = Field(
        default_factory=Sampling, description="Defaults for what a client does not send."
    )
    guardrails: Guardrails = Field(
        default_factory=list,
        description="What its prompts and answers must not have.",
    )
    price: Price | None = Field(
        default=None,
        description="What its tokens cost, for limits in USD; not part of its digest.",
    )

    @model_validator(mode="before")
    @classmethod
    def _engine_by_model(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        engine = data.get("engine", {})
        if not isinstance(engine, dict) or "kind" in engine:
            return data
        kind = "remote" if is_remote(data.get("model")) else "llama.cpp"
        return {**data, "engine": {"kind": kind, **engine}}

    @model_validator(mode="after")
    def _parts_fit(self) -> Release:
        remote = isinstance(self.model, RemoteSource)
        if remote != isinstance(self.engine, RemoteEngine):
            needed = "remote" if remote else "llama.cpp"
            raise wrong(f'must be of kind "{needed}" for this model', at=("engine",))
        if not remote and self.outbound != Outbound():
            raise wrong("is only for a model at openai://", at=("outbound",))
        if isinstance(self.model, RemoteSource):
            self._check_host(self.model)
        for key in ("api_key_env", "api_key_file"):
            if getattr(self, key) is not None and not remote:
                raise wrong("is only for a model at openai://", at=(key,))
        if self.api_key_env is not None and self.api_key_file is not None:
            raise wrong("is one place too many: api_key_env is given too", at=("api_key_file",))
        return self

    def _check_host(self, model: RemoteSource) -> None:
        try:
            check_host(urlsplit(model.base_url).hostname or "", link_local=self.outbound.link_local)
        except ValueError as error:
            raise wrong(f"has a host that cannot be used: {error}", at=("model",)) from None

    @property
    def source_text(self) -> str:
        """The model's source in words: an absolute path, or the address as it is written."""
        return source_text(self.model)

    @property
    def settings(self) -> dict[str, SettingValue]:
        """The engine's settings as a release keeps them, defaults included."""
        document: dict[str, SettingValue] = self.engine.settings.model_dump()
        return document

    @property
    def sampling_defaults(self) -> dict[str, SamplingValue]:
        """The sampling defaults that are set."""
        document: dict[str, SamplingValue] = self.sampling.model_dump(exclude_none=True)
        return document
