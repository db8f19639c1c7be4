"""Request ids that any worker can recognise as given to one API key, without shared state.

`req_` + 24 random hex digits + 16 hex digits of tag. The tag is a keyed hash over the random part
and the key's id, so that feedback for a request is taken from the key that made it and no other.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re

_PREFIX = "req_"
_RANDOM_DIGITS = 24
_TAG_BYTES = 8
_DRAWN_AT_ONCE = 256
"""Random parts that are taken from the system in one call."""
_FORM = re.compile(r"req_[0-9a-f]{40}")


class RequestIds:
    """Makes and recognises request ids under one key (`Snapshot.request_id_key`, as bytes)."""

    def __init__(self, key: bytes) -> None:
        # blake2b takes at most 64 bytes of key; a longer one is hashed down.
        self._key = key if len(key) <= 64 else hashlib.blake2b(key).digest()
        self._tagger = hashlib.blake2b(key=self._key, digest_size=_TAG_BYTES)
        self._random = ""
        self._used = 0

    def new(self, key_id: str) -> str:
        """A fresh id for a request by this API key."""
        random = self._random[self._used : self._used + _RANDOM_DIGITS]
        if not random:
            self._random = os.urandom(_RANDOM_DIGITS // 2 * _DRAWN_AT_ONCE).hex()
            self._used = 0
            random = self._random[:_RANDOM_DIGITS]
        self._used += _RANDOM_DIGITS
        return f"{_PREFIX}{random}{self._tag(random, key_id)}"

    def is_of(self, request_id: str, key_id: str) -> bool:
        """Whether this id was given to a request by this API key."""
        if _FORM.fullmatch(request_id) is None:
            return False
        random = request_id[len(_PREFIX) : len(_PREFIX) + _RANDOM_DIGITS]
        tag = request_id[len(_PREFIX) + _RANDOM_DIGITS :]
        return hmac.compare_digest(tag, self._tag(random, key_id))

    def _tag(self, random: str, key_id: str) -> str:
        tagger = self._tagger.copy()
        tagger.update(f"{random}\0{key_id}".encode())
        return tagger.hexdigest()
