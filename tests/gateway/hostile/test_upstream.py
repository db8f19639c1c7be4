"""Hostile replicas: whatever one answers, the client sees a well-formed end, and nothing leaks."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import h11
import pytest
from attack import Bystander, descriptors, given_back, request, resident_bytes
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Behaviour,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    event,
    hangs,
    reset,
    route,
    snapshot,
    until,
)

from fairlead.gateway.streams.events import EventSplitter, EventTooLarge
from fairlead.wire.snapshot import Limits

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

TIMEOUT_S = 2.0
LIMITS = Limits(queue_timeout_s=2.0, request_timeout_s=TIMEOUT_S, attempts=2)
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
SSE = b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
WHOLE = completion("ok")
DONE = b"data: [DONE]\n\n"


def says(*pieces: bytes, closes: bool = True) -> Behaviour:
    """Sends these bytes as they are; then closes, or is silent for ever."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if closes:
            writer.close()
        else:
            await hangs(asked, writer)

    return behave


def cuts(data: bytes) -> Behaviour:
    """Sends this, then resets the connection."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)
        reset(writer)

    return behave


def forever(first: bytes, again: bytes) -> Behaviour:
    """Never stops sending."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.001)

    return behave


def length(count: int) -> bytes:
    return b"content-length: %d\r\n" % count


def plain(*headers: bytes, body: bytes = WHOLE, status: bytes = OK) -> bytes:
    return status + JSON + b"".join(headers) + b"\r\n" + body


FULL = plain(length(len(WHOLE)))
SINGLE = b"".join(chunk(WHOLE[n : n + 1]) for n in range(len(WHOLE))) + chunk(b"")
STREAM = OK + SSE + CHUNKED + b"\r\n"
EVENT = chunk(event("a"))
FINISHED = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
TALK = event('"finish_reason": "stop"')
END = chunk(DONE) + chunk(b"")

# What the client of a plain answer may see: `ok` is the whole answer, `error` an error in our form,
# `cut` the end of the connection where a well-formed end would be a lie.
PLAIN: dict[str, tuple[Behaviour, set[str]]] = {
    "honest": (says(FULL), {"ok"}),
    "endless headers": (forever(OK, b"x: y\r\n"), {"error"}),
    "a header without an end": (forever(OK + b"x: ", b"y" * 60_000), {"error"}),
    "a name without an end": (forever(OK, b"x" * 60_000), {"error"}),
    "a reason without an end": (forever(b"HTTP/1.1 200 ", b"x" * 60_000), {"error"}),
    "interim answers without an end": (forever(b"", b"HTTP/1.1 103 E\r\nx: y\r\n\r\n"), {"error"}),
    "100 x 103": (says(b"HTTP/1.1 103 E\r\nlink: x\r\n\r\n" * 100 + FULL), {"error"}),
    "one 103": (says(b"HTTP/1.1 103 E\r\ncontent-type: text/x\r\n\r\n" + FULL), {"ok"}),
    "101": (says(b"HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + FULL), {"error"}),
    "1-byte chunks": (says(plain(CHUNKED, body=SINGLE)), {"ok"}),
    "1-byte packets": (says(*(FULL[n : n + 1] for n in range(len(FULL)))), {"ok"}),
    "an extension without an end": (forever(plain(CHUNKED, body=b"3;"), b"x" * 60_000), {"error"}),
    "a chunk size beyond 64 bits": (says(plain(CHUNKED, body=b"1" * 20 + b"\r\n")), {"error"}),
    "a chunk size that is none": (says(plain(CHUNKED, body=b"zz\r\n")), {"error"}),
    "a negative chunk size": (says(plain(CHUNKED, body=b"-1\r\n")), {"error"}),
    "chunks that end early": (says(plain(CHUNKED, body=chunk(WHOLE))), {"error"}),
    "a length too large": (says(plain(length(len(WHOLE) + 9))), {"error"}),
    "a length too large, and silence": (says(plain(length(999)), closes=False), {"error"}),
    "a length too small": (says(plain(length(len(WHOLE) - 9))), {"error"}),
    "a length of 0": (says(plain(length(0))), {"error"}),
    "nothing": (says(plain(length(0), body=b"")), {"error"}),
    "nothing, in chunks": (says(plain(CHUNKED, body=chunk(b""))), {"error"}),
    "nothing, without framing": (says(plain(body=b"")), {"error"}),
    "two lengths": (says(plain(length(9), length(len(WHOLE)))), {"error"}),
    "two equal lengths": (says(plain(length(9), length(9))), {"error"}),
    "a length that is none": (says(plain(b"content-length: x\r\n")), {"error"}),
    "a negative length": (says(plain(b"content-length: -1\r\n")), {"error"}),
    "a length beyond 64 bits": (says(plain(length(10**30))), {"error"}),
    "a length of 1 EB": (says(plain(length(10**18)), closes=False), {"error", "cut"}),
    "length and chunks": (says(plain(length(9), CHUNKED, body=SINGLE)), {"error"}),
    "two codings": (says(plain(CHUNKED, CHUNKED, body=SINGLE)), {"error"}),
    "gzip in transfer": (says(plain(b"transfer-encoding: gzip, chunked\r\n", body=SINGLE)),
                         {"ok", "error"}),
    "gzip though identity was asked": (
        says(plain(b"content-encoding: gzip\r\n", body=gzip.compress(WHOLE))), {"error"}),
    "a bomb of gzip": (
        says(plain(b"content-encoding: gzip\r\n", body=gzip.compress(b"0" * 9_000_000))),
        {"error"}),
    "a redirect": (says(plain(b"location: http://169.254.169.254/\r\n", length(0), body=b"",
                              status=b"HTTP/1.1 302 F\r\n")), {"error"}),
    "a redirect that keeps the method": (says(plain(b"location: /x\r\n", length(0), body=b"",
                                              status=b"HTTP/1.1 307 F\r\n")), {"error"}),
    "204": (says(b"HTTP/1.1 204 N\r\n\r\n"), {"error"}),
    "206": (says(plain(length(len(WHOLE)), status=b"HTTP/1.1 206 P\r\n")), {"error"}),
    "304": (says(b"HTTP/1.1 304 N\r\n\r\n"), {"error"}),
    "a status of 999": (says(b"HTTP/1.1 999 X\r\n" + length(2) + b"\r\n{}"), {"error"}),
    "a status of 0": (says(b"HTTP/1.1 000 X\r\n" + length(2) + b"\r\n{}"), {"error"}),
    "a status that is none": (says(b"HTTP/1.1 abc X\r\n\r\n"), {"error"}),
    "not HTTP": (says(b"SSH-2.0-OpenSSH_9\r\n"), {"error"}),
    "HTTP/2": (says(b"HTTP/2.0 200 OK\r\n\r\n"), {"error"}),
    "HTTP/0.9": (says(WHOLE), {"error"}),
    "a request": (says(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), {"error"}),
    "zeros": (forever(b"", b"\0" * 60_000), {"error"}),
    "NUL in a value": (says(plain(b"x: a\0b\r\n", length(len(WHOLE)))), {"error"}),
    "NUL in a name": (says(plain(b"x\0: b\r\n", length(len(WHOLE)))), {"error"}),
    "CR in a value": (says(plain(b"retry-after: 1\rset-cookie: a=b\r\n", length(len(WHOLE)))),
                      {"error"}),
    "LF in a value": (says(plain(b"retry-after: 1\nset-cookie: a=b\r\n", length(len(WHOLE)))),
                      {"ok", "error"}),
    "a folded value": (says(plain(b"retry-after: 1\r\n set-cookie: a\r\n", length(len(WHOLE)))),
                       {"ok", "error"}),
    "headers that are not to pass": (says(plain(b"set-cookie: a=b\r\nx-request-id: mine\r\n",
                                                length(len(WHOLE)))), {"ok"}),
    "bytes that are no text in a type": (
        says(OK + b"content-type: \xff\xfe\r\n" + length(len(WHOLE)) + b"\r\n" + WHOLE), {"ok"}),
    "no type": (says(OK + length(len(WHOLE)) + b"\r\n" + WHOLE), {"ok"}),
    "two types": (says(plain(b"content-type: text/html\r\n", length(len(WHOLE)))), {"error"}),
    "a stream by its type, JSON by content": (
        says(OK + SSE + length(len(WHOLE)) + b"\r\n" + WHOLE), {"error"}),
    "no framing, half of the JSON": (says(plain(body=WHOLE[:-5])), {"error"}),
    "no framing, all of the JSON": (says(plain()), {"ok"}),
    "two answers": (says(FULL + FULL), {"ok"}),
    "two different answers": (says(FULL + plain(length(3), body=b"abc")), {"ok"}),
    "an answer and another's type": (says(FULL + b"HTTP/1.1 200 O\r\ncontent-type: x/y\r\n\r\n"),
                                     {"ok"}),
    "a trailer": (says(plain(CHUNKED, body=chunk(WHOLE) + b"0\r\nx: y\r\n\r\n")), {"ok"}),
    "a trailer with a type": (
        says(plain(CHUNKED, body=chunk(WHOLE) + b"0\r\ncontent-type: x/y\r\n\r\n")), {"ok"}),
    "a trailer without an end": (
        forever(plain(CHUNKED, body=chunk(WHOLE) + b"0\r\nx: "), b"y" * 60_000), {"error"}),
    "a large answer, then a cut": (cuts(plain(length(9_000_000), body=b"0" * 3_000_000)), {"cut"}),
    "an answer without an end": (forever(plain(CHUNKED, body=b""), chunk(b"0" * 60_000)), {"cut"}),
    "silence": (says(closes=False), {"error"}),
    "closed at once": (says(), {"error"}),
    "cut at once": (cuts(b""), {"error"}),
    "cut in the status line": (cuts(FULL[:9]), {"error"}),
    "cut in a header": (cuts(FULL[:30]), {"error"}),
    "cut after the head": (cuts(FULL[: FULL.index(b"\r\n\r\n") + 4]), {"error"}),
    "cut in the body": (cuts(FULL[:-5]), {"error"}),
    "cut in a chunk": (cuts(plain(CHUNKED, body=chunk(WHOLE)[:-9])), {"error"}),
    "closed in the head": (says(FULL[:30]), {"error"}),
}  # fmt: skip

# Of a stream: `done` is its well-formed end, `event` an error event in its place.
STREAMS: dict[str, tuple[Behaviour, set[str]]] = {
    "honest": (says(STREAM + EVENT + chunk(DONE) + chunk(b"")), {"done"}),
    "no end": (forever(STREAM, EVENT), {"event"}),
    "comments without an end": (forever(STREAM, chunk(b": ping\n\n")), {"event"}),
    "nothing after the head": (says(STREAM, closes=False), {"error"}),
    "silence after an event": (says(STREAM + EVENT, closes=False), {"event"}),
    "an event of 2 MB": (says(STREAM + EVENT + chunk(b"data: " + b"x" * 2_000_000 + b"\n\n")),
                         {"event"}),
    "an event without an end": (forever(STREAM + EVENT, chunk(b"x" * 60_000)), {"event"}),
    "a first event without an end": (forever(STREAM, chunk(b"x" * 60_000)), {"error"}),
    "an event in 1-byte chunks": (
        says(STREAM + b"".join(chunk(bytes((b,))) for b in event("a") + DONE) + chunk(b"")),
        {"done"}),
    "an event of 2 MB in 1-byte chunks": (
        says(STREAM + EVENT + b"1\r\nx\r\n" * 2_000_000), {"event"}),
    "an extension without an end": (forever(STREAM + EVENT + b"3;", b"x" * 60_000), {"event"}),
    "a cut before the first event": (cuts(STREAM), {"error"}),
    "a cut after an event": (cuts(STREAM + EVENT), {"event"}),
    "a cut within an event": (cuts(STREAM + EVENT + EVENT[:20]), {"event"}),
    "a close after an event": (says(STREAM + EVENT), {"event"}),
    "a bad chunk after an event": (says(STREAM + EVENT + b"zz\r\n"), {"event"}),
    "an end without DONE": (says(STREAM + EVENT + chunk(b"")), {"event"}),
    "an end without DONE, with a reason": (
        says(STREAM + EVENT + chunk(FINISHED) + chunk(b"")), {"framed"}),
    "a reason, and then an event without one": (
        says(STREAM + EVENT + chunk(FINISHED) + chunk(b'data: {"choices": []}\n\n') + chunk(b"")),
        {"framed"}),
    "an end without DONE, with the usage": (
        says(STREAM + EVENT + chunk(USAGE) + chunk(b"")), {"framed"}),
    "a reason that is only talked of": (
        says(STREAM + chunk(TALK) + chunk(b"")), {"event"}),
    "a DONE without a blank line": (says(STREAM + EVENT + chunk(DONE[:-1]) + chunk(b"")),
                                    {"done", "framed"}),
    "another API's end without a space": (
        says(STREAM + chunk(b'event:message_stop\ndata:{"type":"message_stop"}\n\n') + chunk(b"")),
        {"framed"}),
    "another API's end behind a number": (
        says(STREAM + chunk(b'id: 7\nevent: message_stop\ndata: {"type": "message_stop"}\n\n')
             + chunk(b"")), {"framed"}),
    "another API's end in data alone": (
        says(STREAM + chunk(b'data: {"type" : "response.completed"}\r\n\r\n') + chunk(b"")),
        {"framed"}),
    "a reason with spaces": (
        says(STREAM + EVENT + chunk(b'data: {"choices":[{"finish_reason" : "stop"}]}\n\n')
             + chunk(b"")), {"framed"}),
    "a reason that is empty": (
        says(STREAM + EVENT + chunk(b'data: {"choices":[{"finish_reason":""}]}\n\n') + chunk(b"")),
        {"event"}),
    "another API's end that does not come": (
        says(STREAM + chunk(b'event: content_block_delta\ndata: {"delta": {}}\n\n') + chunk(b"")),
        {"event"}),
    "an empty stream": (says(STREAM + chunk(b"")), {"error"}),
    "events after DONE": (says(STREAM + EVENT + chunk(DONE) + EVENT + chunk(b"")), {"done"}),
    "DONE, and then silence": (says(STREAM + EVENT + chunk(DONE), closes=False), {"done"}),
    "bytes that are no text": (says(STREAM + chunk(b"data: \xff\xfe\n\n") + END), {"done"}),
    "zeros in an event": (says(STREAM + chunk(b"data: \0\0\n\n") + END), {"done"}),
    "JSON of 10,000 levels": (
        says(STREAM + chunk(b'data: {"usage":' + b"[" * 10_000 + b"\n\n") + END),
        {"done"}),
    "a trailer": (says(STREAM + EVENT + chunk(DONE) + b"0\r\nx: y\r\n\r\n"), {"done"}),
    "gzip": (says(OK + SSE + b"content-encoding: gzip\r\n" + CHUNKED + b"\r\n"
                  + chunk(gzip.compress(event("a") + DONE)) + chunk(b"")), {"error"}),
    "another answer behind it": (says(STREAM + EVENT + chunk(DONE) + chunk(b"") + FULL), {"done"}),
    "a plain answer instead": (says(FULL), {"ok"}),
}  # fmt: skip


class Answer:
    """An answer as h11 reads it; raises what h11 does when it is not well-formed."""

    def __init__(self, wire: bytes) -> None:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(wire)
        connection.receive_data(b"")
        self.body = b""
        self.is_whole = False
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                assert "peer closed connection" in str(error)  # noqa: PT017
                return
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = dict(event.headers)
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.is_whole = True
                assert connection.trailing_data == (b"", True)
                return

    @property
    def kind(self) -> str:
        """How it ended, in the words of the tables."""
        if not self.is_whole:
            return "cut"
        assert b"set-cookie" not in self.headers
        if self.headers[b"content-type"].startswith(b"text/event-stream"):
            last = [e for e in self.body.split(b"\n\n") if e][-1]
            if last == b"data: [DONE]":
                return "done"
            is_error = last.startswith(b'data: {"error"')
            if is_error:
                assert json.loads(last[6:])["error"]["code"]
            return "event" if is_error else "framed"
        if self.status == 200:
            return "ok"
        assert json.loads(self.body)["error"]["code"]
        return "error"


async def ask(rig: Rig, *, stream: bool) -> Answer:
    body = json.dumps({**CHAT, "stream": stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    size = b"content-length: %d" % len(body)
    writer.write(request(b"host: x", size, b"connection: close", body=body))
    got = b""
    try:
        async with asyncio.timeout(60):
            while piece := await reader.read(1 << 20):
                got = got[-40_000_000:] + piece
    except ConnectionError:
        pass
    writer.close()
    return Answer(got)


async def _judge(
    rig: Rig, behave: Behaviour, expected: set[str], hostile: Engine, *, stream: bool
) -> None:
    hostile.behave = behave
    before, memory = descriptors(), resident_bytes()
    answer = await ask(rig, stream=stream)
    assert answer.kind in expected
    if answer.kind == "ok" and len(expected) == 1:
        assert answer.body == WHOLE
        assert b"x/y" not in answer.headers[b"content-type"]
    assert answer.headers[b"x-request-id"].startswith(b"req_")
    assert resident_bytes() - memory < 150_000_000
    await given_back(rig, before + 3)  # The spool's segment, and what ends with the client.
    await until(lambda: len(rig.requests()) == 1)


@pytest.mark.parametrize("name", PLAIN)
async def test_of_a_plain_answer_the_client_sees_all_or_an_error(
    engine: StartEngine, serve: Serve, name: str
) -> None:
    behave, expected = PLAIN[name]
    hostile = await engine()
    rig = await serve(snapshot(route(A, hostile), limits=LIMITS))
    await _judge(rig, behave, expected, hostile, stream=False)


@pytest.mark.parametrize("name", STREAMS)
async def test_of_a_stream_the_client_sees_its_end_or_an_error_event(
    engine: StartEngine, serve: Serve, name: str
) -> None:
    behave, expected = STREAMS[name]
    hostile = await engine()
    rig = await serve(snapshot(route(A, hostile), limits=LIMITS))
    await _judge(rig, behave, expected, hostile, stream=True)


async def test_an_empty_answer_is_none_and_another_replica_is_asked(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = await engine(answers("ok")), await engine(answers("ok"))
    rig = await serve(snapshot(route(A, one, two), limits=LIMITS))
    async with rig.client() as client:
        for number in range(8):
            if number == 4:  # By now the heads of answers are known on open connections.
                one.behave = answers(body=b"")
            answer = await client.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.content) == (200, WHOLE)
    assert len(one.asked) > 1
    assert 2 in {record.attempts for record in rig.requests()}


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(PLAIN) + len(STREAMS) >= 40


async def test_hostile_replicas_do_not_hold_up_the_requests_to_an_honest_one(
    engine: StartEngine, serve: Serve
) -> None:
    """Three events of 2 MB at once, each in 1-byte chunks."""
    honest = await engine(answers("ok"))
    hostile = await engine(PLAIN["an answer without an end"][0])

    async def by_stream(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.json.get("stream"):
            await STREAMS["an event of 2 MB in 1-byte chunks"][0](asked, writer)
        else:
            await answers("ok")(asked, writer)

    honest.behave = by_stream
    rig = await serve(snapshot(route(A, honest, slots=64), route(B, hostile), limits=LIMITS))
    before = descriptors()
    bystander = Bystander(rig.port)
    task = asyncio.ensure_future(bystander.run())
    got = await asyncio.gather(*(ask(rig, stream=True) for _ in range(3)))
    assert {answer.kind for answer in got} == {"event"}
    await bystander.was_served()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await given_back(rig, before + 4)


def test_an_event_in_single_bytes_costs_no_more_than_its_bytes() -> None:
    splitter = EventSplitter()
    for _ in range(300_000):  # Copied at each of them, this would take minutes.
        assert splitter.feed(b"x") == []
    assert splitter.feed(b"\n\nnext") == [b"x" * 300_000 + b"\n\n"]
    assert splitter.rest == b"next"
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x" * 2_000_000)
