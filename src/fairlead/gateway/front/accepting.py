"""Takes in clients from the socket that all workers share, each worker about as many as the others.

A worker that is ahead of another one (see `balance`) leaves the socket alone for a moment, and
again, as long as something waits there. No client waits for long for a worker that does not come:
after `PATIENCE` moments this one takes what there is.

A worker that is alone has the event loop's own server, which takes half of the time for it.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, TypedDict

from fairlead.gateway.front.balance import Balance

MOMENT_S = 0.001
PATIENCE = 50
"""Moments for which a waiting client is left to another worker."""
HURRY_S = 0.02
"""Seconds for which a worker then leaves nothing to others."""
_AT_ONCE = 8
"""Clients that are accepted in one turn of the event loop."""
_NO_ROOM_S = 0.1
"""Seconds until the next try, when there are no file descriptors left."""
_BACKLOG = 1024


class Tls(TypedDict, total=False):
    """What the event loop is told of TLS; nothing for plain HTTP."""

    ssl: ssl.SSLContext
    ssl_handshake_timeout: float
    ssl_shutdown_timeout: float


class Accepting(Protocol):
    """Takes in clients until it is closed."""

    def close(self) -> None:
        """Close the socket; what was accepted goes on."""


class Acceptor:
    """See the head of this file.

    Args:
        made: Makes the protocol of a new connection.
        clients: How many are connected.
    """

    def __init__(
        self,
        listening: socket.socket,
        made: Callable[[], asyncio.Protocol],
        balance: Balance,
        clients: Callable[[], int],
        tls: Tls,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._made = made
        self._balance = balance
        self._clients = clients
        self._tls = tls
        self._arriving: set[asyncio.Task[None]] = set()
        """Accepted, but not connected yet: with TLS both sides have to shake hands."""
        self._waiting = select.poll()
        self._waiting.register(listening, select.POLLIN)
        self._pause: asyncio.TimerHandle | None = None
        self._hurries_until = 0.0
        self._listen()

    def close(self) -> None:
        """See `Accepting`."""
        if self._listening.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._readable)

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            if self._is_ahead():
                self._rest(MOMENT_S, self._look_again, PATIENCE)
                return
            if not self._take():
                return

    def _is_ahead(self) -> bool:
        clients = self._clients() + len(self._arriving)
        return self._loop.time() >= self._hurries_until and self._balance.is_ahead(clients)

    def _rest(self, seconds: float, then: Callable[..., None], *args: int) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, then, *args)

    def _look_again(self, patience: int) -> None:
        if self._is_ahead() and self._waiting.poll(0):
            if patience > 1:
                self._pause = self._loop.call_later(MOMENT_S, self._look_again, patience - 1)
                return
            self._hurries_until = self._loop.time() + HURRY_S
        self._listen()

    def _take(self) -> bool:
        """Accept one client; whether there may be more."""
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            self._rest(_NO_ROOM_S, self._listen)
            return False
        client.setblocking(False)
        task = self._loop.create_task(self._connect(client))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        self._balance.show(self._clients() + len(self._arriving))
        return True

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._made, client, **self._tls)
        except OSError:
            client.close()  # It has left, or does not speak TLS as it should.


async def accept(
    listening: socket.socket,
    made: Callable[[], asyncio.Protocol],
    balance: Balance,
    clients: Callable[[], int],
    tls: Tls,
) -> Accepting:
    """Take in clients from now on; the arguments are those of `Acceptor`."""
    if balance.is_shared:
        return Acceptor(listening, made, balance, clients, tls)
    loop = asyncio.get_running_loop()
    return await loop.create_server(made, sock=listening, backlog=_BACKLOG, **tls)
