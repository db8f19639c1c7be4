"""What this room keeps in the store: small JSON documents, each under a kind and a key."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Protocol, TypeVar

import msgspec

from fairlead.domain.decoding import decode_json

T = TypeVar("T")
DIVERTED, GATE_RUN, PROPOSAL = "diverted", "gate_run", "proposal"
_log = logging.getLogger(__name__)


class DocumentStore(Protocol):
    """Documents by kind and key; each call is one transaction. Raises what a store raises."""

    def documents(self, kind: str) -> dict[str, bytes]:
        """All of a kind, by key."""
        ...

    def commit_documents(
        self,
        puts: Mapping[tuple[str, str], bytes],
        deletes: Collection[tuple[str, str]] = (),
    ) -> None:
        """Keep these, in the place of what was kept under (kind, key), and delete those."""
        ...


def read_all(store: DocumentStore, kind: str, of: type[T]) -> dict[str, T]:
    """All documents of a kind, by key; one that cannot be read is left out, and said in the log."""
    found = {}
    for key, data in store.documents(kind).items():
        try:
            found[key] = decode_json(data, of)
        except msgspec.MsgspecError as error:
            _log.error("the document %s %s cannot be read and is left out: %s", kind, key, error)
    return found
