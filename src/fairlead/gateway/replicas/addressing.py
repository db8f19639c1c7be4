"""Where requests go, and what they begin with there."""

from __future__ import annotations

import functools
import re
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.outbound import check_host, without_credentials

_PATH = re.compile(r"[!\"$-~]*")


class Address(msgspec.Struct, frozen=True):
    """Where requests go: connection, `Host` header, and the path before the operation's name."""

    host: str
    port: int
    is_tls: bool
    host_header: str
    prefix: str


def parse_base_url(url: str, *, link_local: bool = False) -> Address:
    """Raises ValueError when it is not an http(s) URL that requests can be sent to.

    A URL with a path of its own keeps it in place of `/v1`.
    """
    shown = without_credentials(url)
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        raise ValueError(f"{ascii(shown)[:200]} is not a plain http or https URL")
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f"{shown!r} is not a plain http or https URL")
    host = parts.hostname or ""
    path = parts.path.rstrip("/")
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"{shown!r} has no usable path")
    check_host(host, link_local=link_local)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    place = f"[{host}]" if ":" in host else host
    return Address(
        host=host,
        port=port,
        is_tls=is_tls,
        host_header=place if parts.port is None else f"{place}:{port}",
        prefix=path or "/v1",
    )


@functools.lru_cache(maxsize=1024)
def beginning_of(
    address: Address, path: str, *, authorization: str, accept: str, more: str = ""
) -> bytes:
    """What requests of one kind to one replica begin with.

    Args:
        more: Further header lines, each with its CRLF.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {address.host_header}\r\ncontent-type: application/json\r\n"
        f"accept: {accept}\r\naccept-encoding: identity\r\nuser-agent: fairlead\r\n"
    )
    if authorization:
        head += f"authorization: {authorization}\r\n"
    return f"{head}{more}".encode("latin-1")
