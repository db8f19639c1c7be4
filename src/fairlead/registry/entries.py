"""What goes into the registry and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.release import Engine, Prompt, Release, SamplingValue, short

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are done and all its bytes."""


class BuildInput(msgspec.Struct, frozen=True):
    """What a release is built from.

    Attributes:
        model: Absolute path of a file or folder, `hf://org/repo@revision[/file]`,
            `openai://host[:port]/path?model=NAME`, or `openai+http://…` on loopback.
        name: Label of the release within its service.
        api_key_env, api_key_file: Where the provider's key is found; for `openai://` only.
        outbound: How the provider is reached; for `openai://` only.
        guardrails: What prompts and answers must not have.
    """

    model: str
    engine: Engine
    prompt: Prompt
    sampling: dict[str, SamplingValue]
    name: str
    service: str
    api_key_env: str | None = None
    api_key_file: str | None = None
    outbound: Outbound = DIRECT
    guardrails: tuple[Guardrail, ...] = ()


class Tag(msgspec.Struct, frozen=True):
    """A name under which a release is listed; the same release may have several.

    Attributes:
        created_at: Unix time in seconds at which it was built under this name.
        source: What it was built from; a Hub source with its commit. For people to read.
    """

    digest: str
    name: str
    service: str
    created_at: float
    source: str = ""


class ReleaseEntry(msgspec.Struct, frozen=True):
    """A release under one of its names.

    Attributes:
        created_at: Unix time in seconds at which it was built under this name.
        size: Bytes of all its blobs: manifest, configuration and files.
    """

    digest: str
    name: str
    service: str
    created_at: float
    size: int
    release: Release
    source: str = ""


class Difference(msgspec.Struct, frozen=True):
    """A field in which two releases differ; `(none)` where one of them does not have it."""

    path: str
    before: str
    after: str


class Problem(msgspec.Struct, frozen=True):
    """Something in the registry that is not as it must be.

    Attributes:
        where: Digest of the blob, or the file's name within the registry.
        what: What is wrong with it.
        releases: Digests of the releases that cannot be served because of it.
    """

    where: str
    what: str
    releases: tuple[str, ...] = ()

    def __str__(self) -> str:
        users = ", ".join(short(digest) for digest in self.releases)
        return f"{self.where}: {self.what}" + (f" (part of release {users})" if users else "")


class GcReport(msgspec.Struct, frozen=True):
    """What a collection removed, or would remove.

    Attributes:
        releases: Digests of releases that are no longer listed.
        blobs: Digests of blobs that are gone, those of these releases included.
        leftovers: Names of temporary files and folders of builds that did not end.
        bytes_freed: Bytes of all of them.
    """

    releases: tuple[str, ...]
    blobs: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes_freed: int
