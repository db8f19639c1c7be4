"""Signatures of webhooks: who receives one can tell that it is of this installation, and of now.

`x-fairlead-signature` is `t=<Unix seconds>,v1=<hex>`, with HMAC-SHA256 over `<t>.<body>`. Who
receives it computes it over the bytes that came, compares in constant time, and refuses a `t` that
is more than five minutes away, so that an old call cannot be made again by somebody else.
"""

from __future__ import annotations

import hashlib
import hmac
import re

TOLERANCE_S = 300
HEADER = "x-fairlead-signature"
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, now: float) -> str:
    """The header's value."""
    at = int(now)
    return f"t={at},v1={_digest(secret, body, at)}"


def is_signed(secret: str, body: bytes, header: str, now: float) -> bool:
    """Whether the header is of this secret and body, and of about now."""
    match = _FORM.fullmatch(header)
    if match is None or abs(now - int(match[1])) > TOLERANCE_S:
        return False
    return hmac.compare_digest(match[2], _digest(secret, body, int(match[1])))


def _digest(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
