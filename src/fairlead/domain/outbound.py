"""Where connections to other machines may go, and how: rules only, no I/O.

A provider is reached at the host that its release declares and nowhere else: a URL that can be read
in two ways is refused, a redirect is not followed, and a name is resolved once for each connection,
which then goes to an address that was looked at. Addresses at which clouds tell a machine its own
secrets are refused, whatever name leads there, unless a release says that it means them.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

PROXY_ANSWER_BYTES_MAX = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""What system resolvers may take for a number, and so for an address (127.1, 0x7f000001)."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_LINK_LOCAL: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200", "192.0.0.192")
)
"""Link-local networks, and where clouds have their metadata beside these."""
_NEVER: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")
)
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


class Outbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a provider is reached, where that is not the plain way.

    Attributes:
        ca_file: File with the certificates of the only authorities that are trusted for it.
        proxy: `http(s)://host[:port]` of a proxy through which connections go (CONNECT). Never
            taken from the environment.
        proxy_auth_env: Environment variable that holds `user:password` for the proxy.
        link_local: Whether it may have a link-local address, or one of a cloud's metadata.
    """

    ca_file: str | None = None
    proxy: str | None = None
    proxy_auth_env: str | None = None
    link_local: bool = False


DIRECT = Outbound()


class Proxy(msgspec.Struct, frozen=True):
    """Where a proxy is."""

    host: str
    port: int
    is_tls: bool


def check_host(host: str, *, link_local: bool = False) -> None:
    """Raises ValueError unless the host, in lower case, is one that all software reads alike."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
            raise ValueError(f"{host[:80]!r} is no host name or address") from None
        return
    if str(address) != host and not isinstance(address, ipaddress.IPv6Address):
        raise ValueError(f"{host!r} is not how that address is written")
    if is_refused(host, link_local=link_local):
        raise ValueError(f"{host} is not an address that requests are sent to")


def without_credentials(url: str) -> str:
    """The same without what may be a user, a password or a token before an `@`, to be shown."""
    before, at, place = url.rpartition("@")
    scheme, slashes, secret = before.partition("://") if "://" in before else ("", "", before)
    is_secret = ":" in secret or scheme.lower() in ("http", "https")
    return f"{scheme}{slashes}…@{place}" if at and is_secret else url


def is_address(host: str) -> bool:
    """Whether the host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_refused(address: str, *, link_local: bool = False) -> bool:
    """Whether no connection may go to this IP address, in whatever disguise it comes."""
    found = ipaddress.ip_address(address)
    hidden = _hidden(found)
    if hidden is not None and (hidden.is_loopback or _is_in(hidden, _NEVER)):
        return True
    forms = [found] if hidden is None else [found, hidden]
    if any(_is_in(form, _NEVER) for form in forms):
        return True
    return not link_local and any(_is_in(form, _LINK_LOCAL) for form in forms)


def allowed(addresses: Iterable[str], *, link_local: bool = False) -> list[str]:
    """Those of a name's addresses to which a connection may go, in their order."""
    return [a for a in dict.fromkeys(addresses) if not is_refused(a, link_local=link_local)]


def parse_proxy(url: str) -> Proxy:
    """Raises ValueError when it is not `http(s)://host[:port]`."""
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        raise ValueError("a proxy looks like http://proxy.example:3128")
    parts = urlsplit(url)
    host = parts.hostname or ""
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.username is not None or parts.password is not None:
        raise ValueError("a proxy's credentials do not stand in its URL; name proxy_auth_env")
    if parts.scheme not in ("http", "https") or extra or not host:
        raise ValueError("a proxy looks like http://proxy.example:3128")
    check_host(host)
    is_tls = parts.scheme == "https"
    return Proxy(host, parts.port or (443 if is_tls else 3128), is_tls)


def connect_request(host: str, port: int, credentials: str) -> bytes:
    """What asks a proxy for a tunnel; `credentials` are `user:password` or empty."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n"
    if credentials:
        token = base64.b64encode(credentials.encode()).decode()
        head += f"proxy-authorization: Basic {token}\r\n"
    return f"{head}\r\n".encode("latin-1")


def tunnel_refusal(answer: bytes) -> str | None:
    """What is wrong with a proxy's complete answer; None when the tunnel is there."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    match = _STATUS.match(head + b"\r")
    if match is None:
        return "the proxy does not speak HTTP"
    if not match[1].startswith(b"2"):
        return f"the proxy answered {match[1].decode()}"
    # Nobody speaks first in a tunnel: what is there already would be taken for the provider's.
    return "the proxy sent more than its answer" if rest else None


def _hidden(address: _Ip) -> ipaddress.IPv4Address | None:
    """The IPv4 address within an IPv6 address that leads there."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.is_loopback or address.is_unspecified:
        return None
    for network in _EMBEDDING:
        if address in network:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_in(address: _Ip, networks: Iterable[_Network]) -> bool:
    return any(address.version == net.version and address in net for net in networks)
