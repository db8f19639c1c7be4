"""Bombs in headers, URLs, chunks and bodies; pipelining; bytes that are no text."""

from __future__ import annotations

import asyncio

import pytest
from attack import (
    BODY,
    HOST,
    KEY_LINE,
    PATH,
    Bystander,
    chunked,
    descriptors,
    given_back,
    is_closed,
    length,
    post,
    request,
    resident_bytes,
    statuses,
)
from gateway_rig import Rig, completion
from parser_rig import Host, feed

from fairlead.gateway.front.chunks import ChunkFraming

CHUNKED = b"transfer-encoding: chunked"

BOMBS = {
    "100,000 headers": (request(HOST, *[b"x: y"] * 100_000), 431),
    "101 headers": (request(HOST, *[b"x: y"] * 99), 431),
    "100,000 empty headers": (request(HOST, *[b"x:"] * 100_000), 431),
    "a header of 1 MB": (request(HOST, b"x: " + b"y" * 1_000_000), 431),
    "a header without an end": (request(HOST)[:-2] + b"x: " + b"y" * 1_000_000, 431),
    "a name of 1 MB": (request(HOST, b"x" * 1_000_000 + b": y"), 431),
    "an URL of 1 MB": (request(HOST, path=b"/" + b"x" * 1_000_000), 414),
    "an URL without an end": (b"GET /" + b"x" * 1_000_000, 414),
    "a query of 1 MB": (request(HOST, path=PATH + b"?" + b"x" * 1_000_000), 414),
    "a method without an end": (b"P" * 1_000_000, 414),
    "an extension of 1 MB": (request(HOST, CHUNKED, body=b"3;" + b"x" * 1_000_000), 400),
    "a short extension": (request(HOST, CHUNKED, body=b"3;a=b\r\nabc\r\n0\r\n\r\n"), 400),
    "a chunk size of 21 digits": (request(HOST, CHUNKED, body=b"0" * 20 + b"3\r\nabc\r\n"), 400),
    "a chunk size of 17 digits": (request(HOST, CHUNKED, body=b"0" * 16 + b"3\r\nabc\r\n"), 400),
    "a chunk size beyond 64 bits": (request(HOST, CHUNKED, body=b"1" + b"0" * 16 + b"\r\n"), 400),
    "a chunk of 16 TB": (request(HOST, CHUNKED, body=b"fffffffffff\r\n" + b"x" * 9_000_000), 400),
    "a chunk size without an end": (request(HOST, CHUNKED, body=b"0" * 1_000_000), 400),
    "33 MB declared": (request(HOST, b"content-length: 34603008", body=b"x" * 100_000), 413),
    "33 MB in chunks": (request(HOST, CHUNKED, body=chunked(*[b"x" * 1_000_000] * 33)), 413),
    "an endless trailer": (request(HOST, CHUNKED, body=b"0\r\nx: " + b"y" * 1_000_000), 400),
    "compressed": (request(HOST, b"content-encoding: gzip", length(BODY), body=BODY), 415),
    "compressed in transfer": (request(HOST, b"transfer-encoding: gzip, chunked"), 400),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_and_nothing_of_it_is_kept(
    served: Rig, bystander: Bystander, name: str
) -> None:
    wire, status = BOMBS[name]
    before, memory = descriptors(), resident_bytes()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    sending = asyncio.ensure_future(_send(writer, wire))
    got = await asyncio.wait_for(_read(reader), 60)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    if name == "an endless trailer":
        # Refused as soon as its header ends; until then, by the bytes beyond the body.
        assert statuses(got) in ([400], [408]), got[:300]
    else:
        assert statuses(got) == [status], got[:300]
    await bystander.was_served(1)
    assert resident_bytes() - memory < 100_000_000
    await given_back(served, before + 4)


async def _send(writer: asyncio.StreamWriter, wire: bytes) -> None:
    for start in range(0, len(wire), 65536):
        writer.write(wire[start : start + 65536])
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    got = b""
    try:
        while piece := await reader.read(65536):
            got += piece
    except ConnectionError:
        pass
    return got


@pytest.mark.parametrize("key", [b"authorization: Bearer wrong", b"x: y"])
async def test_who_has_no_key_is_told_so_before_a_byte_of_the_body_is_held(
    served: Rig, key: bytes
) -> None:
    head = b"\r\n".join([b"POST " + PATH + b" HTTP/1.1", HOST, key, b"content-length: 8000000"])
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.write(b"x" * 1_000_000)
    assert served.worker is not None
    assert served.worker.held_body_bytes == 0
    await reader.read()
    assert served.worker.held_body_bytes == 0
    writer.close()


def test_with_head_and_body_in_one_piece_nothing_is_held_without_a_key_either() -> None:
    host = Host()
    held = []
    host.hold_body = lambda size, before=0: held.append(size) or True  # type: ignore[method-assign,func-returns-value]
    wire = request(HOST, length(BODY), body=BODY).replace(KEY_LINE, b"authorization: Bearer no")
    fed = feed([wire], host)
    assert fed.transport.written.startswith(b"HTTP/1.1 401")
    assert held == []
    assert host.recognised_count == 0


async def test_of_many_pipelined_requests_one_is_served_and_the_rest_not_even_read(
    served: Rig, bystander: Bystander
) -> None:
    before = descriptors()
    got = await asyncio.gather(*(served.raw(post() * 1000, wait_s=5) for _ in range(5)))
    assert all(is_closed(answer) for answer in got)
    assert sum(len(statuses(answer)) for answer in got) <= 5
    assert all(statuses(answer) in ([200], []) for answer in got)
    await bystander.was_served()
    await given_back(served, before + 4)


async def test_a_request_behind_a_refused_one_is_not_read(served: Rig) -> None:
    bad = request(HOST, b"content-length: 3", CHUNKED, body=b"0\r\n\r\n")
    got = await served.raw(bad + post())
    assert statuses(got) == [400]
    assert completion("ok") not in got


@pytest.mark.parametrize(
    "line",
    [
        b"x: \xff\xfe",
        b"x-session-id: \xc3\x28",
        b"user-agent: \x80\x81",
    ],
)
async def test_header_values_that_are_no_text_are_taken_as_bytes(served: Rig, line: bytes) -> None:
    wire = request(HOST, line, length(BODY), body=BODY)
    assert statuses(await served.raw(wire, wait_s=0.5)) == [200]


@pytest.mark.parametrize(
    "wire",
    [
        request(HOST, b"\xff: y"),
        request(HOST, b"x\xc3\xa9: y"),
        request(HOST, b"x: a\0b"),
        request(HOST, b"x: a\rb"),
        request(b"host: \xff"),
        request(HOST, path=b"/v1/\xff"),
        request(HOST, method=b"P\xffST"),
        b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\r\n\r\n",
        b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\nauthorization: \xff\xff\r\n\r\n",
    ],
)
async def test_bytes_that_do_not_belong_there_are_refused(served: Rig, wire: bytes) -> None:
    got = await served.raw(wire)
    assert len(statuses(got)) == 1
    assert statuses(got)[0] in (400, 401)
    assert is_closed(got)


GOOD_CHUNKS = chunked(b"abc", b"x" * 300) + b"what follows is not looked at"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_chunks_are_followed_however_they_are_cut(step: int) -> None:
    framing = ChunkFraming(1000)
    for start in range(0, len(GOOD_CHUNKS), step):
        assert framing.feed(GOOD_CHUNKS[start : start + step])
    assert framing.is_over


@pytest.mark.parametrize(
    "wire",
    [
        b"3;a\r\n",
        b"3 \r\n",
        b" 3\r\n",
        b"\r\n",
        b"3\n",
        b"g\r\n",
        b"3\r\r\n",
        b"0" * 17,
        b"3\rx",
        b"3e9\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_another_beginning_of_a_chunk_is_refused(wire: bytes, step: int) -> None:
    framing = ChunkFraming(1000)
    pieces = [wire[start : start + step] for start in range(0, len(wire), step)]
    assert not all(framing.feed(piece) for piece in pieces)


class Counting(Host):
    """Counts the parts of bodies."""

    parts = 0

    def hold_body(self, size: int, held: int = 0) -> bool:
        self.parts += 1
        return super().hold_body(size, held)


def test_chunks_that_are_all_framing_are_refused_after_few_of_them() -> None:
    """However many come in one read: each takes more time to be read than to be sent."""
    host = Counting()
    fed = feed([request(HOST, CHUNKED, body=b"1\r\n \r\n" * 10_000)], host)
    assert b"more chunk framing than content" in fed.transport.written
    assert 1_000 < host.parts < 2_500


@pytest.mark.parametrize("cut", [1, 50, 4_000, 4_096, 4_097, 10_000, 40_000])
def test_a_body_in_small_chunks_is_the_same_in_whatever_pieces_it_comes(cut: int) -> None:
    wire = request(HOST, CHUNKED, body=chunked(*[b"     "] * 7_000, BODY))
    for pieces in ([wire], [wire[:cut], wire[cut:]]):
        host = Counting()
        fed = feed(pieces, host)
        assert statuses(fed.transport.written) == [503], "it was read, and nobody answers it"
        assert host.parts >= 7_001
        assert fed.connection.is_idle


def test_what_is_behind_a_body_in_chunks_ends_the_connection() -> None:
    for size in (BODY, BODY + b" " * 10_000):
        fed = feed([request(HOST, CHUNKED, body=chunked(size)) + b"GET / HTTP/1.1\r\n"])
        assert statuses(fed.transport.written) == [503]
        assert b"connection: close" in fed.transport.written
