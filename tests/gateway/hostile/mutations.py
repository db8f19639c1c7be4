"""Request messages, good and bad: a grammar whose every part can be a wrong one."""

from __future__ import annotations

import random

from hypothesis import strategies as st

METHODS = [b"POST", b"GET", b"post", b"CONNECT", b"P\0ST", b"", b"HEAD", b"PUT"]
SPACES = [b" ", b"  ", b"\t", b"", b"\x0b"]
TARGETS = [
    b"/v1/x", b"/v1/x?a=b", b"/", b"*", b"http://a/x", b"/a b", b"/a#b", b"//x", b"/\xff", b"/%00",
    b"/\0",
]  # fmt: skip
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1", b""]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n"]
NAMES = [
    b"content-length", b"Content-Length", b"transfer-encoding", b"Transfer-Encoding", b"host",
    b"Host", b"content_length", b"transfer-encoding ", b" transfer-encoding", b"x", b"connection",
    b"expect", b"upgrade", b"trailer", b"\0", b"", b"x\x0b", b"transfer\xadencoding",
]  # fmt: skip
VALUES = [
    b"3", b"03", b"+3", b"-3", b"0", b"3,3", b"3, 3", b"0x3", b"3 ", b"\t3", b"\x0b3", b"3\0", b"",
    b"99999999999999999999", b"18446744073709551619", b"chunked", b"Chunked", b"chunked, chunked",
    b"gzip, chunked", b"chunked, identity", b"identity", b"\x0bchunked", b"chunked\0", b"xchunked",
    b"chunked;a", b"a", b"a:80", b"a/b", b"close", b"keep-alive", b"100-continue", b"upgrade",
    b"h2c", b"a\r\n b", b"a\rb", b"a\nb", b"\xff",
]  # fmt: skip
COLONS = [b": ", b":", b" :", b"", b":\t", b":\r\n "]
SIZES = [
    b"3", b"03", b"3 ", b" 3", b"+3", b"0x3", b"3;a=b", b'3;a="\r\n', b"3;", b"3\t", b"", b"g",
    b"000000000000000000003", b"FFFFFFFFFFFFFFFF", b"10000000000000003", b"3\n", b"3;a\nb", b"-3",
]  # fmt: skip
BODIES = [
    b"abc", b"", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0\r\n\n", b"abcd",
    b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"0\n\n",
    b"3\r\nabc\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabcXX0\r\n\r\n",
]  # fmt: skip
GOOD = [
    b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    b"POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /v1/x HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc",
    b"POST /v1/x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
]
_BYTES = [b"\0", b"\t", b"\n", b"\r", b"\r\n", b" ", b"0", b":", b";", b",", b"\x0b", b"\xff", b"3"]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One or two messages put together from good and bad parts."""
    return b"".join(_message(draw) for _ in range(draw(st.integers(1, 2))))


def _mostly(draw: st.DrawFn, parts: list[bytes]) -> bytes:
    """The first, which is the good one, or any."""
    return draw(st.one_of(st.just(parts[0]), st.sampled_from(parts)))


def _message(draw: st.DrawFn) -> bytes:
    line = b"".join(_mostly(draw, p) for p in (METHODS, SPACES, TARGETS, SPACES, VERSIONS, ENDS))
    framing = draw(
        st.sampled_from([b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b""])
    )
    headers = [
        draw(st.sampled_from(NAMES)) + _mostly(draw, COLONS) + draw(st.sampled_from(VALUES))
        + _mostly(draw, ENDS)
        for _ in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    body = draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        body = draw(st.sampled_from(SIZES)) + b"\r\nabc\r\n0\r\n\r\n"
    return line + b"host: a\r\n" + framing + b"".join(headers) + _mostly(draw, ENDS) + body


def mutated(chance: random.Random) -> bytes:
    """A good message with one to three things wrong with it; sometimes followed by another."""
    wire = chance.choice(GOOD)
    for _ in range(chance.randint(1, 3)):
        wire = chance.choice(_MUTATIONS)(chance, wire)
    return wire + (chance.choice(GOOD) if chance.random() < 0.3 else b"")


def _insert(chance: random.Random, wire: bytes) -> bytes:
    at = chance.randint(0, len(wire))
    return wire[:at] + chance.choice(_BYTES) + wire[at:]


def _drop(chance: random.Random, wire: bytes) -> bytes:
    at = chance.randint(0, len(wire))
    return wire[:at] + wire[at + chance.randint(1, 3) :]


def _replace(chance: random.Random, wire: bytes) -> bytes:
    at = chance.randint(0, len(wire))
    return wire[:at] + bytes((chance.randrange(256),)) + wire[at + 1 :]


def _add_header(chance: random.Random, wire: bytes) -> bytes:
    line, end, rest = wire.partition(b"\r\n")
    header = chance.choice(NAMES) + chance.choice(COLONS) + chance.choice(VALUES)
    return line + end + header + chance.choice(ENDS) + rest


def _change_size(chance: random.Random, wire: bytes) -> bytes:
    return wire.replace(b"\r\n3\r\n", b"\r\n" + chance.choice(SIZES) + b"\r\n", 1)


def _change_value(chance: random.Random, wire: bytes) -> bytes:
    for good in (b" 3\r\n", b" chunked\r\n"):
        wire = wire.replace(good, chance.choice(VALUES) + b"\r\n", 1)
    return wire


def _change_end(chance: random.Random, wire: bytes) -> bytes:
    parts = wire.split(b"\r\n")
    at = chance.randrange(len(parts))
    return b"\r\n".join(parts[:at]) + chance.choice(ENDS) + b"\r\n".join(parts[at:])


def _change_body(chance: random.Random, wire: bytes) -> bytes:
    return wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + chance.choice(BODIES)


_MUTATIONS = [
    _insert, _drop, _replace, _add_header, _change_size, _change_value, _change_end, _change_body,
]  # fmt: skip
