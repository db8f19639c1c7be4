"""Which request heads are accepted. Pure.

llhttp parses; what it lets through but other implementations read differently is refused here,
so that no request can be one for us and two for somebody else. See the tests for each case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fairlead.domain.strata import HEADER
from fairlead.gateway.errors import (
    BAD_EXPECT,
    BAD_VERSION,
    ENCODED_BODY,
    URL_TOO_LONG,
    Refusal,
    bad_framing,
)
from fairlead.gateway.limits import URL_BYTES_MAX

FIRST_LINE_BYTES_MAX = URL_BYTES_MAX + 64

_LINE = re.compile(rb"([A-Z]{3,8}) (/[!\"$-~]*) HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(rb"[A-Z]{1,16} [!-~]+ HTTP/(?!1\.[01]\r)\d{1,3}(?:\.\d{1,3})?\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
RISK = HEADER.encode()
_ONCE = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"x-api-key",
        RISK,
        b"x-session-id",
    }
)


class FirstLine(msgspec.Struct, frozen=True):
    """A request line of the one form that is accepted."""

    method: str
    path: str
    is_http_1_0: bool


class Head(msgspec.Struct, frozen=True):
    """What the gateway needs of a request's head.

    Attributes:
        content_length: -1 for a chunked body.
        expects_continue: The client waits for `100 Continue` before it sends the body.
        risk: What the client says of the request's kind (`fairlead.domain.strata`).
    """

    method: str
    path: str
    is_http_1_0: bool
    keeps_alive: bool
    authorization: bytes | None
    session: bytes | None
    trace: bytes | None
    content_length: int
    expects_continue: bool
    risk: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing but to be answered on a connection that stays open."""
        return self.keeps_alive and not self.expects_continue

    def __repr__(self) -> str:
        """Without the key, so that it cannot end up in a log."""
        return f"Head(method={self.method!r}, path={self.path!r})"


def read_first_line(data: bytes) -> FirstLine | Refusal | None:
    """Check the raw request line; None when more bytes are needed.

    The raw bytes are looked at because the parser hides leading empty lines and doubled spaces.
    """
    end = data.find(b"\n", 0, FIRST_LINE_BYTES_MAX)
    if end < 0:
        if not data[:1].isalpha():
            return bad_framing("the request line")  # TLS, mostly: nothing to wait for.
        return URL_TOO_LONG if len(data) >= FIRST_LINE_BYTES_MAX else None
    line = data[: end + 1]
    match = _LINE.fullmatch(line)
    if match is None:
        return BAD_VERSION if _OTHER_VERSION.fullmatch(line) else bad_framing("the request line")
    if len(match[2]) > URL_BYTES_MAX:
        return URL_TOO_LONG
    return FirstLine(
        method=match[1].decode(),
        path=match[2].partition(b"?")[0].decode(),
        is_http_1_0=match[3] == b"0",
    )


def check_head(line: FirstLine, headers: Sequence[tuple[bytes, bytes]]) -> Head | Refusal:
    """Accept or refuse a request's head as a whole."""
    seen: dict[bytes, bytes] = {}
    for raw_name, value in headers:
        name = raw_name.lower()
        if b"_" in name:
            return bad_framing("an underscore in a header's name")
        if name in _ONCE and name in seen:
            return bad_framing(f"header `{name.decode('latin-1')}` given twice")
        seen[name] = value
    problem = _host_problem(seen, line) or _connection_problem(seen)
    if problem is not None:
        return problem
    length = _content_length(seen, line)
    if isinstance(length, Refusal):
        return length
    connection = _tokens(seen.get(b"connection", b""))
    return Head(
        method=line.method,
        path=line.path,
        is_http_1_0=line.is_http_1_0,
        keeps_alive=not line.is_http_1_0 and b"close" not in connection,
        authorization=seen.get(b"authorization") or _api_key(seen, line),
        session=seen.get(b"x-session-id"),
        trace=seen.get(b"traceparent"),
        content_length=length,
        expects_continue=b"expect" in seen and length != 0,
        risk=seen.get(RISK),
    )


def _api_key(seen: dict[bytes, bytes], line: FirstLine) -> bytes | None:
    """The key where clients of Anthropic's API put it, as `authorization` would have it."""
    if not line.path.startswith("/v1/messages") or b"x-api-key" not in seen:
        return None
    return b"Bearer " + seen[b"x-api-key"]


def _host_problem(seen: dict[bytes, bytes], line: FirstLine) -> Refusal | None:
    host = seen.get(b"host")
    if host is None:
        return None if line.is_http_1_0 else bad_framing("no `Host` header")
    return None if _HOST.fullmatch(host.strip()) else bad_framing("the `Host` header")


def _connection_problem(seen: dict[bytes, bytes]) -> Refusal | None:
    if b"upgrade" in seen or b"upgrade" in _tokens(seen.get(b"connection", b"")):
        return bad_framing("upgrades are not offered")
    if b"expect" in seen and seen[b"expect"].strip().lower() != b"100-continue":
        return BAD_EXPECT
    if seen.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        return ENCODED_BODY
    return None


def _content_length(seen: dict[bytes, bytes], line: FirstLine) -> int | Refusal:
    coding = seen.get(b"transfer-encoding")
    given = seen.get(b"content-length")
    if coding is not None:
        if given is not None:
            return bad_framing("`Content-Length` beside `Transfer-Encoding`")
        if line.is_http_1_0 or coding.strip(b" \t").lower() != b"chunked":
            return bad_framing("the `Transfer-Encoding`")
        length = -1
    elif given is not None:
        if _LENGTH.fullmatch(given.strip(b" \t")) is None:
            return bad_framing("the `Content-Length`")
        length = int(given)
    else:
        length = 0
    if length != 0 and line.method != "POST":
        return bad_framing(f"a body on {line.method}")
    return length


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip().lower() for token in value.split(b",")}
