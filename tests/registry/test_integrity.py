"""What does not match its digest is refused, named and repaired, and never served."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.domain.errors import Damaged, FairleadError, InvalidInput, NotFound
from fairlead.registry import BuildInput, Problem, Registry
from fairlead.registry.layout import Layout
from registry.model_writer import safetensors, write

Given = Callable[..., BuildInput]


def damage(path: Path) -> None:
    """Change one bit in the middle, and nothing that a listing shows but the times."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def blob(root: Path, digest: str) -> Path:
    return root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_damaged_weights_are_not_served_and_building_again_repairs_them(
    registry: Registry, given: Given, root: Path
) -> None:
    entry = registry.build(given(), now=1.0)
    (path,) = registry.weights(entry.digest)
    damage(path)
    with pytest.raises(Damaged, match="does not match its digest; it is not used"):
        registry.weights(entry.digest)
    with pytest.raises(Damaged):
        Registry(root).weights(entry.digest)
    assert registry.build(given(), now=2.0).digest == entry.digest
    assert registry.weights(entry.digest) == [path]
    assert registry.verify() == []


def test_weights_of_several_files_are_not_served_when_one_is_damaged(
    registry: Registry, given: Given, tmp_path: Path
) -> None:
    write(tmp_path / "m" / "model.safetensors", safetensors())
    config = write(tmp_path / "m" / "config.json", b'{"a":1}')
    entry = registry.build(given(model=config.parent), now=1.0)
    damage(registry.weights(entry.digest)[1].resolve())
    with pytest.raises(Damaged):
        registry.weights(entry.digest)


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_damaged_description_is_refused(
    which: str, registry: Registry, given: Given, root: Path
) -> None:
    entry = registry.build(given(), now=1.0)
    manifest = json.loads(registry.read_blob(entry.digest))
    digest = entry.digest if which == "manifest" else manifest["config"]["digest"]
    damage(blob(root, digest))
    for read in (registry.get, registry.weights, registry.describe):
        with pytest.raises(Damaged):
            read(entry.digest)
    with pytest.raises(Damaged):
        registry.list()
    assert [tag.digest for tag in registry.tags()] == [entry.digest]
    (problem,) = registry.verify()
    assert (problem.where, problem.what) == (digest, "does not match its digest")
    assert problem.releases == (entry.digest,)
    assert entry.digest[7:19] in str(problem)


def test_a_manifest_that_contradicts_its_configuration_is_refused(
    registry: Registry, given: Given, root: Path
) -> None:
    """Sound digests do not help when a manifest names other weights than the release."""
    entry = registry.build(given(), now=1.0)
    manifest = json.loads(registry.read_blob(entry.digest))
    manifest["layers"][0]["digest"] = manifest["config"]["digest"]
    forged = registry.put_blob(json.dumps(manifest).encode(), "text/plain")
    index = json.loads((root / "index.json").read_bytes())
    listed = index["manifests"][0]
    listed["digest"], listed["size"] = forged, len(registry.read_blob(forged))
    (root / "index.json").write_bytes(json.dumps(index).encode())
    with pytest.raises(Damaged, match="described differently"):
        registry.get(forged)
    assert any("described differently" in str(problem) for problem in registry.verify())


def test_a_blob_is_compared_with_its_digest_on_every_read(registry: Registry, root: Path) -> None:
    digest = registry.put_blob(b"question,intent\n", "text/csv")
    assert registry.read_blob(digest) == b"question,intent\n"
    damage(blob(root, digest))
    with pytest.raises(Damaged):
        registry.read_blob(digest)
    assert registry.put_blob(b"question,intent\n", "text/csv") == digest
    assert registry.read_blob(digest) == b"question,intent\n"


def test_a_verified_file_is_read_again_only_when_it_was_touched(
    registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.put_blob(bytes(3_000_000), "application/octet-stream")
    layout = Layout(root)
    reads = 0
    pread = os.pread

    def counted(fd: int, count: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    time.sleep(0.06)  # Within a tick of the clock a file counts as being written to.
    layout.path_verified(digest)
    first = reads
    assert first > 0
    for _ in range(100):
        layout.path_verified(digest)
    assert reads == first
    os.utime(blob(root, digest))
    layout.path_verified(digest)
    assert reads > first


def test_a_blob_that_is_renewed_while_it_is_read_is_not_taken_for_damaged(
    registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.put_blob(bytes(3_000_000), "application/octet-stream")
    path = blob(root, digest)
    pread = os.pread
    renewals = 2

    def renewed(fd: int, count: int, offset: int) -> bytes:
        nonlocal renewals
        if renewals and offset > 2_000_000:
            renewals -= 1
            write(path.with_name("new"), bytes(3_000_000)).replace(path)
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", renewed)
    assert registry.path_verified(digest) == path
    assert renewals == 0


def test_a_change_that_keeps_size_and_mtime_is_seen(registry: Registry, root: Path) -> None:
    digest = registry.put_blob(b"x" * 100, "text/plain")
    time.sleep(0.06)
    path = registry.path_verified(digest)
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Damaged):
        registry.path_verified(digest)


def test_what_is_not_there_or_no_digest_is_said_to_be_so(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.read_blob("sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        registry.get("sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        registry.verify("sha256:" + "0" * 64)
    for wrong in ("../../etc/passwd", "sha256:abc", "sha512:" + "0" * 64, "sha256:" + "A" * 64):
        with pytest.raises(InvalidInput, match="is not a digest"):
            registry.read_blob(wrong)


def test_verify_finds_every_kind_of_damage(registry: Registry, given: Given, root: Path) -> None:
    entry = registry.build(given(), now=1.0)
    weights = registry.weights(entry.digest)[0]
    orphan = registry.put_blob(b"orphan", "text/plain")
    assert registry.verify() == []
    damage(blob(root, orphan))
    weights.unlink()
    write(root / "blobs" / "sha256" / "stranger", b"x")
    write(root / "oci-layout", b"{}")
    found = {problem.where: problem for problem in registry.verify()}
    assert set(found) == {
        orphan,
        f"sha256:{weights.name}",
        "blobs/sha256/stranger",
        "oci-layout",
    }
    assert found[f"sha256:{weights.name}"].what == "is missing"
    assert found[f"sha256:{weights.name}"].releases == (entry.digest,)
    assert registry.verify(entry.digest) == [
        Problem(f"sha256:{weights.name}", "is missing", (entry.digest,))
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'{"manifests":1}', b'{"schemaVersion":1,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[{"digest":"\xff"}]}', b'{"manifests":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_index_is_refused_and_not_overwritten(
    content: bytes, registry: Registry, given: Given, root: Path
) -> None:
    registry.build(given(), now=1.0)
    (root / "index.json").write_bytes(content)
    attempts: list[Callable[[], object]] = [
        registry.list,
        lambda: registry.build(given(), now=2.0),
        lambda: registry.gc([]),
    ]
    for attempt in attempts:
        with pytest.raises(Damaged, match=r"index\.json"):
            attempt()
    assert (root / "index.json").read_bytes() == content
    assert any(problem.where == "index.json" for problem in registry.verify())


def test_a_lost_index_is_not_taken_for_an_empty_registry(
    registry: Registry, given: Given, root: Path
) -> None:
    """A collection on a fresh index would remove every blob."""
    registry.build(given(), now=1.0)
    (root / "index.json").unlink()
    with pytest.raises(FairleadError, match=r"index\.json"):
        Registry(root).list()
    (root / "oci-layout").unlink()
    with pytest.raises(Damaged, match=r"has blobs but no index\.json"):
        Registry(root)


@pytest.mark.parametrize("content", [b'{"artifactType":"\xff"}', b'{"layers":' + b"[" * 100_000])
def test_a_manifest_that_is_not_text_or_too_deep_is_damaged(
    content: bytes, registry: Registry, given: Given, root: Path
) -> None:
    """Its digest may be right: whoever wrote it wrote this."""
    registry.build(given(), now=1.0)
    forged = registry.put_blob(content, "text/plain")
    index = json.loads((root / "index.json").read_bytes())
    index["manifests"][0]["digest"], index["manifests"][0]["size"] = forged, len(content)
    (root / "index.json").write_bytes(json.dumps(index).encode())
    with pytest.raises(Damaged, match="is not the manifest of a release"):
        registry.get(forged)
    assert [problem.where for problem in registry.verify(forged)] == []
    with pytest.raises(Damaged):
        registry.gc([forged])
