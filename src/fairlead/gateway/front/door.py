"""Who may call a gateway that asks for no key. Pure.

It listens on loopback, which keeps other machines out, but not the pages in a browser on this one.
A page of any site may send requests to 127.0.0.1; the browser names the page in `Origin`. And a
site whose name is made to lead to 127.0.0.1 (DNS rebinding) could even read the answers, as if they
were its own; then its name is in `Host`. Both are refused unless they are named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from fairlead.gateway.errors import Refusal

_SHOWN = 100


class Door:
    """The rule of one snapshot.

    Args:
        hosts: Names and addresses, in lower case, that may stand in `Host` beside loopback's own.
        origins: Origins, in lower case, whose pages may call.
    """

    def __init__(self, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    def refusal(self, headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
        """Why a request with these headers is not let in; None when it is."""
        host: str | None = None
        origins = []
        for name, value in headers:
            match name.lower():
                case b"host":
                    host = value.decode("latin-1").strip().lower()
                case b"origin":
                    origins.append(value.decode("latin-1").strip().lower())
        # Only HTTP/1.0 can do without, and no browser speaks that.
        if host is not None and not self._is_host(host):
            return _forbidden("foreign_host", f"calls to the host `{_shown(host)}`", "allow_hosts")
        own = (f"http://{host}", f"https://{host}")
        for origin in origins:
            if origin not in self._origins and origin not in own:
                return _forbidden("foreign_origin", f"pages of `{_shown(origin)}`", "allow_origins")
        return None

    def _is_host(self, host: str) -> bool:
        name, _, rest = host.rpartition(":")
        if not name or rest.endswith("]"):
            name = host  # No port.
        if name.startswith("[") and name.endswith("]"):
            name = name[1:-1]
        name = name.rstrip(".")
        return name in self._hosts or is_loopback_name(name)


def is_loopback_name(host: str) -> bool:
    """Whether a host, in lower case, can be nothing but this machine: no resolver is asked."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _forbidden(code: str, what: str, setting: str) -> Refusal:
    message = (
        f"This gateway asks for no key, so it does not answer {what}. If they may use it, name "
        f"them under `{setting}` in the gateway file, or give the gateway `keys`."
    )
    return Refusal(403, code, message, type="permission_error")


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c not in '`"')[:_SHOWN]
