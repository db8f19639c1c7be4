"""API keys of the gateway: made at random, kept as digests."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "fl-"
SECRET_BYTES = 32


def new_api_key() -> str:
    """A fresh key, to be shown once."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def api_key_digest(key: str) -> str:
    """Hex SHA-256, which is all that is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
