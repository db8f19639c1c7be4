"""Opens connections to replicas: where they may go, TLS, and the way through a proxy.

The rules are those of `fairlead.domain.outbound`. A name is resolved once for each connection, and
the connection goes to an address that was looked at: what the name says a moment later is nothing
to it. Through a proxy it is the proxy that resolves.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec

from fairlead.domain.outbound import (
    DIRECT,
    PROXY_ANSWER_BYTES_MAX,
    Outbound,
    Proxy,
    allowed,
    connect_request,
    is_address,
    tunnel_refusal,
)
from fairlead.gateway.replicas.addressing import Address
from fairlead.gateway.replicas.upstream import UpstreamConnection

P = TypeVar("P", bound=asyncio.BaseProtocol)
MakeConnection = Callable[[], UpstreamConnection]


class Dialer(msgspec.Struct, frozen=True):
    """How one replica is reached.

    Attributes:
        tls: What its certificate is checked by; None without TLS.
        proxy: The proxy that connections go through.
        proxy_tls: What the proxy's certificate is checked by; None without TLS.
        credentials: `user:password` for the proxy, or empty.
    """

    address: Address
    tls: ssl.SSLContext | None = None
    outbound: Outbound = DIRECT
    proxy: Proxy | None = None
    proxy_tls: ssl.SSLContext | None = None
    credentials: str = ""

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"Dialer({self.address.host}:{self.address.port})"

    async def connect(self, make: MakeConnection) -> UpstreamConnection:
        """Open a connection; raises OSError."""
        if self.proxy is not None:
            return await self._tunnel(self.proxy, make)
        host, port = self.address.host, self.address.port
        _, connection = await self._open(host, port, self.tls, make)
        return connection

    async def _tunnel(self, proxy: Proxy, make: MakeConnection) -> UpstreamConnection:
        transport, asking = await self._open(proxy.host, proxy.port, self.proxy_tls, _Asking)
        try:
            host, port = self.address.host, self.address.port
            transport.write(connect_request(host, port, self.credentials))
            refusal = tunnel_refusal(await asking.answer)
            if refusal is not None:
                raise ConnectionRefusedError(refusal)
            connection = make()
            if self.tls is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
                return connection
            inner = await asyncio.get_running_loop().start_tls(
                transport, connection, self.tls, server_hostname=host
            )
            if inner is None:
                raise ConnectionResetError("the tunnel was closed")
            connection.connection_made(inner)
        except BaseException:
            transport.abort()
            raise
        return connection

    async def _open(
        self, host: str, port: int, tls: ssl.SSLContext | None, make: Callable[[], P]
    ) -> tuple[asyncio.Transport, P]:
        """Connect to the first of the host's allowed addresses that accepts."""
        loop = asyncio.get_running_loop()
        failed: OSError | None = None
        for address in await _addresses(host, port, link_local=self.outbound.link_local):
            try:
                return await loop.create_connection(
                    make, address, port, ssl=tls, server_hostname=host if tls else None
                )
            except OSError as error:
                failed = error
        raise failed or OSError(f"{host} has no address that requests are sent to")


async def _addresses(host: str, port: int, *, link_local: bool) -> list[str]:
    if is_address(host):
        return [host]  # Looked at when the base URL was read.
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return allowed((str(entry[4][0]) for entry in found), link_local=link_local)


class _Asking(asyncio.Protocol):
    """Waits for a proxy's answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._received:
            self.answer.set_result(self._received)
        elif len(self._received) > PROXY_ANSWER_BYTES_MAX:
            self.answer.set_exception(OSError("the proxy's answer is too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("the proxy closed the connection"))
