"""API keys: one lookup by digest, one way to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fairlead.wire.snapshot import KeyEntry

_SCHEME = b"bearer "
_KEY_BYTES_MAX = 512
ANYONE = KeyEntry(id="anyone", name="anyone", sha256="")
"""Who asks where no key is asked for."""


class KeyRing:
    """The keys of one snapshot, by SHA-256.

    A key is hashed before it is looked up, so what the time of the lookup depends on is not under
    the caller's control.

    Args:
        is_open: No key is asked for.
    """

    def __init__(self, keys: Iterable[KeyEntry], *, is_open: bool = False) -> None:
        self._is_open = is_open
        self._by_digest = {entry.sha256.lower(): entry for entry in keys}

    def find(self, authorization: bytes | None) -> KeyEntry | None:
        """The entry of the key in an `Authorization` header; None whatever is wrong with it."""
        if self._is_open:
            return ANYONE
        return self.entry(digest_of(authorization))

    def entry(self, digest: str | None) -> KeyEntry | None:
        """The entry of a key whose digest is known; None when it is not, or no longer, accepted."""
        if self._is_open:
            return ANYONE
        return self._by_digest.get(digest) if digest is not None else None


def digest_of(authorization: bytes | None) -> str | None:
    """The hex SHA-256 of the key in an `Authorization` header; None when it holds none."""
    given = authorization or b""
    is_bearer = given[: len(_SCHEME)].lower() == _SCHEME
    key = given[len(_SCHEME) :].strip() if is_bearer else b""
    digest = hashlib.sha256(key[:_KEY_BYTES_MAX]).hexdigest()
    return digest if key and len(key) <= _KEY_BYTES_MAX else None
