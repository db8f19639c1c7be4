"""Engines and their settings, as `release.engine` says them.

The settings are those that the engines declare (`fairlead.engines`), with the same defaults and
bounds; a release keeps all of them, so that a later change of a default leaves it as it was.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairlead.manifest.values import Strict

SettingValue = bool | int | float | str


class LlamaCppSettings(Strict):
    """Settings of the llama.cpp engine. All of them are part of the release's digest."""

    context: int = Field(
        default=4096,
        ge=256,
        le=16 * 1024 * 1024,
        description="Tokens that prompt and answer may take up, in all slots together.",
    )
    slots: int = Field(
        default=4, ge=1, le=256, description="Requests that one replica serves at the same time."
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Processor threads of one replica; 0 chooses by the size of the model.",
    )
    batch: int = Field(
        default=512,
        ge=32,
        le=65_536,
        description="Prompt tokens taken in one step; the longest text of an embedding.",
    )
    embeddings: bool = Field(
        default=False, description="Serve /v1/embeddings instead of completions."
    )
    pooling: Literal["", "mean", "cls", "last"] = Field(
        default="", description="How an embedding is pooled; empty takes the model's own way."
    )
    chat_template: str = Field(
        default="",
        max_length=64 * 1024,
        description="Jinja chat template in place of the model's own.",
    )


class RemoteSettings(Strict):
    """Settings of a remote endpoint."""

    slots: int = Field(
        default=32, ge=1, le=4_096, description="Requests sent to the provider at the same time."
    )
    probe_path: str = Field(
        default="/models",
        pattern=r"^/[!-~]{0,1023}$",
        description="Path below the base URL that is read to see that the provider answers.",
    )


class LlamaCppEngine(Strict):
    """llama.cpp, one process per replica."""

    kind: Literal["llama.cpp"] = Field(
        default="llama.cpp", description="Which engine runs the model."
    )
    settings: LlamaCppSettings = Field(
        default_factory=LlamaCppSettings, description="How llama.cpp runs the model."
    )


class RemoteEngine(Strict):
    """Someone else's server, reached over HTTP."""

    kind: Literal["remote"] = Field(default="remote", description="Which engine runs the model.")
    settings: RemoteSettings = Field(
        default_factory=RemoteSettings, description="How the provider is called."
    )
