"""Servers for tests of outgoing connections: one with a certificate of its own, and a proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme


class Authority:
    """An authority nobody else trusts, with its certificate in a file."""

    def __init__(self, folder: Path, name: str = "ca.pem") -> None:
        self._made = trustme.CA()
        self.file = folder / name
        self._made.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> ssl.SSLContext:
        """What a server with these names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._made.issue_cert(*names).configure_cert(context)
        return context


class ConnectProxy:
    """A proxy for CONNECT that leads everybody to the same place, and keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.credentials: str | None = None
        self.leads_to: tuple[str, int] = ("127.0.0.1", 9)
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head.split("\r\n", 1)[0])
            if self.credentials is not None and self._token not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            elif not self.answer.startswith(b"HTTP/1.1 200"):
                writer.write(self.answer)
            else:
                there, out = await asyncio.open_connection(*self.leads_to)
                writer.write(self.answer)
                await asyncio.wait(
                    [
                        asyncio.ensure_future(_copy(reader, out)),
                        asyncio.ensure_future(_copy(there, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                out.close()
        writer.close()

    @property
    def _token(self) -> str:
        assert self.credentials is not None
        return base64.b64encode(self.credentials.encode()).decode()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def connect_proxy(tls: ssl.SSLContext | None = None) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
