"""Build a release: bring its files in, check them, and list it, all or nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.domain.errors import InvalidInput, ModelFileRefused
from fairlead.domain.guardrail import check_guardrails
from fairlead.domain.outbound import DIRECT
from fairlead.domain.release import Blob, Release, RemoteModel, WeightsModel, sha256_digest
from fairlead.registry import oci
from fairlead.registry.disk import require_space
from fairlead.registry.entries import BuildInput, Progress, ReleaseEntry, Tag
from fairlead.registry.layout import Layout
from fairlead.registry.model_files import ModelFacts, accept_file, format_of
from fairlead.registry.sources import (
    HubAddress,
    HubSettings,
    LocalAddress,
    SourceFile,
    local_files,
    parse_address,
)
from fairlead.registry.transaction import Transaction, transaction

SPARE_BYTES = 256 * 1024
"""Room for manifest, configuration and index beside the files."""
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


class Builder:
    """Builds releases into one layout."""

    def __init__(self, layout: Layout, hub: HubSettings) -> None:
        self._layout = layout
        self._hub = hub

    def build(
        self, given: BuildInput, *, now: float, progress: Progress | None, hf_token: str | None
    ) -> ReleaseEntry:
        """See `Registry.build`."""
        _check_labels(given)
        address = parse_address(given.model)
        _check_engine(given, remote=isinstance(address, RemoteModel))
        check_guardrails(given.guardrails)
        with transaction(self._layout) as adding:
            source = given.model
            model: WeightsModel | RemoteModel
            if isinstance(address, RemoteModel):
                model = msgspec.structs.replace(
                    address,
                    api_key_env=given.api_key_env,
                    api_key_file=given.api_key_file,
                    outbound=msgspec.UNSET if given.outbound == DIRECT else given.outbound,
                )
            else:
                source, files = self._files(address, hf_token)
                model = self._weights(adding, files, progress)
            return self._list(adding, _release(given, model), given, now, source)

    def _files(
        self, address: LocalAddress | HubAddress, hf_token: str | None
    ) -> tuple[str, list[SourceFile]]:
        if isinstance(address, LocalAddress):
            return str(address.path), local_files(address.path)
        # Most registries never download, and the HTTP client takes some megabytes.
        from fairlead.registry.sources.hub import Hub

        return Hub(self._hub, hf_token).files(address)

    def _weights(
        self, adding: Transaction, files: Sequence[SourceFile], progress: Progress | None
    ) -> WeightsModel:
        for file in files:
            file.check()
        here = self._already_here(adding, files, progress)
        missing = sum(file.size for file, digest in zip(files, here, strict=True) if not digest)
        require_space(self._layout.root, missing + SPARE_BYTES)
        blobs: list[Blob] = []
        facts: list[ModelFacts] = []
        for file, digest in zip(files, here, strict=True):
            if digest:
                found = self._accept_stored(digest, file)
            else:
                digest, found = _copy(adding, file, progress)
            blobs.append(Blob(digest=digest, size=file.size, name=file.name))
            facts += [found] if found else []
        _check_whole(files, facts)
        kind = format_of(files[0].name)
        if kind is None:
            raise ModelFileRefused(f"{files[0].label}: holds no weights")
        return WeightsModel(format=kind, files=tuple(blobs))

    def _already_here(
        self, adding: Transaction, files: Sequence[SourceFile], progress: Progress | None
    ) -> list[str]:
        """For each file the digest under which it is stored soundly, else an empty text.

        A file is read for this only when a blob of the same size is stored: then most likely it
        is the same (releases often differ in the prompt alone), and nothing has to be written.
        """
        sizes = set(self._layout.blob_sizes().values())
        here = []
        for file in files:
            digest = None
            if file.size in sizes:
                digest = file.known_digest(_advance(progress, file))
            here.append(digest if digest and adding.reuse(digest) else "")
        return here

    def _accept_stored(self, digest: str, file: SourceFile) -> ModelFacts | None:
        """Check a blob that came in by another way, or under another name."""
        fd = os.open(self._layout.path_verified(digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != file.size:
                raise ModelFileRefused(f"{file.label}: does not have the size that is stated")
            return accept_file(fd, name=file.name, label=file.label)
        finally:
            os.close(fd)

    def _list(
        self, adding: Transaction, release: Release, given: BuildInput, now: float, source: str
    ) -> ReleaseEntry:
        manifest = oci.manifest_of(release)
        content = oci.encode(manifest)
        adding.add_bytes(release.canonical())
        adding.add_bytes(content)
        if isinstance(release.model, RemoteModel):
            adding.add_bytes(oci.EMPTY)
        tag = Tag(sha256_digest(content), given.name, given.service, now, source)

        def listed(entries: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
            others = [entry for entry in entries if not _same_place(oci.tag_of(entry), tag)]
            return oci.with_ref_names([*others, oci.tag_entry(tag, len(content))])

        adding.commit(listed)
        return entry_of(tag, manifest, release)


def entry_of(tag: Tag, manifest: oci.Manifest, release: Release) -> ReleaseEntry:
    """A release as it is listed under this tag."""
    blobs = {d.digest: d.size for d in (manifest.config, *manifest.layers)}
    return ReleaseEntry(
        digest=tag.digest,
        name=tag.name,
        service=tag.service,
        created_at=tag.created_at,
        size=len(oci.encode(manifest)) + sum(blobs.values()),
        release=release,
        source=tag.source,
    )


def _same_place(listed: Tag | None, tag: Tag) -> bool:
    return listed is not None and (listed.digest, listed.name, listed.service) == (
        tag.digest,
        tag.name,
        tag.service,
    )


def _copy(
    adding: Transaction, file: SourceFile, progress: Progress | None
) -> tuple[str, ModelFacts | None]:
    """Stage a file; what was staged is checked, not what lay at the source before."""
    with adding.new_file(file.size) as staged:
        file.copy_into(staged, _advance(progress, file))
        found = accept_file(staged.fd, name=file.name, label=file.label)
    return staged.digest, found


class _Advance:
    """Reports a file's progress under its name."""

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name, self._total = progress, name, total

    def __call__(self, done: int) -> None:
        self._progress(self._name, done, self._total)


def _silent(_: int) -> None:
    """Nobody wants to know."""


def _advance(progress: Progress | None, file: SourceFile) -> _Advance | Any:
    return _silent if progress is None else _Advance(progress, file.name, file.size)


def _release(given: BuildInput, model: WeightsModel | RemoteModel) -> Release:
    """The release; raises `InvalidInput` when its parts cannot be written down exactly."""
    release = Release(
        model=model,
        engine=given.engine,
        prompt=given.prompt,
        sampling=given.sampling,
        guardrails=given.guardrails or msgspec.UNSET,
    )
    try:
        same = Release.from_canonical(release.canonical()) == release
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the release's settings cannot be stored: {error}") from None
    if not same:
        raise InvalidInput("the release's settings hold a number that JSON cannot say (NaN)")
    return release


def _check_labels(given: BuildInput) -> None:
    for what, label in (("release name", given.name), ("service name", given.service)):
        if not _LABEL.fullmatch(label):
            raise InvalidInput(
                f"{what} {ascii(label)[:140]} cannot be used",
                hint="letters, digits and ._- may be in it, at most 128",
            )


def _check_engine(given: BuildInput, *, remote: bool) -> None:
    if remote != (given.engine.kind == "remote"):
        needed = "the remote engine" if remote else "an engine that loads weights"
        raise InvalidInput(
            f"model {given.model} needs {needed}, the release names {given.engine.kind}"
        )
    if not remote and (given.api_key_env or given.api_key_file):
        raise InvalidInput("api_key_env and api_key_file are for openai:// models only")
    if not remote and given.outbound != DIRECT:
        raise InvalidInput("ca_file, proxy and link_local are for openai:// models only")
    if given.api_key_env and given.api_key_file:
        raise InvalidInput("give api_key_env or api_key_file, not both")


def _check_whole(files: Sequence[SourceFile], facts: Sequence[ModelFacts]) -> None:
    """Refuse a part of a split model whose other parts are not there."""
    weights = [file for file in files if format_of(file.name) is not None]
    for file, found in zip(weights, facts, strict=True):
        if found.parts > 1 and found.parts != len(weights):
            raise ModelFileRefused(
                f"{file.label}: is one of {found.parts} parts, {len(weights)} are here",
                hint="keep the parts' names (-00001-of-00003.gguf) and put them side by side",
            )
