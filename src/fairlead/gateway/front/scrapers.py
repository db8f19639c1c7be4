"""Who may read the gateway's metrics: they say what services cost and who has used how much. Pure.

A program on this machine may, as Prometheus mostly is, and whoever has the token. "On this machine"
is who connects from loopback and asks for a name of loopback, without a trace of a proxy: behind
one that passes on what strangers ask, all of them seem to come from here; and a page in a browser,
whose site's name was made to lead here, has that name in `Host`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from typing import Literal

import msgspec

from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.auth import digest_of
from fairlead.gateway.front.door import Door

Access = Literal["local", "token", "open"]
"""Programs on this machine and who has the token; only the latter; everybody."""

_FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
_HERE = Door((), ())
REFUSED = Refusal(
    401,
    "metrics_token",
    "Metrics are shown to programs on this machine, or for their token (`Authorization: Bearer "
    "TOKEN`; `fairlead up` writes it into run/metrics.token, a gateway file names it under "
    "`metrics`).",
    type="authentication_error",
)


class MetricsAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may read metrics.

    Attributes:
        token_sha256: Hex SHA-256 of the token; empty where there is none.
    """

    access: Access = "local"
    token_sha256: str = ""

    def refusal(
        self, peer: str, authorization: bytes | None, headers: Sequence[tuple[bytes, bytes]]
    ) -> Refusal | None:
        """Why who asks is not shown them; None if they are.

        Args:
            peer: Address that the connection comes from; empty if it has none.
            authorization: Value of the header, if there is one.
        """
        if self.access == "open":
            return None
        if self.access == "local" and is_local(peer, headers):
            return None
        digest = digest_of(authorization)
        has_token = self.token_sha256 and digest is not None
        if has_token and hmac.compare_digest(digest or "", self.token_sha256):
            return None
        return REFUSED


def is_local(peer: str, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a program on this machine asks, for itself."""
    names = [name.lower() for name, _ in headers]
    if any(name in _FORWARDED or name.startswith(b"x-forwarded-") for name in names):
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback and _HERE.refusal(headers) is None


def metrics_token(control_token: str) -> str:
    """The token that opens metrics alone; it follows from control's in one direction."""
    return hmac.new(control_token.encode(), b"fairlead metrics", hashlib.sha256).hexdigest()


def access_of(access: Access, token: str) -> MetricsAccess:
    """By the token itself; empty for none."""
    digest = hashlib.sha256(token.encode()).hexdigest() if token else ""
    return MetricsAccess(access, digest)
