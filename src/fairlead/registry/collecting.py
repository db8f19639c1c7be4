"""Remove releases that are not kept, blobs that nothing names, and what broken builds left.

The index loses its entries first and durably, the blobs go after: a crash in between leaves blobs
that nothing names, which the next collection takes. When something that is kept cannot be read,
nothing is removed, since it is not known what it needs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fairlead.domain.errors import Damaged, InvalidInput, NotFound
from fairlead.registry import oci
from fairlead.registry.disk import fsync_folder, storing
from fairlead.registry.entries import GcReport
from fairlead.registry.layout import Layout

_DEPTH_MAX = 8
_WALKED = (oci.MANIFEST_TYPE, oci.INDEX_TYPE)


def collect(
    layout: Layout,
    keep: Collection[str],
    *,
    dry_run: bool,
    extra_blobs: Collection[str],
    grace_s: float,
) -> GcReport:
    """See `Registry.gc`."""
    for digest in (*keep, *extra_blobs):
        if not oci.DIGEST.fullmatch(digest):
            # A shortened digest would match nothing, and what it stands for would be removed.
            raise InvalidInput(f"{digest!r} is not a whole digest; nothing was removed")
    with storing(layout.root, 0), layout.collecting(), layout.index_lock():
        return _Collection(layout, frozenset(keep), frozenset(extra_blobs), grace_s).run(dry_run)


class _Collection:
    def __init__(
        self, layout: Layout, keep: frozenset[str], extra: frozenset[str], grace_s: float
    ) -> None:
        self._layout = layout
        self._keep = keep
        self._extra = extra
        self._young_from = time.time() - grace_s
        self._sizes = layout.blob_sizes()

    def run(self, dry_run: bool) -> GcReport:
        index = self._layout.index()
        self._keep |= self._young_releases(index)
        kept: list[dict[str, Any]] = []
        dropped: list[dict[str, Any]] = []
        for entry in index.manifests:
            (kept if self._is_kept(entry) else dropped).append(entry)
        live = set(self._extra) | self._reached(kept, strict=True)
        freed = self._reached(dropped, strict=False) - live
        young = {d for d in self._sizes if d not in live | freed and self._is_young(d)}
        gone = self._sizes.keys() - live - young
        leftovers = self._leftovers(kept)
        report = GcReport(
            releases=tuple(sorted({tag.digest for e in dropped if (tag := oci.tag_of(e))})),
            blobs=tuple(sorted(gone)),
            leftovers=tuple(sorted(path.name for path in leftovers)),
            bytes_freed=sum(self._sizes[d] for d in gone) + sum(map(_bytes_in, leftovers)),
        )
        if not dry_run:
            self._remove(index, kept, gone, leftovers)
        return report

    def _young_releases(self, index: oci.Index) -> frozenset[str]:
        """Releases that someone may be about to ship: whoever asks has not seen these in use.

        Shipping lists a release anew, so that an old one that is shipped again is young too.
        """
        tags = [tag for entry in index.manifests if (tag := oci.tag_of(entry))]
        return frozenset(tag.digest for tag in tags if tag.created_at >= self._young_from)

    def _is_kept(self, entry: dict[str, Any]) -> bool:
        tag = oci.tag_of(entry)
        if tag is not None:
            return tag.digest in self._keep
        if oci.is_kept_blob(entry):
            digest = str(entry.get("digest"))
            return digest in self._extra or self._is_young(digest)
        return True

    def _is_young(self, digest: str) -> bool:
        """Whether someone may be about to name this blob: see `Registry.put_blob`."""
        try:
            return self._layout.path_of(digest).stat().st_mtime >= self._young_from
        except (FileNotFoundError, InvalidInput):
            return False

    def _reached(self, entries: Iterable[dict[str, Any]], *, strict: bool) -> set[str]:
        """All that these entries need; with `strict`, what cannot be read raises."""
        todo = [(str(e.get("digest")), str(e.get("mediaType")), 0) for e in entries]
        reached: set[str] = set()
        while todo:
            digest, kind, depth = todo.pop()
            if digest in reached:
                continue
            reached.add(digest)
            if kind not in _WALKED or depth >= _DEPTH_MAX:
                continue
            try:
                content = self._layout.read(digest)
            except (Damaged, NotFound, InvalidInput) as error:
                if strict:
                    raise Damaged(
                        f"{digest} is kept but cannot be read, so nothing was removed",
                        hint=error.message,
                    ) from None
                continue
            todo += [(d, k, depth + 1) for d, k in oci.referenced(content)]
        return reached

    def _leftovers(self, kept: Iterable[dict[str, Any]]) -> list[Path]:
        """Staging folders, whose builds have all ended, and links for engines no longer kept."""
        engines = set()
        for entry in kept:
            if oci.tag_of(entry) is not None:
                digest = entry["digest"]
                manifest = oci.decode_manifest(self._layout.read(digest), digest)
                config = self._layout.read(manifest.config.digest)
                release = oci.decode_release(config, manifest, digest)
                engines.add(release.engine_digest.removeprefix("sha256:"))
        unpacked = [p for p in self._layout.unpacked.iterdir() if p.name not in engines]
        return [*self._layout.staging.iterdir(), *unpacked]

    def _remove(
        self,
        index: oci.Index,
        kept: list[dict[str, Any]],
        gone: Collection[str],
        leftovers: list[Path],
    ) -> None:
        for path in leftovers:
            shutil.rmtree(path)
        if len(kept) != len(index.manifests):
            with self._layout.new_staging() as folder:
                changed = oci.Index(
                    manifests=oci.with_ref_names(kept), annotations=index.annotations
                )
                self._layout.publish_index(self._layout.stage_index(folder, changed))
        for digest in gone:
            self._layout.path_of(digest).unlink(missing_ok=True)
            self._layout.forget(digest)
        fsync_folder(self._layout.blobs)


def _bytes_in(path: Path) -> int:
    with os.scandir(path) as found:
        return sum(i.stat(follow_symlinks=False).st_size for i in found if not i.is_symlink())
