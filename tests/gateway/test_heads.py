"""A head that is known again means exactly what it would mean to the parser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import httptools
import msgspec
import pytest
from gateway_rig import CHAT, KEYS, A, Asked, Engine, Rig, completion, head, route, snapshot, until
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.framing import FirstLine, Head, check_head, read_first_line
from fairlead.gateway.front.heads import ANSWER_LINES, REQUEST_LINES, KnownHead
from support.corpora import smuggling

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

KEY_LINE = b"Authorization: Bearer fl-test-key-one\r\n"
FIRST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"


def wire(text: str, session: str = "", more: bytes = b"") -> bytes:
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": text}]}).encode()
    line = f"x-session-id: {session}\r\n".encode() if session else b""
    return FIRST + KEY_LINE + line + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


SIZE = len(wire("x").partition(b"\r\n\r\n")[2])


class Parsed:
    """What llhttp and the checks make of bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = 0
        self.head: Head | None = None
        line = read_first_line(data)
        if not isinstance(line, FirstLine):
            return
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return
        found = check_head(line, self.headers)
        if self.complete == 1 and not isinstance(found, Refusal):
            self.head = found

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


LINES = st.lists(
    st.sampled_from(
        [
            b"content-length: 3",
            b"Content-Length: 12",
            b"Content-Length:  3",
            b"content-length: 03",
            b"content-length: 3\r\n x",
            b"Transfer-Encoding: chunked",
            b"X-Session-ID: abc",
            b"x-session-id: other",
            b"x-session-id: a b",
            b"x: content-length: 3",
            b"x: y\r\n folded",
            b"Connection: close",
            b"Expect: 100-continue",
        ]
    ),
    max_size=4,
)
BODIES = st.sampled_from([b"", b"abc", b"abcd", b"abcdefghijkl", b"abcGET / HTTP/1.1\r\n\r\n"])


def joined(lines: list[bytes], body: bytes) -> bytes:
    return FIRST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@given(LINES, BODIES, LINES, BODIES)
@example([b"content-length: 3"], b"abc", [b"content-length: 12"], b"abcdefghijkl")
@example(
    [b"x-session-id: a", b"content-length: 3"], b"abc",
    [b"x-session-id: b", b"content-length: 4"], b"abcd",
)  # fmt: skip
def test_what_is_known_again_is_what_the_parser_would_have_found(
    lines: list[bytes], body: bytes, later_lines: list[bytes], later_body: bytes
) -> None:
    """Whatever head was learned, and whatever comes after it."""
    first, later = joined(lines, body), joined(later_lines, later_body)
    parsed = Parsed(first)
    if parsed.head is None or parsed.head.content_length <= 0 or not parsed.head.is_plain:
        return
    known = KnownHead(REQUEST_LINES)
    known.learn(first, parsed.head.content_length, parsed.head.session)
    message = known.message(later)
    if message is not None:
        again = Parsed(later)
        assert again.head is not None
        assert message == (again.body, again.head.session)
        plain = msgspec.structs.replace(again.head, content_length=0, session=None)
        assert plain == msgspec.structs.replace(parsed.head, content_length=0, session=None)
    if first == later and not any(b"  3" in line or b"a b" in line for line in lines):
        assert message is not None or b"03" in b"".join(lines)


def test_a_connection_whose_heads_always_differ_stops_learning_them() -> None:
    known = KnownHead(REQUEST_LINES)
    for number in range(100):
        known.learn(wire("x", more=b"x-other: %d\r\n" % number), SIZE)
    assert known.message(wire("x", more=b"x-other: 99\r\n")) is None


def test_an_answer_with_nothing_in_it_is_never_known() -> None:
    known = KnownHead(ANSWER_LINES)
    first = b"HTTP/1.1 200 OK\r\nDate: Mon\r\nContent-Length: 2\r\n\r\n{}"
    empty = first.replace(b"2\r\n\r\n{}", b"0\r\n\r\n")
    known.learn(first, 2)
    assert known.message(first) == (b"{}", None)
    assert known.message(empty) is None
    assert known.message(empty.replace(b"Mon", b"Tue")) is None
    known.learn(empty, 0)
    assert known.message(empty) is None


def test_an_answer_is_known_again_with_another_date_and_length() -> None:
    known = KnownHead(ANSWER_LINES)
    first = b"HTTP/1.1 200 OK\r\nDate: Mon\r\nContent-Length: 2\r\n\r\n{}"
    known.learn(first, 2)
    assert known.message(
        first.replace(b"Mon", b"Tue").replace(b"2\r\n\r\n{}", b"3\r\n\r\n{ }")
    ) == (
        b"{ }",
        None,
    )
    assert known.message(first + b"x") is None
    assert known.message(first.replace(b"200", b"500")) is None
    assert known.message(first.replace(b"Mon", b"M\non")) is None
    assert known.message(first[:-1]) is None


async def exchanged(rig: Rig, *wires: bytes) -> bytes:
    """Send messages one after the other on one connection; everything that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    got = b""
    for data in wires[:-1]:
        writer.write(data)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        got += answer + await reader.readexactly(int(length[1]))
    writer.write(wires[-1])
    try:
        while piece := await asyncio.wait_for(reader.read(65536), 0.4):
            got += piece
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return got


async def echoes(asked: Asked, writer: asyncio.StreamWriter) -> None:
    body = completion(asked.json["messages"][0]["content"])
    writer.write(head(200, content_length=len(body)) + body)
    await writer.drain()


@pytest.fixture
async def small(engine: StartEngine, serve: Serve) -> Rig:
    return await serve(snapshot(route(A, await engine(echoes))))


async def test_bodies_and_sessions_of_one_connection_are_told_apart(small: Rig) -> None:
    """The second request on is not parsed; each is still answered and recorded as its own."""
    texts = ["a", "bb" * 300, "c", "dd", "e"]
    sessions = ["s1", "s2", "s1", "s3", "s3"]
    wires = [wire(text, session) for text, session in zip(texts, sessions, strict=True)]
    got = await exchanged(small, *wires)
    assert re.findall(rb'"content":"([a-e]+)"', got.replace(b'": "', b'":"')) == [
        text.encode() for text in texts
    ]
    await until(lambda: len(small.requests()) == 5)
    units = [record.unit for record in small.requests()]
    assert units[0] == units[2] != units[1]
    assert units[3] == units[4] not in units[:2]
    assert len({record.id for record in small.requests()}) == 5


async def test_a_key_that_is_taken_away_is_refused_on_a_connection_that_is_known(
    small: Rig, engine: StartEngine
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
    for status in (b"200", b"200", b"401"):
        if status == b"401":
            assert small.worker is not None
            less = msgspec.structs.replace(
                snapshot(route(A, await engine(echoes))), version=2, keys=KEYS[1:]
            )
            small.worker._use(less)
        writer.write(wire("x", "s"))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.split()[1] == status
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        await reader.readexactly(int(length[1]))
    writer.close()


async def test_an_odd_message_after_known_ones_is_read_as_on_a_new_connection(small: Rig) -> None:
    cases = smuggling()
    codes = re.compile(rb"HTTP/1\.1 (\d{3}) ")

    async def check(name: str, text: str) -> None:
        odd = text.encode("latin-1").replace(b"Host: a\r\n", b"Host: a\r\n" + KEY_LINE, 1)
        alone = await exchanged(small, odd)
        after = await exchanged(small, wire("x"), wire("y"), odd)
        assert codes.findall(after) == [b"200", b"200", *codes.findall(alone)], name

    await asyncio.gather(*(check(name, text) for name, text in cases.items()))
