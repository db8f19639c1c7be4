"""The manifest's `monitoring.embeddings`: the model that makes the vectors by which drift goes."""

from __future__ import annotations

from pydantic import Field, model_validator

from fairlead.manifest.judging import RemoteModelSource
from fairlead.manifest.values import EnvName, ServiceName, Strict, wrong


class Embeddings(Strict):
    """A sentence-embedding model, asked for vectors of the sample's texts by `/v1/embeddings`."""

    service: ServiceName | None = Field(
        default=None,
        description="Another service of this installation, whose champion serves embeddings.",
    )
    model: RemoteModelSource | None = Field(
        default=None,
        description=(
            "Or a model elsewhere, which is then sent the sample's texts: "
            "openai://host/v1?model=NAME (openai+http:// without TLS, on loopback only)."
        ),
    )
    api_key_env: EnvName | None = Field(
        default=None, description="Environment variable that holds the provider's key."
    )
    api_key_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description="Absolute path of a file with the provider's key.",
    )
    per_day: int = Field(
        default=200_000,
        ge=1,
        le=10**9,
        description="Texts that it is asked about in a day (UTC); then drift is blind until "
        "midnight, which is an alert.",
    )
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=60, description="How long one answer, of 32 texts, may take."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Embeddings:
        if (self.service is None) == (self.model is None):
            raise wrong("needs either a service or a model")
        if self.model is None and (self.api_key_env or self.api_key_file):
            raise wrong("has a provider's key, but no model")
        if self.api_key_env and self.api_key_file:
            raise wrong("has api_key_env and api_key_file; give one of them")
        return self
