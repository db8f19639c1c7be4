"""Slow and idle floods: they end in time, push each other out, and honest clients are served."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from attack import (
    BODY,
    HOST,
    PATH,
    Bystander,
    descriptors,
    given_back,
    is_closed,
    length,
    post,
    request,
    resident_bytes,
    statuses,
)
from gateway_rig import (
    CHAT,
    A,
    Asked,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    event,
    head,
    route,
    snapshot,
    until,
)
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway import limits
from fairlead.gateway.front.connections import Connections, site_of

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

SOCKETS = int(os.environ.get("FAIRLEAD_FLOOD_SOCKETS", "1000"))
STREAM = json.dumps({**CHAT, "stream": True}).encode()


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Both ends of each socket are in this process; gives back how many sockets there can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(SOCKETS, (hard - 500) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(rig: Rig, data: bytes = b"") -> Opened:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1024)
    writer.write(data)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that still comes, until the gateway closes."""
    got = b""
    try:
        while piece := await reader.read(65536):
            got += piece
    except ConnectionError:
        pass
    return got


def close(connections: list[Opened]) -> None:
    for _, writer in connections:
        writer.close()


# When there is no room


async def test_when_full_the_oldest_that_has_shown_no_key_goes_and_the_newcomer_is_served(
    served: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 4)
    known = await opened(served, post())
    await known[0].readuntil(b"\r\n\r\n")
    await known[0].readexactly(len(completion("ok")))
    silent = [await opened(served) for _ in range(3)]
    newcomer = await opened(served, post())
    assert statuses(await ended(silent[0][0])) == [503]
    assert (await newcomer[0].readline()).startswith(b"HTTP/1.1 200")
    # The one that has shown its key goes on, though it is the oldest of all.
    known[1].write(post())
    assert (await known[0].readline()).startswith(b"HTTP/1.1 200")
    assert not silent[1][0].at_eof()
    close([known, newcomer, *silent])


async def test_when_all_others_are_known_the_newcomer_is_told_that_there_is_no_room(
    served: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 2)
    known = [await opened(served, post()) for _ in range(2)]
    for reader, _ in known:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert statuses(await served.raw(b"")) == [503]
    close(known)


async def test_one_address_can_have_only_so_many(
    served: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_ADDRESS_MAX", 2)
    silent = [await opened(served) for _ in range(3)]
    assert statuses(await ended(silent[0][0])) == [503]
    assert statuses(await served.raw(post(), wait_s=1)) == [200]
    close(silent)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "20010db800010002"),
        ("2001:db8:1:2::9", "20010db800010002"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("", ""),
        (":", ":"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, site: str) -> None:
    assert site_of(address) == site


@given(st.lists(st.tuples(st.sampled_from(["enter", "known", "leave"]), st.integers(0, 9))))
def test_only_strangers_are_sent_away_the_oldest_first_and_all_is_given_back(
    steps: list[tuple[str, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CONNECTIONS_MAX", 5)
        patch.setattr(limits, "CONNECTIONS_PER_ADDRESS_MAX", 3)
        connections: Connections[int] = Connections()
        inside: dict[int, bool] = {}
        for what, number in steps:
            if what == "enter" and number not in inside:
                alike = [n for n in inside if n % 2 == number % 2]
                rivals = alike if len(alike) >= 3 else list(inside) if len(inside) >= 5 else None
                leaver = connections.enter(number, f"192.0.2.{number % 2}")
                strangers = [n for n in rivals or () if not inside[n]]
                assert leaver == (None if rivals is None else (*strangers, number)[0])
                inside[number] = False
                if leaver is not None:
                    connections.leave(leaver)
                    del inside[leaver]
            elif what == "known" and number in inside:
                connections.known(number)
                inside[number] = True
            elif what == "leave":
                connections.leave(number)
                inside.pop(number, None)
            assert list(connections) == list(inside)
            assert len(connections) == len(inside) <= 5
        for number in list(inside):
            connections.leave(number)
        assert not any(vars(connections).values())


# When they are slow


async def test_without_a_key_a_connection_is_idle_for_a_short_time_only(
    served: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_S", 0.3)
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    stranger, known = await asyncio.gather(served.raw(ask, wait_s=10), served.raw(post(), wait_s=2))
    assert statuses(stranger) == [200]
    assert is_closed(stranger)
    assert not is_closed(known)


async def _drips(rig: Rig, wire: bytes, start: int = 0) -> bytes:
    """Send a byte now and then from `start` on; what comes back until the gateway closes."""
    reader, writer = await opened(rig, wire[:start])

    async def drip() -> None:
        for byte in wire[start:]:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    finally:
        dripping.cancel()
        writer.close()


async def test_heads_bodies_and_chunks_that_come_byte_by_byte_are_ended(
    served: Rig, monkeypatch: pytest.MonkeyPatch, bystander: Bystander
) -> None:
    monkeypatch.setattr(limits, "HEADER_S", 0.5)
    monkeypatch.setattr(limits, "BODY_PART_S", 0.5)
    before = descriptors()
    head = request(HOST, *[b"x: y"] * 90)
    body = request(HOST, b"content-length: 5000", body=b"x" * 5000)
    chunks = request(HOST, b"transfer-encoding: chunked", body=b"1\r\nx\r\n" * 1000)
    got = await asyncio.gather(
        _drips(served, head),
        _drips(served, body, body.index(b"\r\n\r\n") + 4),
        _drips(served, chunks, chunks.index(b"\r\n\r\n") + 4),
    )
    assert [statuses(answer) for answer in got] == [[408]] * 3
    await bystander.was_served()
    await given_back(served, before + 4)


async def test_a_body_has_time_for_16_kib_a_second_and_no_less(
    served: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at 64 KiB/s is taken in; one at 8 KiB/s is ended though it never pauses."""
    assert limits.BODY_BYTES_PER_S_MIN == 16 * 1024
    monkeypatch.setattr(limits, "BODY_PART_S", 0.5)
    said = [{"role": "user", "content": "x" * 128 * 1024}]
    body = json.dumps({**CHAT, "messages": said}).encode()
    wire = request(HOST, length(body), body=body)

    async def sends(bytes_a_tick: int) -> tuple[bytes, int, float]:
        """The answer, how much of the body was sent before it, and how long that took."""
        reader, writer = await opened(served, wire[: -len(body)])
        began, sent = time.monotonic(), 0
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        while sent < len(body) and not answer.done():
            writer.write(body[sent : sent + bytes_a_tick])
            sent += bytes_a_tick
            await asyncio.sleep(0.05)
        took = time.monotonic() - began
        got = await asyncio.wait_for(answer, 30)
        writer.close()
        return got, min(sent, len(body)), took

    (fast, _, fast_s), (slow, sent, slow_s) = await asyncio.gather(sends(3_277), sends(410))
    assert statuses(fast) == [200]
    assert fast_s > 1.0, "longer than a body without any bytes would have had"
    assert statuses(slow) == [408]
    assert sent < len(body) / 2
    assert slow_s > 0.5 + sent / limits.BODY_BYTES_PER_S_MIN - 0.2, "and not before its time"


async def test_a_stalled_reader_pauses_its_replica_and_is_dropped(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if not asked.json.get("stream"):
            await answers("ok")(asked, writer)
            return
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        block = chunk(event("x" * 30_000))
        while True:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    monkeypatch.setattr(limits, "CLIENT_STALL_S", 1.0)
    one = await engine(floods)
    rig = await serve(snapshot(route(A, one, slots=64)))
    before, memory = descriptors(), resident_bytes()
    stalled = [await opened(rig, post(STREAM)) for _ in range(20)]
    honest = Bystander(rig.port)
    await until(lambda: len(one.asked) >= 20, within_s=30)
    await honest.ask()
    await until(lambda: one.hung_up >= 20, within_s=60)
    await honest.ask()
    assert honest.failed == []
    assert sent < 20 * 20_000_000  # What the kernel's buffers took; without a pause it goes on.
    assert resident_bytes() - memory < 20 * 8_000_000
    assert [r.status for r in rig.requests()].count(499) == 20
    close(stalled)
    await given_back(rig, before + 6)


# Many of them


async def test_a_flood_in_three_forms_is_ended_and_honest_clients_are_served_meanwhile(
    served: Rig, monkeypatch: pytest.MonkeyPatch, many_descriptors: int, bystander: Bystander
) -> None:
    """Heads that do not end, bodies that do not come, answers that are not read."""
    for name in ("FIRST_REQUEST_S", "HEADER_S", "BODY_PART_S"):
        monkeypatch.setattr(limits, name, 3.0)
    before = descriptors()
    forms = [
        b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\n",
        request(HOST, length(BODY), body=BODY[:-1]),
        b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ]
    flood: list[Opened] = []
    for start in range(0, many_descriptors, 50):
        count = min(50, many_descriptors - start)
        flood += await asyncio.gather(
            *(opened(served, forms[n % 3]) for n in range(start, start + count))
        )
    await bystander.was_served()
    assert served.worker is not None
    worker = served.worker
    await until(lambda: worker.connection_count <= 2, within_s=90)
    await bystander.was_served()
    close(flood)
    await given_back(served, before + 6)


async def test_a_flood_larger_than_all_room_costs_honest_clients_nothing(
    served: Rig, monkeypatch: pytest.MonkeyPatch, bystander: Bystander
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 50)
    before = descriptors()
    flood: list[Opened] = []
    for _ in range(30):
        flood += await asyncio.gather(*(opened(served) for _ in range(10)))
    await bystander.was_served()
    assert served.worker is not None
    assert served.worker.connection_count <= 60
    close(flood)
    await given_back(served, before + 6)
