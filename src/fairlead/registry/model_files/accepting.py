"""Which files may be part of a release, and the check that each kind goes through."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Literal

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import ModelFileRefused
from fairlead.registry.model_files.facts import ModelFacts
from fairlead.registry.model_files.gguf import check_gguf
from fairlead.registry.model_files.pickles import HEAD_BYTES, pickle_by_name, unsafe_content
from fairlead.registry.model_files.safetensors import check_safetensors

ModelFormat = Literal["gguf", "safetensors"]
COMPANION_BYTES_MAX = 128 * 1024 * 1024
"""Tokenizers and configurations; the largest tokenizer.json of today has 34 MB."""
COMPANION_EXTENSIONS = frozenset({".json", ".txt", ".jinja", ".model"})
"""What lies beside safetensors: configuration, vocabulary, chat template, sentencepiece."""

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_+-]|\.(?!\.)){0,199}")
_CHECKS: dict[str, Callable[[int, int, str], ModelFacts]] = {
    ".gguf": check_gguf,
    ".safetensors": check_safetensors,
}
_PICKLE_HINT = "use the model's GGUF or safetensors files"


def format_of(name: str) -> ModelFormat | None:
    """The weight format by a file's name; None for any other file."""
    match PurePath(name).suffix:
        case ".gguf":
            return "gguf"
        case ".safetensors":
            return "safetensors"
    return None


def check_name(name: str) -> None:
    """Refuse a file by its name alone, before it is read or downloaded.

    Raises:
        ModelFileRefused: A pickle-based format, an unknown kind, or a name that could be a path.
    """
    if pickle_by_name(name):
        raise ModelFileRefused(
            f"{name}: files of this kind hold pickles, which can run code when loaded",
            hint=_PICKLE_HINT,
        )
    if not _NAME.fullmatch(name):
        raise ModelFileRefused(
            f"{name[:80]!a} cannot be a file name in a release",
            hint="letters, digits and ._+- may be in it, at most 200",
        )
    suffix = PurePath(name).suffix
    if suffix not in _CHECKS and suffix not in COMPANION_EXTENSIONS:
        raise ModelFileRefused(f"{name}: is neither GGUF nor safetensors", hint=_PICKLE_HINT)


def accept_file(fd: int, *, name: str, label: str) -> ModelFacts | None:
    """Check an open file as what its name says it is; None for one that holds no weights.

    Raises:
        ModelFileRefused: What is wrong, with `label` as the file's name.
    """
    check_name(name)
    size = os.fstat(fd).st_size
    head = os.pread(fd, HEAD_BYTES, 0)
    unsafe = unsafe_content(head)
    suffix = PurePath(name).suffix
    # The length field of a safetensors file may look like any magic; its own check is stricter.
    if unsafe is not None and not (suffix == ".safetensors" and head[8:9] == b"{"):
        raise ModelFileRefused(f"{label}: is {unsafe}", hint=_PICKLE_HINT)
    if suffix in _CHECKS:
        return _CHECKS[suffix](fd, size, label)
    if size > COMPANION_BYTES_MAX:
        raise ModelFileRefused(f"{label}: has {size:,} bytes, more than {COMPANION_BYTES_MAX:,}")
    if suffix == ".json":
        _check_json(fd, size, label)
    return None


def _check_json(fd: int, size: int, label: str) -> None:
    data = os.pread(fd, size, 0)
    try:
        decode_json(data, dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise ModelFileRefused(f"{label}: is not a JSON object: {error}") from None
