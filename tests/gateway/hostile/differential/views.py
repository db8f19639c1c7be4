"""What the gateway and h11 read from the same bytes, and what it means when that differs."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import msgspec
from parser_rig import Seen, feed, seeing, split

from fairlead.gateway.front import request_reader


class View(msgspec.Struct):
    """What one reader made of some bytes.

    Attributes:
        is_over: It reads nothing more on this connection: it refused, or ends it with its answer.
            False when it waits for more.
        why: What it refused with, where it says.
    """

    requests: list[Seen]
    is_over: bool
    why: str = ""


class Verdict(enum.Enum):
    """Two views of the same bytes. The value is the explanation for a report."""

    SAME = "both read the same requests"
    NOTHING = "neither reads a request"
    WE_REFUSE = (
        "the same as far as the gateway reads; then it refuses, or closes, and the other goes on"
    )
    THEY_REFUSE = "the same as far as the other reads; then it refuses, or closes"
    DIFFERENT = "a request with another path or body"
    WE_WAIT = "the other has read a request, and the gateway takes what comes next for a part of it"
    THEY_WAIT = (
        "the gateway has read a request, and the other takes what comes next for a part of it"
    )

    @property
    def is_safe(self) -> bool:
        """Whether no bytes are a request for one and a part of another for the other."""
        return self not in (Verdict.DIFFERENT, Verdict.WE_WAIT, Verdict.THEY_WAIT)


def judge(ours: View, theirs: View) -> Verdict:
    """Compare what the gateway read with what another implementation did."""
    both = min(len(ours.requests), len(theirs.requests))
    if ours.requests[:both] != theirs.requests[:both]:
        return Verdict.DIFFERENT
    if len(ours.requests) == len(theirs.requests):
        return Verdict.SAME if both else Verdict.NOTHING
    if len(ours.requests) < len(theirs.requests):
        return Verdict.WE_REFUSE if ours.is_over else Verdict.WE_WAIT
    return Verdict.THEY_REFUSE if theirs.is_over else Verdict.THEY_WAIT


@contextmanager
def seen_by_us(*, answers: bool) -> Iterator[list[Seen]]:
    """While this lasts, every request that the gateway reads is noted, whatever its path."""
    seen: list[Seen] = []
    before = request_reader.find_operation
    request_reader.find_operation = seeing(seen, answers=answers)
    try:
        yield seen
    finally:
        request_reader.find_operation = before


def by_gateway(wire: bytes, cuts: list[int], *, answers: bool = True) -> View:
    """What the gateway reads, when each request is answered at once (or never)."""
    with seen_by_us(answers=answers) as seen:
        transport = feed(split(wire, cuts)).transport
    _, _, code = transport.written.rpartition(b'"code":"')
    is_refused = transport.written.rfind(b"HTTP/1.1 4") >= 0
    return View(
        requests=list(seen),
        is_over=not transport.takes_more,
        why=code.partition(b'"')[0].decode() if is_refused else "",
    )


def by_h11(wire: bytes) -> View:
    """What h11 reads, as a server that answers each request at once."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(wire)
    found: list[Seen] = []
    path, body = "", b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                path, body = event.target.decode("latin-1").partition("?")[0], b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found.append(Seen(path=path, body=body))
                _answer(connection)
                if connection.our_state is not h11.DONE:
                    return View(requests=found, is_over=True)
                # RFC 9112, 2.2: empty lines before a request are to be ignored. h11 does not.
                rest = connection.trailing_data[0].lstrip(b"\r\n")
                connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
                connection.receive_data(rest)
            else:
                return View(requests=found, is_over=False)
    except h11.RemoteProtocolError as error:
        return View(requests=found, is_over=True, why=str(error))


def _answer(connection: h11.Connection) -> None:
    """404, as a 200 to CONNECT would end the protocol; `must close` ends it, as it does with us."""
    if connection.our_state in (h11.SEND_RESPONSE, h11.MIGHT_SWITCH_PROTOCOL):
        head = h11.Response(status_code=404, headers=[("content-length", "0")])
        connection.send(head)
        connection.send(h11.EndOfMessage())


def compare_with_h11(wire: bytes, cuts: list[int]) -> tuple[Verdict, View, View]:
    """Judge one message; when nothing is answered, the gateway reads at most one request."""
    theirs = by_h11(wire)
    unanswered = by_gateway(wire, cuts, answers=False)
    assert unanswered.requests == theirs.requests[: len(unanswered.requests)], wire
    assert len(unanswered.requests) <= 1, wire
    ours = by_gateway(wire, cuts)
    return judge(ours, theirs), ours, theirs
