"""What control keeps in the store as documents: read with what cannot be read left out."""

from __future__ import annotations

import logging
from typing import TypeVar

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.store.watching import DocumentStore

T = TypeVar("T")
_log = logging.getLogger(__name__)


def read_all(store: DocumentStore, kind: str, of: type[T]) -> dict[str, T]:
    """All documents of a kind, by key; one that cannot be read is left out, and said in the log."""
    found = {}
    for key, data in store.documents(kind).items():
        try:
            found[key] = decode_json(data, of)
        except msgspec.MsgspecError as error:
            _log.error("the document %s %s cannot be read and is left out: %s", kind, key, error)
    return found
