"""GGUF: a bounded check of the header, after the GGUF specification versions 2 and 3.

Layout: magic, version, number of tensors, number of metadata entries; the entries (key, type,
value); the tensors' names, shapes, types and offsets; padding to the alignment; the data. What
llama.cpp would refuse is refused here with a reason, and so is what it would take without need:
data behind the last tensor, odd names, counts that no model has. An array of arrays is refused,
as llama.cpp does. The cost is bounded by the limits below, not by what the file claims.
"""

from __future__ import annotations

import re
import struct
from collections import Counter

from fairlead.domain.errors import ModelFileRefused
from fairlead.registry.model_files.facts import ModelFacts, commonest
from fairlead.registry.model_files.ggml_types import ELEMENT_TYPES
from fairlead.registry.model_files.reading import HeaderReader

MAGIC = b"GGUF"
HEADER_MAX = 100_000_000
"""Bytes. The largest vocabularies of today take about 15 MB."""
TENSORS_MAX = 100_000
"""Models of today have a few thousand; reading so many takes a fraction of a second."""
ENTRIES_MAX = 10_000
STRINGS_MAX = 2_000_000
"""Strings in all arrays together; the largest vocabularies with merges have 0.8 million."""
KEY_BYTES_MAX = 256
NAME_BYTES_MAX = 63
DIMENSIONS_MAX = 4
ALIGNMENT_MAX = 1 << 16
ELEMENTS_MAX = 1 << 60
SHOWN_MAX = 256

_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_COUNTS, _SHAPES = struct.Struct("<QQ"), {n: struct.Struct(f"<{n}QIQ") for n in range(1, 5)}
_ARRAY_HEAD = struct.Struct("<IQ")
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"), 1: struct.Struct("<b"), 2: struct.Struct("<H"), 3: struct.Struct("<h"),
    4: struct.Struct("<I"), 5: struct.Struct("<i"), 6: struct.Struct("<f"), 7: struct.Struct("<B"),
    10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d"),
}  # fmt: skip


def check_gguf(fd: int, size: int, label: str) -> ModelFacts:
    """Check the file of `size` bytes behind `fd`; `label` names it in messages.

    Raises:
        ModelFileRefused: Whatever is wrong with the file; says what and where.
    """
    return _Gguf(HeaderReader(fd, size=size, limit=HEADER_MAX, label=label), size, label).check()


class _Gguf:
    def __init__(self, header: HeaderReader, size: int, label: str) -> None:
        self._header = header
        self._size = size
        self._label = label
        self._strings = 0
        self._scalars: dict[str, int | float | str] = {}
        self._parameters: Counter[str] = Counter()

    def check(self) -> ModelFacts:
        tensors, entries = self._counts()
        self._entries(entries)
        alignment = self._alignment()
        end = self._tensors(tensors, alignment)
        self._data(end, alignment)
        return self._facts(tensors)

    def _refuse(self, what: str, hint: str | None = None) -> ModelFileRefused:
        return ModelFileRefused(f"{self._label}: {what}", hint=hint)

    def _counts(self) -> tuple[int, int]:
        if self._header.take(4) != MAGIC:
            raise self._refuse("is not a GGUF file")
        (version,) = self._header.unpack(_U32)
        if version not in (2, 3):
            if version & 0xFFFF == 0:
                raise self._refuse("is a big-endian GGUF file", "convert it to little-endian")
            raise self._refuse(f"has GGUF version {version}; 2 and 3 are supported")
        tensors, entries = self._header.unpack(_COUNTS)
        for what, count, most, least_bytes in (
            ("tensors", tensors, TENSORS_MAX, 33),
            ("metadata entries", entries, ENTRIES_MAX, 14),
        ):
            if count > most:
                raise self._refuse(f"claims {count:,} {what}; at most {most:,} are accepted")
            if count * least_bytes > self._header.remaining:
                raise self._refuse(f"claims {count:,} {what}, more than fit into the file")
        return tensors, entries

    def _entries(self, count: int) -> None:
        seen: set[bytes] = set()
        for _ in range(count):
            key = self._name("metadata key", KEY_BYTES_MAX)
            if key in seen:
                raise self._refuse(f"has the metadata key {_shown(key)} twice")
            seen.add(key)
            (kind,) = self._header.unpack(_U32)
            if kind == _ARRAY:
                self._skip_array(key)
            elif kind == _STRING:
                self._scalars[key.decode()] = self._string(key)
            elif kind in _SCALARS:
                self._scalars[key.decode()] = self._header.unpack(_SCALARS[kind])[0]
            else:
                raise self._refuse(f"metadata {_shown(key)} has the unknown type {kind}")

    def _name(self, what: str, most: int) -> bytes:
        (length,) = self._header.unpack(_U64)
        if length > most:
            raise self._refuse(f"has a {what} of {length:,} bytes; at most {most} are accepted")
        name = self._header.take(length)
        if not _NAME.fullmatch(name):
            raise self._refuse(f"has the {what} {_shown(name)}; letters, digits and ._- may be in")
        return name

    def _string(self, key: bytes) -> str:
        (length,) = self._header.unpack(_U64)
        if length > self._header.remaining:
            raise self._refuse(
                f"metadata {_shown(key)} claims {length:,} bytes, more than the file has left"
            )
        head = self._header.take(min(length, SHOWN_MAX))
        self._header.skip(length - len(head))
        return head.decode("utf-8", "replace")

    def _skip_array(self, key: bytes) -> None:
        kind, count = self._header.unpack(_ARRAY_HEAD)
        if kind == _ARRAY:
            raise self._refuse(f"metadata {_shown(key)} is an array of arrays")
        if kind != _STRING and kind not in _SCALARS:
            raise self._refuse(f"metadata {_shown(key)} is an array of the unknown type {kind}")
        least_bytes = 8 if kind == _STRING else _SCALARS[kind].size
        if count * least_bytes > self._header.remaining:
            raise self._refuse(
                f"metadata {_shown(key)} claims {count:,} items, more than fit into the file"
            )
        if kind != _STRING:
            self._header.skip(count * least_bytes)
            return
        self._strings += count
        if self._strings > STRINGS_MAX:
            raise self._refuse(f"has more than {STRINGS_MAX:,} strings in its metadata")
        self._header.skip_strings(count)

    def _alignment(self) -> int:
        alignment = self._scalars.get("general.alignment", 32)
        if (
            not isinstance(alignment, int)
            or not 8 <= alignment <= ALIGNMENT_MAX
            or alignment & (alignment - 1)
        ):
            raise self._refuse(
                f"has the alignment {alignment!r}; a power of two from 8 to {ALIGNMENT_MAX:,} it is"
            )
        return alignment

    def _tensors(self, count: int, alignment: int) -> int:
        """Return where the last tensor ends within the data section."""
        seen: set[bytes] = set()
        offset = end = 0
        header, parameters = self._header, self._parameters
        for _ in range(count):
            name = self._name("tensor name", NAME_BYTES_MAX)
            if name in seen:
                raise self._refuse(f"has the tensor {_shown(name)} twice")
            seen.add(name)
            (dimensions,) = header.unpack(_U32)
            if not 1 <= dimensions <= DIMENSIONS_MAX:
                raise self._refuse(f"tensor {_shown(name)} has {dimensions:,} dimensions")
            *shape, kind, stated = header.unpack(_SHAPES[dimensions])
            element = ELEMENT_TYPES.get(kind)
            if element is None:
                raise self._refuse(f"tensor {_shown(name)} has the unknown type {kind}")
            elements = 1
            for length in shape:
                elements *= length
            if not 0 < elements <= ELEMENTS_MAX or shape[0] % element.block:
                raise self._refuse(f"tensor {_shown(name)} of {element.name} has shape {shape}")
            if stated != offset:
                raise self._refuse(
                    f"tensor {_shown(name)} is said to be at offset {stated:,}; "
                    f"behind the tensor before it is {offset:,}"
                )
            end = offset + elements // element.block * element.bytes
            offset = end + -end % alignment
            parameters[element.name] += elements
        return end

    def _data(self, end: int, alignment: int) -> None:
        start = self._header.offset + -self._header.offset % alignment
        if start + end > self._size and end > 0:
            raise self._refuse(
                f"truncated: {start + end - self._size:,} bytes are missing "
                f"(has {self._size:,} of {start + end:,})",
                "download or copy the file again",
            )
        # Some writers pad the last tensor and some do not.
        most = start + end + -end % alignment
        if self._size > most:
            raise self._refuse(f"has {self._size - most:,} bytes behind its last tensor")

    def _facts(self, tensors: int) -> ModelFacts:
        architecture = self._scalars.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise self._refuse("does not say its architecture (general.architecture)")
        parts = self._scalars.get("split.count", 1)
        parts = parts if isinstance(parts, int) and parts > 1 else 1
        if tensors == 0 and parts == 1:
            raise self._refuse("holds no tensors")
        context = self._scalars.get(f"{architecture}.context_length")
        name = self._scalars.get("general.name", "")
        return ModelFacts(
            format="gguf",
            tensors=tensors,
            parameters=self._parameters.total(),
            quantisation=commonest(self._parameters),
            architecture=architecture,
            name=name if isinstance(name, str) else "",
            context_length=context if isinstance(context, int) else None,
            parts=parts,
        )


def _shown(name: bytes) -> str:
    """A name from a file that is not trusted, safe to print."""
    text = ascii(name[:80].decode("utf-8", "replace"))
    return text if len(name) <= 80 else text + "…"
