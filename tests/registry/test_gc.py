"""A collection removes what nothing needs, and never what something may need."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.domain.errors import Conflict, Damaged, InvalidInput, NotFound
from fairlead.domain.release import Prompt
from fairlead.registry import BuildInput, Registry
from fairlead.registry.layout import Layout
from registry.model_writer import gguf, safetensors, write

Given = Callable[..., BuildInput]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "models" / "other.gguf", gguf(fill=b"\7"))


def blobs(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (root / "blobs" / "sha256").iterdir()}


def test_releases_that_are_not_kept_go_with_all_that_only_they_had(
    registry: Registry, given: Given, root: Path, other: Path
) -> None:
    kept = registry.build(given(), now=1.0)
    only_kept = blobs(root)
    shares_weights = registry.build(given(prompt=Prompt(system="x")), now=2.0)
    goes = registry.build(given(model=other), now=3.0)
    bytes_before = sum(path.stat().st_size for path in (root / "blobs" / "sha256").iterdir())
    report = registry.gc([kept.digest])
    assert set(report.releases) == {shares_weights.digest, goes.digest}
    assert blobs(root) == only_kept
    bytes_after = sum(path.stat().st_size for path in (root / "blobs" / "sha256").iterdir())
    assert report.bytes_freed == bytes_before - bytes_after
    assert registry.list() == [kept]
    assert registry.weights(kept.digest)[0].read_bytes() == gguf()
    assert registry.verify() == []
    with pytest.raises(NotFound):
        registry.get(goes.digest)


def test_a_dry_run_says_the_same_and_changes_nothing(
    registry: Registry, given: Given, other: Path, files_in: Callable[[], dict[str, bytes]]
) -> None:
    kept = registry.build(given(), now=1.0)
    registry.build(given(model=other), now=2.0)
    before = files_in()
    said = registry.gc([kept.digest], dry_run=True)
    assert files_in() == before
    assert registry.gc([kept.digest]) == said
    assert said.bytes_freed > 0
    assert registry.gc([kept.digest]).bytes_freed == 0


def test_a_suite_stays_while_it_is_named_and_for_a_while_after_it_was_put(
    registry: Registry, root: Path
) -> None:
    digest = registry.put_blob(b"suite", "text/csv")
    registry.gc([])
    assert registry.read_blob(digest) == b"suite"
    long_ago = os.stat(root).st_mtime - 10_000
    path = root / "blobs" / "sha256" / digest[7:]
    os.utime(path, (long_ago, long_ago))
    registry.gc([], extra_blobs=[digest])
    assert registry.read_blob(digest) == b"suite"
    assert registry.put_blob(b"suite", "text/csv") == digest
    registry.gc([])
    assert registry.read_blob(digest) == b"suite"
    os.utime(path, (long_ago, long_ago))
    assert registry.gc([]).blobs == (digest,)
    assert json.loads((root / "index.json").read_bytes())["manifests"] == []
    with pytest.raises(NotFound):
        registry.read_blob(digest)


def test_a_blob_of_a_kept_release_stays_whatever_its_age(
    registry: Registry, given: Given, root: Path
) -> None:
    entry = registry.build(given(), now=1.0)
    for path in (root / "blobs" / "sha256").iterdir():
        os.utime(path, (0, 0))
    assert registry.gc([entry.digest], grace_s=-1.0).blobs == ()
    assert registry.verify() == []


def test_entries_of_other_tools_stay_with_all_that_they_reach(
    registry: Registry, root: Path
) -> None:
    layer = registry.put_blob(b"layer", "text/plain")
    manifest = json.dumps({"schemaVersion": 2, "layers": [{"digest": layer, "size": 5}]}).encode()
    inner = registry.put_blob(manifest, "text/plain")
    nested = {
        "digest": inner,
        "size": len(manifest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
    }
    outer = registry.put_blob(json.dumps({"manifests": [nested]}).encode(), "text/plain")
    foreign = {"digest": outer, "size": 1, "mediaType": "application/vnd.oci.image.index.v1+json"}
    index = json.loads((root / "index.json").read_bytes())
    index["manifests"] = [foreign]
    (root / "index.json").write_bytes(json.dumps(index).encode())
    unneeded = registry.put_blob(b"unneeded", "text/plain")
    assert registry.gc([], grace_s=-1.0).blobs == (unneeded,)
    assert blobs(root) == {layer, inner, outer}
    assert json.loads((root / "index.json").read_bytes())["manifests"] == [foreign]


def test_what_broken_builds_left_goes(
    registry: Registry, given: Given, root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "m" / "model.safetensors", safetensors())
    write(tmp_path / "m" / "config.json", b"{}")
    entry = registry.build(given(model=tmp_path / "m"), now=1.0)
    paths = registry.weights(entry.digest)
    write(root / "fairlead" / "staging" / "123-dead" / "blob-0", b"12345")
    report = registry.gc([entry.digest])
    assert (report.leftovers, report.bytes_freed) == (("123-dead",), 5)
    assert list((root / "fairlead" / "staging").iterdir()) == []
    assert all(path.exists() for path in paths)
    registry.gc([])
    assert list((root / "fairlead" / "unpacked").iterdir()) == []


def test_nothing_goes_while_a_build_is_under_way(
    registry: Registry, given: Given, root: Path, files_in: Callable[[], dict[str, bytes]]
) -> None:
    registry.build(given(), now=1.0)
    before = files_in()
    with Layout(root).building(), pytest.raises(Conflict, match="is under way"):
        registry.gc([])
    assert files_in() == before


def test_nothing_goes_when_what_is_kept_cannot_be_read(
    registry: Registry, given: Given, root: Path, other: Path
) -> None:
    kept = registry.build(given(), now=1.0)
    registry.build(given(model=other), now=2.0)
    path = root / "blobs" / "sha256" / kept.digest[7:]
    path.chmod(0o644)
    path.write_bytes(b"{}")
    before = blobs(root)
    with pytest.raises(Damaged, match="nothing was removed"):
        registry.gc([kept.digest])
    assert blobs(root) == before
    assert len(registry.tags()) == 2


def test_a_damaged_release_that_is_not_kept_can_be_removed(
    registry: Registry, given: Given, root: Path, other: Path
) -> None:
    kept = registry.build(given(), now=1.0)
    broken = registry.build(given(model=other), now=2.0)
    path = root / "blobs" / "sha256" / broken.digest[7:]
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert registry.gc([kept.digest], grace_s=-1.0).releases == (broken.digest,)
    assert registry.list() == [kept]
    assert registry.verify() == []


@pytest.mark.parametrize("wrong", ["a", "sha256:2f5d5c", ""])
def test_a_shortened_digest_is_refused_before_anything_goes(
    wrong: str, registry: Registry, given: Given
) -> None:
    registry.build(given(), now=1.0)
    for keep, extra in (([wrong], []), ([], [wrong])):
        with pytest.raises(InvalidInput, match="nothing was removed"):
            registry.gc(keep, extra_blobs=extra)
    assert len(registry.list()) == 1


def test_a_release_that_was_just_built_stays_though_nobody_named_it(
    registry: Registry, given: Given, other: Path
) -> None:
    """Whoever counted what is in use has not seen the release that is about to be shipped."""
    old = registry.build(given(), now=1.0)
    young = registry.build(given(model=other), now=time.time())
    assert registry.gc([]).releases == (old.digest,)
    assert [entry.digest for entry in registry.list()] == [young.digest]
    assert registry.verify() == []
    registry.build(given(), now=1.0)
    registry.build(given(), now=time.time())
    assert registry.gc([]).releases == (), "one that is built again is young again"
    assert registry.gc([], grace_s=-1.0).releases == tuple(sorted([old.digest, young.digest]))
