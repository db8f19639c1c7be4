"""Malformed and hostile requests on raw sockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import pytest
from gateway_rig import CHAT, A, Engine, Rig, answers, completion, route, snapshot
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway import limits
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.framing import FirstLine, Head, check_head, read_first_line

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

KEY_LINE = b"Authorization: Bearer fl-test-key-one\r\n"
BODY = json.dumps(CHAT).encode()


def request(*lines: bytes, body: bytes = b"", path: bytes = b"/v1/chat/completions") -> bytes:
    head = [b"POST " + path + b" HTTP/1.1", *lines]
    return b"\r\n".join(head) + b"\r\n" + KEY_LINE + b"\r\n" + body


@pytest.fixture
async def small(engine: StartEngine, serve: Serve) -> Rig:
    one = await engine(answers("ok"))
    return await serve(snapshot(route(A, one)))


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


def _length(body: bytes) -> bytes:
    return b"content-length: %d" % len(body)


HOST = b"host: x"
REFUSED = {
    "CL and TE": (request(HOST, b"content-length: 3", b"transfer-encoding: chunked"), 400),
    "two CL": (request(HOST, b"content-length: 3", b"content-length: 3", body=b"abc"), 400),
    "two TE": (request(HOST, b"transfer-encoding: chunked", b"transfer-encoding: chunked"), 400),
    "gzip, chunked": (request(HOST, b"transfer-encoding: gzip, chunked"), 400),
    "no host": (request(_length(BODY), body=BODY), 400),
    "two hosts": (request(HOST, HOST, _length(BODY), body=BODY), 400),
    "bad host": (request(b"host: a/b", _length(BODY), body=BODY), 400),
    "two keys": (request(HOST, KEY_LINE.strip(), _length(BODY), body=BODY), 400),
    "underscore": (request(HOST, b"content_length: 3", _length(BODY), body=BODY), 400),
    "expectation": (request(HOST, b"expect: tea", _length(BODY), body=BODY), 417),
    "compressed": (request(HOST, b"content-encoding: gzip", _length(BODY), body=BODY), 415),
    "upgrade": (request(HOST, b"upgrade: h2c", b"connection: upgrade", body=b""), 400),
    "headers": (request(HOST, *[b"x: y"] * 101), 431),
    "header bytes": (request(HOST, b"x: " + b"y" * 40_000), 431),
    "url": (request(HOST, path=b"/" + b"x" * 3000), 414),
    "long url": (request(HOST, path=b"/" + b"x" * 2050), 414),
    "version": (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    "empty line first": (b"\r\n" + request(HOST, _length(BODY), body=BODY), 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "absolute form": (b"GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "body on GET": (b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", 400),
    "TE on 1.0": (b"POST /v1/x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "body too large": (request(HOST, b"content-length: 99999999"), 413),
    "trailer": (
        request(HOST, b"transfer-encoding: chunked", body=b"0\r\nAuthorization: x\r\n\r\n"),
        400,
    ),
    "chunk extension": (
        request(HOST, b"transfer-encoding: chunked", body=b"3;" + b"x" * 90_000 + b"\r\nabc\r\n"),
        400,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_with_an_openai_error_and_the_connection_closed(
    small: Rig, name: str
) -> None:
    wire, status = REFUSED[name]
    got = await small.raw(wire)
    assert statuses(got) == [status]
    first, _, body = got.partition(b"\r\n\r\n")
    assert b"connection: close" in first
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert not small.requests()


async def test_a_chunked_request_and_100_continue_are_served(small: Rig) -> None:
    half = len(BODY) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (BODY[:half], BODY[half:], b""))
    got = await small.raw(request(HOST, b"transfer-encoding: chunked", body=chunks), wait_s=0.3)
    assert completion("ok") in got
    got = await small.raw(
        request(HOST, _length(BODY), b"expect: 100-continue", body=BODY), wait_s=0.3
    )
    assert statuses(got) == [100, 200]


async def test_a_request_in_single_bytes_is_served(small: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
    for byte in request(HOST, _length(BODY), body=BODY):
        writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_of_pipelined_requests_the_first_is_served_and_then_it_is_closed(
    small: Rig,
) -> None:
    one = request(HOST, _length(BODY), body=BODY)
    got = await small.raw(one + one)
    assert statuses(got) == [200]
    assert b"connection: close" in got
    reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
    writer.write(one)
    await asyncio.sleep(0)
    writer.write(one)
    assert statuses(await reader.read()) == [200]
    writer.close()


async def test_slow_heads_bodies_and_silence_end(
    small: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEADER_S", "BODY_PART_S", "FIRST_REQUEST_S", "KEEP_ALIVE_S"):
        monkeypatch.setattr(limits, name, 0.1)
    whole = request(HOST, _length(BODY), body=BODY)
    head, body, silence, idle = await asyncio.gather(
        small.raw(whole[:30]), small.raw(whole[:-5]), small.raw(b""), small.raw(whole)
    )
    assert (statuses(head), statuses(body)) == ([408], [408])
    assert silence in (b"", b"<reset>")
    assert statuses(idle) == [200]
    assert not idle.endswith(b"<open>")


async def test_too_many_bytes_of_bodies_are_refused(
    small: Rig,
) -> None:
    assert small.worker is not None
    small.worker.memory.bodies_bytes_max = 10
    wire = request(HOST, _length(BODY), body=BODY)
    assert statuses(await small.raw(wire)) == [503]
    small.worker.memory.bodies_bytes_max = len(BODY)
    for _ in range(3):
        assert statuses(await small.raw(wire, wait_s=0.1)) == [200]


LINE = FirstLine(method="POST", path="/v1/x", is_http_1_0=False)


@given(st.binary(max_size=200))
def test_any_first_bytes_give_a_line_a_refusal_or_a_wish_for_more(data: bytes) -> None:
    line = read_first_line(data)
    if isinstance(line, FirstLine):
        assert line.path.startswith("/")
    else:
        assert line is None or isinstance(line, Refusal)
        assert line is not None or b"\n" not in data


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Host", b"content-length", b"Transfer-Encoding", b"x", b"a_b"]),
            st.sampled_from([b"x", b"3", b"chunked", b"", b"3,3", b"+3", b" chunked "]),
        ),
        max_size=5,
    )
)
def test_an_accepted_head_has_exactly_one_framing(headers: list[tuple[bytes, bytes]]) -> None:
    head = check_head(LINE, headers)
    names = [name.lower() for name, _ in headers]
    if isinstance(head, Head):
        assert names.count(b"host") == 1
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        assert b"a_b" not in names
        assert (head.content_length == -1) == (b"transfer-encoding" in names)
        assert (head.content_length == 3) == (b"content-length" in names)
