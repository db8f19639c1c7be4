"""A client that sends much at once takes turns with others."""

from __future__ import annotations

import asyncio

from attack import HOST, request
from parser_rig import feed

from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import BODY_BYTES_PER_S_MIN, BODY_PART_S, LINGER_S

_BODY = b'{"model":"bank","x":"' + b"x" * 90_000 + b'"}'
_WIRE = request(HOST, b"content-length: %d" % len(_BODY), body=_BODY)


async def test_after_much_of_a_body_the_rest_is_read_in_the_next_turn() -> None:
    fed = feed([_WIRE[:-10]])
    assert not fed.transport.is_reading()
    await asyncio.sleep(0)
    assert fed.transport.is_reading()
    fed.connection.data_received(_WIRE[-10:])
    assert b"no_release" in fed.transport.written


async def test_a_request_that_has_come_whole_is_held_up_by_nothing() -> None:
    fed = feed([_WIRE])
    assert b"no_release" in fed.transport.written
    assert fed.transport.is_reading()


async def test_a_connection_that_was_closed_meanwhile_is_left_alone() -> None:
    fed = feed([_WIRE[:-10]])
    fed.transport.abort()
    fed.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not fed.transport._is_reading  # nobody told a closed transport to go on


def test_who_is_refused_while_it_sends_has_as_long_to_send_on_as_bodies_have() -> None:
    """And gets the answer then; one that stops sending is cut off soon, however much it sent."""
    now = Clock().now()
    fed = feed([request(HOST, b"content-length: 200000")])
    assert b" 413 " in fed.transport.written
    fed.connection.check(now + LINGER_S - 0.5)
    fed.connection.data_received(b"x" * BODY_BYTES_PER_S_MIN)
    fed.connection.check(now + LINGER_S + 0.5)
    assert not fed.transport.is_aborted
    for _ in range(16):
        fed.connection.data_received(b"x" * 65_536)
    fed.connection.check(now + LINGER_S + 2.0)
    assert not fed.transport.is_aborted
    fed.connection.check(Clock().now() + BODY_PART_S + 0.5)
    assert fed.transport.is_aborted
