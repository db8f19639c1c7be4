"""Which embedder the monitors of a process go by: the best for which there is a table."""

from __future__ import annotations

import logging
from pathlib import Path

from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder
from fairlead.embedding.known_words import KnownWords, WordTable
from fairlead.embedding.static import StaticTable

_log = logging.getLogger(__name__)


def chosen(table: Path | None) -> Embedder:
    """The word vectors of a file, or hashed n-grams where it is not there, or is damaged.

    What is damaged is logged: monitors that see spelling only are better than none.
    """
    if table is None or not table.exists():
        return HashedNgrams()
    try:
        return KnownWords(WordTable.load(table))
    except ValueError as error:
        _log.error("drift goes by spelling, and not by what words mean: %s", error)
        return HashedNgrams()


def fitted(folder: Path) -> Embedder | None:
    """The table that was fitted to what one service is asked; None where there is none.

    One that is damaged is logged, and is none: others know less of this service, but all of them.
    """
    try:
        return StaticTable.load(folder) if folder.exists() else None
    except (OSError, ValueError) as error:
        _log.error("drift goes by what all services have in common: %s", error)
        return None
