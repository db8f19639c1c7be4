"""A reference as bytes and back: one archive of arrays, checked when it is read.

Arrays whose numbers float16 holds without loss are stored as such.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.clustering import Matrix
from fairlead.stats.drift.dependence import Dependence
from fairlead.stats.drift.reference import Reference

FORMAT = 2
_MATRICES = ("centroids", "cells", "mean", "directions", "deviations", "scores", "centre")
_NUMBERS = ("format", "rest", "novelty_phi", "novelty_length", "mix_phi", "mix_length")


def to_bytes(reference: Reference) -> bytes:
    """Everything that `from_bytes` needs; the same bytes for the same reference."""
    out = io.BytesIO()
    numbers = (
        FORMAT, reference.rest, *reference.novelty, *reference.mix,
    )  # fmt: skip
    matrices: dict[str, Any] = {name: _short(getattr(reference, name)) for name in _MATRICES}
    np.savez(
        out,
        cell_counts=reference.cell_counts,
        numbers=np.array(numbers, np.float64),
        **matrices,
    )
    return out.getvalue()


def from_bytes(data: bytes) -> Reference:
    """The reference of these bytes. Raises ValueError if they are damaged or of another format."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in (*_MATRICES, "cell_counts", "numbers")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"stored reference: cannot be read: {error}") from error
    for name in _MATRICES:
        if arrays[name].dtype == np.float16:
            arrays[name] = arrays[name].astype(np.float32)
    numbers = arrays.pop("numbers")
    if numbers.shape != (len(_NUMBERS),) or not np.isfinite(numbers).all() or numbers[0] != FORMAT:
        raise ValueError(f"stored reference: not of format {FORMAT}; fit it again")
    _check(arrays)
    _, rest, *dependences = numbers.tolist()
    novelty, mix = dependences[:2], dependences[2:]
    if rest <= 0 or min(novelty[0], mix[0]) < 1 or min(novelty[1], mix[1]) < 0:
        raise ValueError("stored reference: numbers out of range; fit it again")
    return Reference(
        **arrays,
        rest=rest,
        novelty=Dependence(novelty[0], int(novelty[1])),
        mix=Dependence(mix[0], int(mix[1])),
    )


def _short(values: Matrix) -> NDArray[np.float16] | Matrix:
    with np.errstate(over="ignore"):
        short = values.astype(np.float16)
    return short if (short == values).all() else values


def _check(arrays: dict[str, Any]) -> None:
    dimension = arrays["mean"].size
    directions, witnesses = arrays["deviations"].size, arrays["centre"].size
    cells = arrays["cell_counts"].size
    wanted = {
        "centroids": (len(arrays["centroids"]), dimension),
        "cells": (cells, dimension),
        "mean": (dimension,),
        "directions": (directions, dimension),
        "deviations": (directions,),
        "scores": (2, arrays["scores"].shape[-1]),
        "centre": (witnesses,),
        "cell_counts": (cells,),
    }
    for name, shape in wanted.items():
        kind = np.int64 if name == "cell_counts" else np.float32
        if arrays[name].shape != shape or 0 in shape or arrays[name].dtype != kind:
            raise ValueError(f"stored reference: `{name}` has shape {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"stored reference: `{name}` has numbers that are not finite")
    if witnesses > directions or arrays["deviations"].min() <= 0:
        raise ValueError("stored reference: its main directions do not go together")
    if arrays["cell_counts"].min() < 0 or (np.diff(arrays["scores"]) < 0).any():
        raise ValueError("stored reference: counts below 0, or scores out of order")
