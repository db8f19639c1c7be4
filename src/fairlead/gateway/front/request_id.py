"""Request ids that any worker can recognise as given to one API key, without shared state.

`req_` + 23 random hex digits + the id's place + 16 hex digits of tag. The tags of the eight places
are the parts of one keyed hash over the random digits and the key's id, so that feedback for a
request is taken from the key that made it and no other, and a hash is made for every eighth id.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re

_PREFIX = "req_"
_RANDOM_DIGITS = 23
_TAG_DIGITS = 16
_PLACES = 8
"""Tags in one hash of BLAKE2b."""
_DRAWN_AT_ONCE = 64
"""Digits for so many hashes are taken from the system in one call."""
_KEYS_MAX = 1024
"""Keys whose next ids are at hand."""
_FORM = re.compile(r"req_([0-9a-f]{23})([0-7])([0-9a-f]{16})")


class RequestIds:
    """Makes and recognises request ids under one key (`Snapshot.request_id_key`, as bytes)."""

    def __init__(self, key: bytes) -> None:
        # blake2b takes at most 64 bytes of key; a longer one is hashed down.
        self._key = key if len(key) <= 64 else hashlib.blake2b(key).digest()
        self._tagger = hashlib.blake2b(key=self._key)
        self._random = ""
        self._used = 0
        self._next: dict[str, list[str]] = {}

    def new(self, key_id: str) -> str:
        """A fresh id for a request by this API key."""
        ready = self._next.get(key_id)
        if not ready:
            if len(self._next) >= _KEYS_MAX:
                self._next.clear()
            ready = self._next[key_id] = self._more(key_id)
        return ready.pop()

    def is_of(self, request_id: str, key_id: str) -> bool:
        """Whether this id was given to a request by this API key."""
        match = _FORM.fullmatch(request_id)
        if match is None:
            return False
        random, place, tag = match.groups()
        return hmac.compare_digest(tag, _tag_at(int(place), self._tags(random, key_id)))

    def _more(self, key_id: str) -> list[str]:
        begin, end = self._used, self._used + _RANDOM_DIGITS
        if end > len(self._random):
            self._random = os.urandom(_RANDOM_DIGITS * _DRAWN_AT_ONCE // 2).hex()
            begin, end = 0, _RANDOM_DIGITS
        self._used = end
        random = self._random[begin:end]
        tags = self._tags(random, key_id)
        return [f"{_PREFIX}{random}{n}{_tag_at(n, tags)}" for n in range(_PLACES)]

    def _tags(self, random: str, key_id: str) -> str:
        tagger = self._tagger.copy()
        tagger.update(f"{random}\0{key_id}".encode())
        return tagger.hexdigest()


def _tag_at(place: int, tags: str) -> str:
    return tags[place * _TAG_DIGITS : (place + 1) * _TAG_DIGITS]
