"""Addresses in a gateway file: where it listens, and where it sends requests.

http://10.0.0.5:8000          a replica, on any machine; a path of its own stands in place of `/v1`
https://host/v1               a provider; over plain HTTP on loopback only
openai://host/v1?model=NAME   the same, as a manifest has it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import PlainValidator, WithJsonSchema

from fairlead.domain.outbound import is_address
from fairlead.manifest.sources import is_loopback, remote_source
from fairlead.manifest.values import shown, wrong

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*|(?=.*:)[0-9a-f:.]{2,45}"
)
_PATH = re.compile(r"[!\"$-~]*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[!-.0->@-~]{1,255}")
_PROVIDERS = {"openai": "https", "openai+http": "http"}
_PROVIDER_FORM = "https://host/v1 or openai://host/v1?model=NAME"
_REPLICA_FORM = "http://host:port"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the gateway listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests are sent.

    Attributes:
        base_url: `http(s)://host[:port][/path]`.
        model: What goes into the field `model` there, where the address says it.
    """

    base_url: str
    model: str | None = None

    @property
    def host(self) -> str:
        """Its host, as a person reads it."""
        return urlsplit(self.base_url).netloc

    @property
    def is_open(self) -> bool:
        """Whether what is sent there can be read on the way."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def parse_listen(value: object) -> Listen:
    """`host:port`; an IPv6 address in brackets."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise wrong(f"must be an address such as 127.0.0.1:7600, not {shown(value)}")
    return Listen(host, int(port))


def parse_provider(value: object) -> Upstream:
    """The address of a provider."""
    if not isinstance(value, str) or not value:
        raise wrong(f"must be the address of a provider, {_PROVIDER_FORM}, not {shown(value)}")
    scheme, separator, rest = value.partition("://")
    if scheme in _PROVIDERS and separator:
        if "?" in value:
            source = remote_source(value, scheme)
            # The same rules for host and path, whichever way it is written.
            return Upstream(parse_url(source.base_url, _PROVIDER_FORM), source.model)
        value = f"{_PROVIDERS[scheme]}://{rest}"
    upstream = Upstream(parse_url(value, _PROVIDER_FORM))
    if upstream.is_open:
        raise wrong("would send prompts and keys unencrypted to another machine; use https://")
    return upstream


def parse_replica(value: object) -> Upstream:
    """The base URL of a replica."""
    if not isinstance(value, str) or not value:
        raise wrong(f"must be a base URL such as {_REPLICA_FORM}, not {shown(value)}")
    return Upstream(parse_url(value, _REPLICA_FORM))


def parse_url(value: str, form: str) -> str:
    """A base URL that requests can be sent to; raises a validation error."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong(f"must have the form {form}") from None
    if "@" in parts.netloc or "@" in value.partition("/")[0]:
        raise wrong("must not hold credentials; name api_key_env or api_key_file instead")
    if parts.scheme not in ("http", "https"):
        raise wrong(f"must have the form {form}, not {shown(value)}")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise wrong("must not have a query or a fragment")
    path = parts.path.rstrip("/")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or port == 0:
        raise wrong(f"must have the form {form}, not {shown(value)}")
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"{parts.scheme}://{place}{path}"


def parse_host(value: object) -> str:
    """A host's name or address, without a port."""
    host = value.lower() if isinstance(value, str) else ""
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(host) or (":" in host and not is_address(host)):
        raise wrong(f"must be a host's name or address without a port, not {shown(value)}")
    return host


def parse_origin(value: object) -> str:
    """An origin as browsers send it: scheme, host and, where it is not the usual one, port."""
    origin = value.lower() if isinstance(value, str) else ""
    if not _ORIGIN.fullmatch(origin):
        raise wrong(f"must be an origin such as https://chat.example:8443, not {shown(value)}")
    return origin


AllowedHost = Annotated[
    str, PlainValidator(parse_host), WithJsonSchema({"type": "string", "minLength": 1})
]
AllowedOrigin = Annotated[
    str, PlainValidator(parse_origin), WithJsonSchema({"type": "string", "pattern": "://"})
]
ListenAddress = Annotated[
    Listen, PlainValidator(parse_listen), WithJsonSchema({"type": "string", "pattern": ":[0-9]+$"})
]
ProviderUrl = Annotated[
    Upstream,
    PlainValidator(parse_provider),
    WithJsonSchema({"type": "string", "pattern": "^(https?|openai|openai\\+http)://"}),
]
ReplicaUrl = Annotated[
    Upstream,
    PlainValidator(parse_replica),
    WithJsonSchema({"type": "string", "pattern": "^https?://"}),
]
