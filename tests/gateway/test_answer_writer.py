"""A plain answer as its client gets it, byte by byte."""

from __future__ import annotations

from typing import Any, cast

from fairlead.gateway.front.answer_writer import AnswerWriter

BEHIND_THE_DATE = (
    b"\r\ncontent-type: application/json\r\nx-request-id: req_1\r\nx-fairlead-release: a\r\n"
    b"content-length: 2\r\n"
)


class Host:
    date = b"Sun, 01 Nov 2026 00:00:00 GMT"
    is_draining = False


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


class Owner:
    answers = 0

    def answered(self) -> None:
        self.answers += 1


def test_an_answer_is_one_write_with_the_present_date_and_says_when_it_is_the_last() -> None:
    host, owner, transport = Host(), Owner(), Transport()
    writer = AnswerWriter(cast(Any, host), owner)
    writer.transport = cast(Any, transport)
    writer.request_id = "req_1"

    def answered() -> bytes:
        writer.answer(200, b"application/json", b"{}", b"x-fairlead-release: a\r\n")
        return transport.written.pop()

    begin = b"HTTP/1.1 200 OK\r\ndate: "
    assert answered() == begin + host.date + BEHIND_THE_DATE + b"\r\n{}"
    host.date = b"Sun, 01 Nov 2026 00:00:01 GMT"
    assert answered() == begin + host.date + BEHIND_THE_DATE + b"\r\n{}"
    host.is_draining = True
    assert answered() == begin + host.date + BEHIND_THE_DATE + b"connection: close\r\n\r\n{}"
    assert writer.must_close
    assert owner.answers == 3
    assert not transport.written
