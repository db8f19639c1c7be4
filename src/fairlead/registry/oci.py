"""The documents of an OCI image layout, after the OCI image specification 1.1.

A release is an image manifest of its own artifact type: the configuration is the release's
canonical JSON, the layers are its files. The manifest holds nothing that differs from machine to
machine, so its digest is the same everywhere; name, service, time and source are annotations of
the descriptor in the index.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Damaged
from fairlead.domain.release import Blob, Release, WeightsModel, sha256_digest
from fairlead.registry.entries import Tag

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.fairlead.release.v1+json"
CONFIG_TYPE = "application/vnd.fairlead.release.config.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
FILE_TYPES = {
    ".gguf": "application/vnd.fairlead.model.gguf.v1",
    ".safetensors": "application/vnd.fairlead.model.safetensors.v1",
}
COMPANION_TYPE = "application/vnd.fairlead.model.companion.v1"

TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
SOURCE = "vnd.fairlead.release.source"
NAME = "vnd.fairlead.release.name"
SERVICE = "vnd.fairlead.release.service"
KEPT = "vnd.fairlead.kept"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REF = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@/+]|--)[A-Za-z0-9]+)*")


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where content is and what it is. Further fields of the specification are not used here."""

    media_type: str
    digest: str
    size: int
    artifact_type: str | None = None
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An image manifest."""

    schema_version: int
    media_type: str
    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """The content of `index.json`: what is listed, under which names.

    Entries of other kinds than releases are kept as they are, so they stay undecoded here.
    """

    manifests: tuple[dict[str, Any], ...]
    schema_version: int = 2
    media_type: str = INDEX_TYPE
    annotations: dict[str, str] = {}


def encode(document: msgspec.Struct) -> bytes:
    """The one JSON encoding of a document: keys sorted, no white space."""
    return msgspec.json.encode(document, order="sorted")


def manifest_of(release: Release) -> Manifest:
    """The manifest of a release; equal releases have equal manifests."""
    config = release.canonical()
    files = release.model.files if isinstance(release.model, WeightsModel) else ()
    # The specification wants at least one layer; a release without files has the empty one.
    layers = tuple(_layer(file) for file in files) or (_descriptor(EMPTY_TYPE, EMPTY),)
    return Manifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=ARTIFACT_TYPE,
        config=_descriptor(CONFIG_TYPE, config),
        layers=layers,
    )


def _descriptor(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=sha256_digest(content), size=len(content))


def _layer(file: Blob) -> Descriptor:
    suffix = file.name[file.name.rfind(".") :]
    return Descriptor(
        media_type=FILE_TYPES.get(suffix, COMPANION_TYPE),
        digest=file.digest,
        size=file.size,
        annotations={TITLE: file.name},
    )


def decode_manifest(content: bytes, digest: str) -> Manifest:
    """Decode a release's manifest; raises `Damaged` when it is none."""
    try:
        manifest = decode_json(content, Manifest)
    except msgspec.DecodeError as error:
        raise Damaged(f"{digest} is not the manifest of a release: {error}") from None
    if manifest.artifact_type != ARTIFACT_TYPE or manifest.config.media_type != CONFIG_TYPE:
        raise Damaged(f"{digest} is not the manifest of a release: {manifest.artifact_type}")
    return manifest


def decode_release(content: bytes, manifest: Manifest, digest: str) -> Release:
    """Decode a manifest's configuration; raises `Damaged` when the two contradict each other."""
    try:
        release = decode_json(content, Release)
    except msgspec.DecodeError as error:
        raise Damaged(f"the configuration of release {digest} cannot be read: {error}") from None
    if manifest_of(release) != manifest:
        raise Damaged(f"release {digest} is described differently by its manifest and its content")
    return release


def tag_entry(tag: Tag, size: int) -> dict[str, Any]:
    """The index entry that lists a release under a name; `size` is the manifest's."""
    created = datetime.fromtimestamp(tag.created_at, UTC).isoformat(timespec="microseconds")
    annotations = {NAME: tag.name, SERVICE: tag.service, CREATED: created}
    if tag.source:
        annotations[SOURCE] = tag.source
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": tag.digest,
        "size": size,
        "artifactType": ARTIFACT_TYPE,
        "annotations": annotations,
    }


def tag_of(entry: dict[str, Any]) -> Tag | None:
    """The name under which an index entry lists a release; None for other kinds of entries.

    Raises:
        Damaged: The entry says that it is a release, but not which.
    """
    if entry.get("artifactType") != ARTIFACT_TYPE:
        return None
    try:
        descriptor = msgspec.convert(entry, Descriptor)
        notes = descriptor.annotations
        created = datetime.fromisoformat(notes[CREATED]).timestamp()
        tag = Tag(descriptor.digest, notes[NAME], notes[SERVICE], created, notes.get(SOURCE, ""))
    except (msgspec.ValidationError, KeyError, ValueError) as error:
        raise Damaged(f"index.json lists a release that cannot be read: {error}") from None
    if not DIGEST.fullmatch(tag.digest):
        raise Damaged(f"index.json lists a release under {tag.digest!r}, which is no digest")
    return tag


def kept_entry(digest: str, size: int, media_type: str) -> dict[str, Any]:
    """The index entry that lists a blob which belongs to no release."""
    return {
        "mediaType": media_type,
        "digest": digest,
        "size": size,
        "annotations": {KEPT: "blob"},
    }


def is_kept_blob(entry: dict[str, Any]) -> bool:
    """Whether an index entry is one of `kept_entry`."""
    notes = entry.get("annotations")
    return isinstance(notes, dict) and KEPT in notes


def with_ref_names(entries: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Give the newest release of each name the ref that other tools look it up by.

    A ref points at one thing, so an older release of the same name keeps its name only.
    """
    newest: dict[tuple[str, str], tuple[float, int]] = {}
    for position, entry in enumerate(entries):
        tag = tag_of(entry)
        if tag is not None:
            key = (tag.service, tag.name)
            newest[key] = max(newest.get(key, (0.0, -1)), (tag.created_at, position))
    refs = {position: f"{s}/{n}" for (s, n), (_, position) in newest.items()}
    changed = []
    for position, entry in enumerate(entries):
        if tag_of(entry) is None:
            changed.append(entry)
            continue
        notes = {k: v for k, v in entry["annotations"].items() if k != REF_NAME}
        if position in refs and _REF.fullmatch(refs[position]):
            notes[REF_NAME] = refs[position]
        changed.append({**entry, "annotations": notes})
    return tuple(changed)


def referenced(content: bytes) -> tuple[tuple[str, str], ...]:
    """Digest and media type of all that a manifest or index of any kind points at."""
    try:
        document = decode_json(content, object)
    except msgspec.DecodeError:
        return ()
    if not isinstance(document, dict):
        return ()
    found = [document.get("config"), document.get("subject")]
    for key in ("layers", "manifests", "blobs"):
        items = document.get(key)
        found += items if isinstance(items, list) else []
    pairs = ((i.get("digest"), i.get("mediaType")) for i in found if isinstance(i, dict))
    return tuple(
        (digest, kind if isinstance(kind, str) else "")
        for digest, kind in pairs
        if isinstance(digest, str) and DIGEST.fullmatch(digest)
    )
