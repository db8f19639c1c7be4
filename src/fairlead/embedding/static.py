"""A static table: one vector per token, summed and scaled to length 1.

A tokenizer and a sum are all that a text costs, so that all traffic of a service can be watched.
The table is fitted to a larger model's vectors (`fitting`), as model2vec distils sentence
transformers (Tulkens, van Dongen 2024). It is a folder with `tokenizer.json` and `table.npy`; the
table is mapped into memory and shared by all processes that read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import LETTERS_MAX, Matrix, scaled
from fairlead.embedding.kinds import STATIC

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Table = NDArray[np.float16] | NDArray[np.float32]
TABLE, TOKENIZER = "table.npy", "tokenizer.json"
TOKENS_MAX = 512
_TEXTS = 256


class StaticTable:
    """An embedder that sums the vectors of a text's tokens."""

    def __init__(self, table: Table, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the table is not a row of finite numbers per token."""
        size = tokenizer.get_vocab_size()
        if table.ndim != 2 or len(table) < size or not table.shape[1]:
            raise ValueError(
                f"token table of shape {table.shape}: needs a row for each of {size} tokens"
            )
        if not all(np.isfinite(table[at : at + 4096]).all() for at in range(0, len(table), 4096)):
            raise ValueError("token table: has numbers that are not finite")
        self._table = table
        self._tokenizer = tokenizer
        as_used(tokenizer)
        told = hashlib.sha256(tokenizer.to_str().encode())
        told.update(np.ascontiguousarray(table).tobytes())
        self._name = f"{STATIC}-{table.shape[1]}-{told.hexdigest()[:12]}"

    @classmethod
    def load(cls, folder: Path) -> StaticTable:
        """The table of a folder. Raises ValueError where it, or the tokenizers package, is not."""
        table, tokenizer = folder / TABLE, folder / TOKENIZER
        for path in (table, tokenizer):
            if not path.is_file():
                raise ValueError(f"token table {folder}: has no {path.name}")
        try:
            rows = np.load(table, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"token table {table}: cannot be read: {error}") from error
        if rows.dtype not in (np.float16, np.float32):
            raise ValueError(f"token table {table}: holds {rows.dtype}; must be float16 or float32")
        return cls(rows, tokenizer_from(tokenizer.read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        """Write the table, as float16, and its tokenizer into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / TABLE, self._table.astype(np.float16))
        (folder / TOKENIZER).write_text(self._tokenizer.to_str(), encoding="utf-8")

    @property
    def name(self) -> str:
        """Which embedder with which table."""
        return self._name

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text; of a long text the first 512 tokens count."""
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), _TEXTS):
            ids = token_ids(self._tokenizer, texts[start : start + _TEXTS])
            rows[start : start + len(ids)] = sums(self._table, ids)
        return scaled(rows)


def as_used(tokenizer: Tokenizer) -> None:
    """Let it give the tokens of a text and nothing else, however its file would have it padded."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)


def tokenizer_from(text: str) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises ValueError if it is none, or cannot be read."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError(
            "a static token table needs the package tokenizers: pip install 'fairlead[embedding]'"
        ) from error
    try:
        made: Tokenizer = Tokenizer.from_str(text)
    except Exception as error:
        raise ValueError(f"tokenizer.json: cannot be read: {error}") from error
    return made


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, without those that only mark its ends."""
    cut = [text[:LETTERS_MAX] for text in texts]
    found = tokenizer.encode_batch_fast(cut, add_special_tokens=False)
    return [encoding.ids for encoding in found]


def sums(table: Table, ids: Sequence[Sequence[int]]) -> Matrix:
    """For each list of tokens the sum of their vectors."""
    out = np.zeros((len(ids), table.shape[1]), np.float32)
    sizes = np.array([len(each) for each in ids])
    if sizes.sum():
        flat = np.concatenate([np.asarray(each, np.int64) for each in ids if each])
        filled = sizes > 0
        starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
        out[filled] = np.add.reduceat(table[flat].astype(np.float32), starts, axis=0)
    return out
