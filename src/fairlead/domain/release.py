"""A release: everything that decides what answers a service gives, under one digest.

The digest of a release is the digest of its OCI manifest (see `fairlead.registry`), which covers
the canonical form of `Release` and, through `Blob.digest`, every weight file. Two releases with
equal content have equal digests on every machine; names, times and places are kept outside.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import Outbound

_DIGEST = re.compile(r"\bsha256:([0-9a-f]{1,12})[0-9a-f]*")
SamplingValue = bool | int | float | str | list[str] | dict[str, Any] | None
"""What a sampling default may be: any value that the OpenAI API takes for a request parameter."""


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stored file: `digest` is `sha256:<hex>`, `size` in bytes, `name` its file name."""

    digest: str
    size: int
    name: str


class WeightsModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="weights"):
    """Weights that an engine loads. The first file is the one the engine is pointed at."""

    format: Literal["gguf", "safetensors"]
    files: tuple[Blob, ...]


class RemoteModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="remote"):
    """A model behind an OpenAI-compatible URL.

    Attributes:
        base_url: `http(s)://host[:port]/path` below which `/chat/completions` is found.
        model: The provider's name of the model.
        api_key_env: Environment variable that holds the provider's key.
        api_key_file: File that holds the provider's key. The key itself is never stored.
        outbound: How it is reached, where that is not the plain way; left out where it is, so that
            the digests of earlier releases stay as they were.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    api_key_file: str | None = None
    outbound: Outbound | msgspec.UnsetType = msgspec.UNSET


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model is run: which engine, with which settings (those of its own schema)."""

    kind: Literal["llama.cpp", "remote"]
    settings: dict[str, bool | int | float | str] = {}


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prompt template, applied by the gateway to each request.

    Attributes:
        system: System message put first when the client sends none.
        user: Wraps the last user message (or the completion prompt); `{input}` stands for it.
    """

    system: str | None = None
    user: str | None = None


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a service answers with. Immutable; equal content means equal digest.

    Attributes:
        guardrails: What its prompts and answers must not have; left out where there are none, so
            that the digests of earlier releases stay as they were.
    """

    model: WeightsModel | RemoteModel
    engine: Engine
    prompt: Prompt = Prompt()
    sampling: dict[str, SamplingValue] = {}
    schema: Literal[1] = 1
    guardrails: tuple[Guardrail, ...] | msgspec.UnsetType = msgspec.UNSET

    def canonical(self) -> bytes:
        """The one JSON encoding of this release: keys sorted, no white space."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def engine_digest(self) -> str:
        """Digest of model and engine alone: releases that share it can share replicas."""
        return sha256_digest(msgspec.json.encode([self.model, self.engine], order="sorted"))

    @staticmethod
    def from_canonical(data: bytes) -> Release:
        """Decode `canonical()`; raises `msgspec.ValidationError` on anything else."""
        return decode_json(data, Release)


def sha256_digest(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def short(digest: str) -> str:
    """The first 12 hex digits, for people to read."""
    return digest.removeprefix("sha256:")[:12]


def shortened(words: str) -> str:
    """Words in which each digest is as `short` has it."""
    return _DIGEST.sub(r"\1", words)
