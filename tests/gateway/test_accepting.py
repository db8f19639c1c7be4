"""Workers that accept from one socket have about as many clients each; none waits for another."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from gateway_rig import listening_socket, until

from fairlead.gateway.front import accepting
from fairlead.gateway.front.accepting import Acceptor, accept
from fairlead.gateway.front.balance import SEEN_S, Balance, shared_counts

CLIENTS = 64


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counts() -> Iterator[int]:
    descriptor = shared_counts(2)
    assert descriptor is not None
    yield descriptor
    os.close(descriptor)


class Served(asyncio.Protocol):
    """Says its worker's name to whoever connects."""

    def __init__(self, worker: SmallWorker) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._worker.clients.add(self)
        self._worker.shows()
        transport.write(self._worker.name)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.clients.discard(self)
        self._worker.shows()


class SmallWorker:
    """Accepts clients, and does nothing else."""

    def __init__(self, number: int, counts: int) -> None:
        self.name = b"%d" % number
        self.clients: set[Served] = set()
        self.balance = Balance(os.dup(counts), number, time.monotonic)
        self.shows()

    def shows(self) -> None:
        self.balance.show(len(self.clients))

    @contextlib.asynccontextmanager
    async def accepting_from(self, listening: socket.socket) -> AsyncIterator[None]:
        """As a process does, it has the socket under a number of its own."""
        own = socket.socket(fileno=os.dup(listening.fileno()))
        own.setblocking(False)
        server = await accept(
            own, lambda: Served(self), self.balance, lambda: len(self.clients), {}
        )
        assert isinstance(server, Acceptor)
        try:
            yield
        finally:
            server.close()


async def connect(listening: socket.socket, count: int) -> list[asyncio.StreamWriter]:
    host, port = listening.getsockname()
    made = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(count)))
    await asyncio.gather(*(reader.readexactly(1) for reader, _ in made))
    return [writer for _, writer in made]


async def leave(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()


def test_a_worker_is_ahead_of_one_with_clearly_fewer_clients(counts: int) -> None:
    now = Time()
    mine, other = (Balance(os.dup(counts), number, now) for number in (0, 1))
    other.show(10)
    assert next(clients for clients in range(20) if mine.is_ahead(clients)) == 12
    other.show(100)
    assert next(clients for clients in range(200) if mine.is_ahead(clients)) == 108


def test_a_worker_that_has_not_shown_itself_is_not_waited_for(counts: int) -> None:
    now = Time()
    mine, other = (Balance(os.dup(counts), number, now) for number in (0, 1))
    assert not mine.is_ahead(1000)  # It has not begun yet.
    other.show(0)
    assert mine.is_ahead(2)
    now.now += SEEN_S
    assert not mine.is_ahead(1000)


def test_a_worker_alone_shares_nothing() -> None:
    assert shared_counts(1) is None
    alone = Balance(None, 0, Time())
    alone.show(5)
    assert not alone.is_shared
    assert not alone.is_ahead(1000)


async def test_clients_that_come_at_once_are_spread_evenly(counts: int) -> None:
    listening = listening_socket()
    one, two = SmallWorker(0, counts), SmallWorker(1, counts)
    async with one.accepting_from(listening), two.accepting_from(listening):
        writers = await connect(listening, CLIENTS)
        assert abs(len(one.clients) - len(two.clients)) <= 6
        # All of one worker's leave, as when it was restarted: it gets the next ones.
        for served in list(one.clients):
            one.clients.discard(served)
        one.shows()
        missing = len(two.clients)
        more = await connect(listening, missing)
        assert len(one.clients) >= missing - 3
        await leave(writers + more)
    listening.close()


async def test_no_client_waits_for_a_worker_that_does_not_accept(counts: int) -> None:
    """It hangs, but has shown itself just before."""
    listening = listening_socket()
    one, hanging = SmallWorker(0, counts), SmallWorker(1, counts)
    async with one.accepting_from(listening):
        showing = asyncio.create_task(shows_for_ever(hanging))
        writers = await connect(listening, CLIENTS)
        assert len(one.clients) == CLIENTS
        showing.cancel()
        await leave(writers)
    listening.close()


async def shows_for_ever(worker: SmallWorker) -> None:
    while True:
        worker.shows()
        await asyncio.sleep(0.01)


async def test_a_worker_without_descriptors_left_accepts_again_when_there_are_some(
    counts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = listening_socket()
    one = SmallWorker(0, counts)
    refusals = [OSError(errno.EMFILE, "too many open files")] * 2
    monkeypatch.setattr(accepting, "_NO_ROOM_S", 0.01)
    whole = socket.socket.accept

    def full(self: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            raise refusals.pop()
        return whole(self)

    monkeypatch.setattr(socket.socket, "accept", full)
    async with one.accepting_from(listening):
        writers = await connect(listening, 1)
        assert not refusals
        await leave(writers)
    listening.close()


async def test_after_the_end_nothing_is_accepted_but_what_was_stays(counts: int) -> None:
    listening = listening_socket()
    one, two = SmallWorker(0, counts), SmallWorker(1, counts)
    async with one.accepting_from(listening):
        first = await connect(listening, 1)
    assert len(one.clients) == 1
    connecting = asyncio.create_task(connect(listening, 1))
    async with two.accepting_from(listening):
        second = await connecting
    assert (len(one.clients), len(two.clients)) == (1, 1)
    await leave(first + second)
    await until(lambda: not one.clients and not two.clients)
    listening.close()
