"""Attackers by the thousand, and honest clients among them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
from collections.abc import Iterator
from typing import cast

import msgspec
from attack import BODY, HOST, PATH, length, request
from gateway_rig import completion

FORMS = {
    "header": b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\n",
    "body": request(HOST, length(BODY), body=BODY[:-1]),
    "read": b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
}
"""What each attacker sends: a head without an end, a body that lacks a byte, and a request whose
answer it does not read."""
_OPENED_AT_ONCE = 100
_ASK = request(HOST, length(BODY), body=BODY)
_ANSWER = completion("ok")
_ANSWERED_S = 60.0


@contextlib.contextmanager
def many_descriptors() -> Iterator[int]:
    """Takes as many file descriptors as this process may have; gives back how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Attacker(asyncio.Protocol):
    """Sends its form and reads nothing; says when it was dropped."""

    def __init__(self, flood: Flood, form: bytes) -> None:
        self._flood = flood
        self._form = form

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()
        self.transport.write(self._form)
        self._flood.inside.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._flood.inside.discard(self)


class Flood:
    """Keeps so many connections open: whenever some were dropped, others are opened."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._size = size
        self._forms = itertools.cycle(FORMS.values())
        # Several addresses, so that it is not the bound on one of them that ends the flood.
        self._sources = itertools.cycle(f"127.0.0.{n}" for n in range(2, 10))
        self.inside: set[Attacker] = set()
        self.opened = 0
        self.size_max = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            missing = min(_OPENED_AT_ONCE, self._size - len(self.inside))
            await asyncio.gather(*(self._open() for _ in range(missing)))
            self.size_max = max(self.size_max, len(self.inside))
            self._drop_ended()
            await asyncio.sleep(0.01)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        form = next(self._forms)
        with contextlib.suppress(OSError):
            await loop.create_connection(
                lambda: Attacker(self, form), "127.0.0.1", self._port,
                local_addr=(next(self._sources), 0),
            )  # fmt: skip
            self.opened += 1

    def _drop_ended(self) -> None:
        """One that does not read does not notice its end either: look at the socket."""
        for attacker in list(self.inside):
            if _has_ended(attacker.transport):
                self.inside.discard(attacker)
                attacker.transport.abort()

    def close(self) -> None:
        for attacker in list(self.inside):
            attacker.transport.abort()


def _has_ended(transport: asyncio.Transport) -> bool:
    """TCP_INFO's first byte is the state; 1 is `established`."""
    connection = transport.get_extra_info("socket")
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1
    except (OSError, AttributeError):
        return True


class Honest(msgspec.Struct):
    """What honest clients got: served, and what they got instead."""

    served: int = 0
    failed: list[bytes] = msgspec.field(default_factory=list)

    async def run(self, port: int, *, keeps: bool) -> None:
        """Ask one time after the other until cancelled, on one connection or a new one each."""
        while True:
            await self._on_one_connection(port, 1000 if keeps else 1)
            await asyncio.sleep(0)

    async def _on_one_connection(self, port: int, count: int) -> None:
        """Ask so many times, or until it fails."""
        writer: asyncio.StreamWriter | None = None
        got = b""
        try:
            for _ in range(count):
                async with asyncio.timeout(_ANSWERED_S):
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(_ASK)
                    got = await reader.readuntil(b"\r\n\r\n")
                    assert got.startswith(b"HTTP/1.1 200"), got
                    got = await reader.readexactly(len(_ANSWER))
                    assert got == _ANSWER, got
                self.served += 1
        except (OSError, EOFError, AssertionError) as error:
            self.failed.append(repr(error).encode()[:300])
        finally:
            if writer is not None:
                writer.close()

    @property
    def success(self) -> float:
        """Their share of answers."""
        return self.served / max(1, self.served + len(self.failed))
