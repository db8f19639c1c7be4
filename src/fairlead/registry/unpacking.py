"""Model files under their own names, for engines that load a folder or a split model.

The folder holds symbolic links into the blobs, so it costs nothing and a changed blob is changed
there too, which the check before each use finds.
"""

from __future__ import annotations

import os
from pathlib import Path

from fairlead.domain.release import Release, WeightsModel
from fairlead.registry.disk import storing
from fairlead.registry.layout import Layout


def model_paths(layout: Layout, release: Release) -> list[Path]:
    """Paths of a release's files, each verified; none for a remote model.

    A single file is handed out as its blob: llama.cpp does not look at the name.

    Raises:
        Damaged: A file does not match its digest.
        NotFound: A file is missing.
    """
    if not isinstance(release.model, WeightsModel):
        return []
    with layout.building():
        blobs = [layout.path_verified(file.digest) for file in release.model.files]
        if len(blobs) == 1:
            return blobs
        links = {f.name: b for f, b in zip(release.model.files, blobs, strict=True)}
        folder = layout.unpacked / release.engine_digest.removeprefix("sha256:")
        with storing(layout.root, 0):
            _link(layout, folder, links)
    return [folder / name for name in links]


def _link(layout: Layout, folder: Path, links: dict[str, Path]) -> None:
    """Make the folder hold exactly these links; each link is put in place in one step."""
    folder.mkdir(exist_ok=True)
    for name, blob in links.items():
        target = os.path.relpath(blob, folder)
        path = folder / name
        if path.is_symlink() and os.readlink(path) == target:
            continue
        with layout.new_staging() as staging:
            made = staging / "link"
            made.symlink_to(target)
            made.replace(path)
    for left in folder.iterdir():
        if left.name not in links:
            left.unlink()
