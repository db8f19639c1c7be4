"""The registry: what the rest of fairlead sees of releases."""

from __future__ import annotations

import difflib
import os
import re
from builtins import list as list_of
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fairlead.domain.errors import Conflict, NotFound
from fairlead.domain.release import Release, WeightsModel, short
from fairlead.registry import oci
from fairlead.registry.building import Builder, entry_of
from fairlead.registry.collecting import collect
from fairlead.registry.differences import differences
from fairlead.registry.entries import (
    BuildInput,
    Difference,
    GcReport,
    Problem,
    Progress,
    ReleaseEntry,
    Tag,
)
from fairlead.registry.layout import Layout
from fairlead.registry.model_files import ModelFacts, accept_file
from fairlead.registry.sources import HubSettings
from fairlead.registry.transaction import transaction
from fairlead.registry.unpacking import model_paths
from fairlead.registry.verifying import verify

GRACE_S = 600.0
_PREFIX = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{6,64})")
_NEAR_MAX = 5


class Registry:
    """Content-addressed releases in an OCI image layout at `root`, which is made when absent.

    Safe to use from several threads and processes at the same time. What is handed out was
    compared with its digest before; what does not match raises `Damaged` and is never served.
    """

    def __init__(self, root: Path, *, hub: HubSettings | None = None) -> None:
        self._layout = Layout(root)
        self._builder = Builder(self._layout, hub or HubSettings())

    def build(
        self,
        given: BuildInput,
        *,
        now: float,
        progress: Progress | None = None,
        hf_token: str | None = None,
    ) -> ReleaseEntry:
        """Bring a release in and list it under its name; on any failure nothing is changed.

        Building the same again only lists it anew, and repairs blobs that were damaged.

        Args:
            now: Unix time in seconds; kept with the name, not part of the release.
            progress: Told of each file how far it is.
            hf_token: For private or gated repositories of the Hugging Face Hub.

        Raises:
            InvalidInput: The model's address, the engine or a name cannot be used.
            ModelFileRefused: A model file is damaged or of a kind that can run code.
            NotFound, Unauthorized, Unavailable: The model is not there or cannot be had.
            StorageFailed: The disk is full or fails.
        """
        return self._builder.build(given, now=now, progress=progress, hf_token=hf_token)

    def tags(self, service: str | None = None) -> list_of[Tag]:
        """The names under which releases are listed, oldest first, without reading any blob."""
        tags = [tag for entry in self._layout.index().manifests if (tag := oci.tag_of(entry))]
        wanted = [tag for tag in tags if service in (None, tag.service)]
        return sorted(wanted, key=lambda tag: tag.created_at)

    def list(self, service: str | None = None) -> list_of[ReleaseEntry]:
        """All releases, once per name, oldest first; raises `Damaged` when one cannot be read."""
        return [self._entry(tag) for tag in self.tags(service)]

    def resolve(self, reference: str, service: str | None = None) -> str:
        """The digest that a reference means.

        A reference is a digest, six or more of its first hex digits, a name, or `service/name`.
        Where a service has several releases of one name, the newest is meant.

        Raises:
            NotFound: Nothing is listed like this; the hint has the nearest.
            Conflict: Several releases could be meant.
        """
        tags = self.tags()
        found: set[str] = set()
        by_name: dict[str, str] = {}
        for tag in tags:
            names = (tag.name, f"{tag.service}/{tag.name}")
            if reference in names and service in (None, tag.service):
                by_name[tag.service] = tag.digest
        found.update(by_name.values())
        prefix = _PREFIX.fullmatch(reference)
        if prefix is not None:
            start = f"sha256:{prefix['hex']}"
            found.update(tag.digest for tag in tags if tag.digest.startswith(start))
        if len(found) > 1:
            shown = ", ".join(_shown(tag) for tag in tags if tag.digest in found)
            raise Conflict(
                f"{reference!r} could be {shown}", hint="write service/name or more of the digest"
            )
        if not found:
            raise self._unknown(reference, service, tags)
        return found.pop()

    def _unknown(self, reference: str, service: str | None, tags: list_of[Tag]) -> NotFound:
        known = [tag for tag in tags if service in (None, tag.service)]
        texts = [text for tag in known for text in (tag.name, short(tag.digest))]
        near = difflib.get_close_matches(reference, texts, n=_NEAR_MAX, cutoff=0.5)
        if near:
            hint = f"did you mean {', '.join(dict.fromkeys(near))}?"
        elif known:
            hint = f"there are {', '.join(_shown(tag) for tag in known[-_NEAR_MAX:])}"
        else:
            hint = "there is none yet; `fairlead release build` makes one"
        place = f" of service {service}" if service else ""
        return NotFound(f"no release {reference!r}{place}", hint=hint)

    def get(self, digest: str) -> ReleaseEntry:
        """A release, under its newest name.

        Raises:
            NotFound: It is not listed.
            Damaged: Its manifest or configuration does not match its digest.
        """
        self._layout.path_of(digest)  # Refuses what is no digest.
        tags = [tag for tag in self.tags() if tag.digest == digest]
        if not tags:
            raise NotFound(f"no release {digest}")
        return self._entry(tags[-1])

    def _entry(self, tag: Tag) -> ReleaseEntry:
        manifest, release = self._load(tag.digest)
        return entry_of(tag, manifest, release)

    def _load(self, digest: str) -> tuple[oci.Manifest, Release]:
        manifest = oci.decode_manifest(self._layout.read(digest), digest)
        release = oci.decode_release(self._layout.read(manifest.config.digest), manifest, digest)
        return manifest, release

    def weights(self, digest: str) -> list_of[Path]:
        """Paths of a release's files, verified, the engine's first; none for a remote model.

        Several files lie in one folder under their own names. Checking again is cheap as long as
        the files were not touched.

        Raises:
            NotFound, Damaged: A file is missing or does not match its digest.
        """
        return model_paths(self._layout, self.get(digest).release)

    def describe(self, digest: str) -> list_of[ModelFacts]:
        """What the release's weight files say about themselves; none for a remote model."""
        release = self.get(digest).release
        if not isinstance(release.model, WeightsModel):
            return []
        found = []
        for file in release.model.files:
            fd = os.open(self._layout.path_verified(file.digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                found.append(accept_file(fd, name=file.name, label=file.name))
            finally:
                os.close(fd)
        return [facts for facts in found if facts is not None]

    def put_blob(self, data: bytes, media_type: str) -> str:
        """Store a blob that belongs to no release, such as a suite; returns its digest.

        `gc` keeps it while it is named in `extra_blobs`, and for a while after it was put, so
        that whoever put it can write its digest down first.
        """
        with transaction(self._layout) as adding:
            digest = adding.add_bytes(data)

            def listed(entries: list_of[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
                if any(entry.get("digest") == digest for entry in entries):
                    return tuple(entries)
                return (*entries, oci.kept_entry(digest, len(data), media_type))

            adding.commit(listed)
            self._layout.touch(digest)
        return digest

    def read_blob(self, digest: str) -> bytes:
        """A blob's content; raises `NotFound`, or `Damaged` when it does not match."""
        return self._layout.read(digest)

    def path_verified(self, digest: str) -> Path:
        """A blob's path, after its content was compared with the digest; see `weights`."""
        return self._layout.path_verified(digest)

    def diff(self, a: str, b: str) -> list_of[Difference]:
        """The fields in which two releases differ."""
        return differences(self.get(a).release, self.get(b).release)

    def verify(self, digest: str | None = None) -> list_of[Problem]:
        """Read every blob again, of one release or all, and check how they belong together."""
        return verify(self._layout, digest)

    def gc(
        self,
        keep: Collection[str],
        *,
        dry_run: bool = False,
        extra_blobs: Collection[str] = (),
        grace_s: float = GRACE_S,
    ) -> GcReport:
        """Remove releases that are not in `keep`, blobs that nothing names, and leftovers.

        Args:
            keep: Whole digests of the releases that stay.
            extra_blobs: Digests of blobs of `put_blob` that stay.
            grace_s: Releases stay this many seconds after they were last built, and blobs that
                belong to no release as long after they were put: someone may be about to use them.

        Raises:
            InvalidInput: A digest is not whole; nothing was removed.
            Conflict: A build is under way.
            Damaged: Something that stays cannot be read; nothing was removed.
        """
        return collect(
            self._layout, keep, dry_run=dry_run, extra_blobs=extra_blobs, grace_s=grace_s
        )


def _shown(tag: Tag) -> str:
    return f"{tag.service}/{tag.name} ({short(tag.digest)})"
