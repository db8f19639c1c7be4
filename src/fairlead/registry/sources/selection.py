"""Which files of a folder or repository make up a model.

Safetensors with the configuration and tokenizer beside them, or one GGUF (with all its parts, when
it is split). The weights come first, in order: an engine is pointed at the first file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePath

from fairlead.domain.errors import InvalidInput, ModelFileRefused
from fairlead.registry.model_files import check_name, format_of
from fairlead.registry.model_files.pickles import pickle_by_name

FILES_MAX = 1000
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<of>\d{5})(?P<suffix>\.gguf|\.safetensors)")
_VOCABULARIES = frozenset({"vocab.txt", "merges.txt"})


def choose(names: Collection[str], *, place: str) -> list[str]:
    """The files to take from all those in `place`.

    Raises:
        ModelFileRefused: There is none that may be taken.
        InvalidInput: There are several models; one has to be named.
    """
    weights = sorted(name for name in names if format_of(name) is not None)
    if not weights:
        raise _nothing(names, place)
    formats = {format_of(name) for name in weights}
    models = _models(weights)
    if formats == {"safetensors"}:
        chosen = _safetensors(models)
        companions = sorted(name for name in names if _is_companion(name))
    elif formats == {"gguf"} and len(models) == 1:
        chosen, companions = weights, []
    else:
        shown = ", ".join(sorted(models)[:8])
        raise InvalidInput(f"{place} holds several models: {shown}", hint="name one of the files")
    return _complete(chosen, names, place) + companions


def choose_named(name: str, names: Collection[str], *, place: str) -> list[str]:
    """The named file, and the other parts when it is one of several."""
    check_name(name)
    if format_of(name) is None:
        raise ModelFileRefused(f"{place}: {name} holds no weights", hint="name a GGUF file")
    return _complete([name], names, place)


def _models(weights: Collection[str]) -> dict[str, list[str]]:
    """Files by the model they are a part of."""
    models: dict[str, list[str]] = {}
    for name in weights:
        match = _PART.fullmatch(name)
        key = f"{match['stem']}{match['suffix']}" if match else name
        models.setdefault(key, []).append(name)
    return models


def _safetensors(models: dict[str, list[str]]) -> list[str]:
    """All weights, without the second copy that some repositories hold as `consolidated`."""
    kept = {key: names for key, names in models.items() if not key.startswith("consolidated")}
    return sorted(name for names in (kept or models).values() for name in names)


def _is_companion(name: str) -> bool:
    suffix = PurePath(name).suffix
    if suffix == ".txt":
        return name in _VOCABULARIES
    if suffix == ".json":
        # An index of pickles describes files that are not taken.
        return not name.endswith(".bin.index.json")
    return suffix in (".jinja", ".model")


def _complete(chosen: list[str], names: Collection[str], place: str) -> list[str]:
    """Put in the parts that belong to a chosen part; refuse when one is missing."""
    wanted: dict[str, None] = {}
    for name in chosen:
        match = _PART.fullmatch(name)
        if match is None:
            wanted[name] = None
            continue
        total = int(match["of"])
        if not 1 <= int(match["part"]) <= total <= FILES_MAX:
            raise ModelFileRefused(f"{place}: {name} is not a part of a model")
        for part in range(1, total + 1):
            sibling = f"{match['stem']}-{part:05d}-of-{match['of']}{match['suffix']}"
            if sibling not in names:
                raise ModelFileRefused(f"{place}: {sibling} is missing beside {name}")
            wanted[sibling] = None
    if len(wanted) > FILES_MAX:
        raise ModelFileRefused(f"{place}: more than {FILES_MAX} files")
    return sorted(wanted)


def _nothing(names: Collection[str], place: str) -> ModelFileRefused:
    pickles = sorted(name for name in names if pickle_by_name(name))
    if pickles:
        return ModelFileRefused(
            f"{place}: {pickles[0]} and the like hold pickles, which can run code when loaded",
            hint="use the model's GGUF or safetensors files",
        )
    return ModelFileRefused(f"{place}: holds no GGUF or safetensors file")
