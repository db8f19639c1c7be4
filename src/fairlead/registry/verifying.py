"""Read everything again and say what is not as it must be."""

from __future__ import annotations

import os
from collections import defaultdict

from fairlead.domain.errors import Damaged, FairleadError, NotFound
from fairlead.registry import oci
from fairlead.registry.entries import Problem
from fairlead.registry.layout import LAYOUT_FILE, Layout


def verify(layout: Layout, digest: str | None) -> list[Problem]:
    """Problems of one release, or of the whole layout; empty when all is well."""
    return _Verification(layout).run(digest)


class _Verification:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._problems: list[Problem] = []
        self._sizes: dict[str, int] = {}
        self._releases: dict[str, set[str]] = defaultdict(set)

    def run(self, digest: str | None) -> list[Problem]:
        try:
            index = self._layout.index()
        except Damaged as error:
            self._problem("index.json", error.message)
            index = oci.Index(manifests=())
        for entry in index.manifests:
            self._entry(entry, digest)
        if digest is not None and digest not in self._sizes:
            raise NotFound(f"{self._layout.root} lists no release {digest}")
        if digest is None:
            self._layout_file()
            self._other_blobs()
        for blob in sorted(self._sizes):
            self._blob(blob)
        return self._problems

    def _problem(self, where: str, what: str) -> None:
        self._problems.append(Problem(where, what, tuple(sorted(self._releases.get(where, ())))))

    def _layout_file(self) -> None:
        try:
            found = (self._layout.root / "oci-layout").read_bytes()
        except OSError as error:
            self._problem("oci-layout", f"cannot be read: {error.strerror}")
            return
        if found.strip() != LAYOUT_FILE:
            self._problem("oci-layout", "is not that of an OCI image layout 1.0.0")

    def _other_blobs(self) -> None:
        """Blobs that nothing names are no damage, but what is in them must still match."""
        with os.scandir(self._layout.blobs) as found:
            for item in found:
                digest = f"sha256:{item.name}"
                if not oci.DIGEST.fullmatch(digest) or not item.is_file(follow_symlinks=False):
                    self._problem(f"blobs/sha256/{item.name[:80]}", "is no blob")
                    continue
                self._sizes.setdefault(digest, item.stat().st_size)

    def _entry(self, entry: dict[str, object], wanted: str | None) -> None:
        digest, size = entry.get("digest"), entry.get("size")
        if not isinstance(digest, str) or not oci.DIGEST.fullmatch(digest):
            self._problem("index.json", "lists something that is no digest")
            return
        if wanted not in (None, digest):
            return
        self._expect(digest, size if isinstance(size, int) else -1)
        try:
            if oci.tag_of(entry) is not None:
                self._release(digest)
        except Damaged as error:
            self._problem("index.json", error.message)

    def _release(self, digest: str) -> None:
        self._releases[digest].add(digest)
        try:
            manifest = oci.decode_manifest(self._layout.read(digest), digest)
        except FairleadError:
            return  # The blob is reported with all others.
        for part in (manifest.config, *manifest.layers):
            self._releases[part.digest].add(digest)
            self._expect(part.digest, part.size)
        try:
            oci.decode_release(self._layout.read(manifest.config.digest), manifest, digest)
        except Damaged as error:
            if self._layout.holds(manifest.config.digest):
                self._problem(digest, error.message)
        except NotFound:
            return

    def _expect(self, digest: str, size: int) -> None:
        if self._sizes.setdefault(digest, size) != size:
            self._problem(digest, f"is said to have {size:,} bytes and {self._sizes[digest]:,}")

    def _blob(self, digest: str) -> None:
        self._layout.forget(digest)
        try:
            path = self._layout.path_verified(digest)
        except NotFound:
            self._problem(digest, "is missing")
        except Damaged:
            self._problem(digest, "does not match its digest")
        except FairleadError as error:
            self._problem(digest, error.message)
        else:
            if path.stat().st_size != self._sizes[digest]:
                self._problem(digest, f"does not have the {self._sizes[digest]:,} bytes stated")
