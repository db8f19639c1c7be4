"""k-means and main directions of a set of vectors, the same for the same seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
_ROUNDS = 12
_ROWS = 4096


def squared_distances(rows: Matrix, centres: Matrix) -> Matrix:
    """Of each row to each centre: rows x centres, 0 or more."""
    apart: Matrix = (
        (rows * rows).sum(1, keepdims=True)
        - 2.0 * (rows @ centres.T)
        + (centres * centres).sum(1)[None, :]
    )
    np.maximum(apart, 0.0, out=apart)
    return apart


def nearest(rows: Matrix, centres: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """For each row the nearest centre, and the squared distance to it."""
    which = np.empty(len(rows), np.int64)
    apart = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        table = squared_distances(rows[part], centres)
        which[part] = table.argmin(1)
        apart[part] = table.min(1)
    return which, apart


def k_means(rows: Matrix, count: int, draw: np.random.Generator) -> Matrix:
    """`count` centres (fewer if there are fewer different rows), by Lloyd's algorithm.

    Begun as Arthur and Vassilvitskii (2007, *k-means++*) do: each centre is a row, drawn with
    a probability in proportion to its squared distance from those drawn before.
    """
    squares = (rows * rows).sum(1)
    centres = [rows[int(draw.integers(len(rows)))]]
    apart = _apart(rows, squares, centres[0])
    for _ in range(count - 1):
        total = apart.sum()
        if total <= 1e-9:
            break
        at = int(np.searchsorted(np.cumsum(apart), draw.random() * total))
        centres.append(rows[min(at, len(rows) - 1)])
        apart = np.minimum(apart, _apart(rows, squares, centres[-1]))
    made = np.stack(centres)
    for _ in range(_ROUNDS):
        which, _far = nearest(rows, made)
        sizes = np.bincount(which, minlength=len(made))
        members = np.zeros((len(made), len(rows)), np.float32)
        members[which, np.arange(len(rows))] = 1.0
        filled = sizes > 0  # an empty one stays where it is
        made = made.copy()
        made[filled] = (members @ rows)[filled] / sizes[filled, None].astype(np.float32)
    return made


def _apart(rows: Matrix, squares: Matrix, centre: Matrix) -> NDArray[np.float64]:
    """Squared distances of the rows, whose squared lengths are known, to one centre."""
    apart = squares - 2.0 * (rows @ centre) + float(centre @ centre)
    return np.maximum(apart, 0.0).astype(np.float64)


def main_directions(rows: Matrix, count: int) -> tuple[Matrix, Matrix, Matrix]:
    """Mean, the `count` directions of largest variance (count x dimension), and their variances."""
    mean = rows.mean(0, dtype=np.float64)
    centred = rows.astype(np.float64) - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    order = np.argsort(values)[::-1][:count]
    directions = vectors[:, order].T
    # a direction's sign is arbitrary: its largest part is made positive
    signs = np.sign(directions[np.arange(len(order)), np.abs(directions).argmax(1)])
    directions = directions * signs[:, None]
    return (
        mean.astype(np.float32),
        directions.astype(np.float32),
        np.maximum(values[order], 0.0).astype(np.float32),
    )
