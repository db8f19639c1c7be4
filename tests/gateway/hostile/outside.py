"""A gateway worker in a process of its own, as it runs alone, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from attack import HOST, length, request
from gateway_rig import CHAT, listening_socket, until

from fairlead.app.standalone.folder import METRICS, SNAPSHOT
from fairlead.app.standalone.worker_process import TOKEN_VARIABLE, Settings
from fairlead.wire.snapshot import Snapshot, encode_snapshot

STREAM = json.dumps({**CHAT, "stream": True}).encode()


class Outside:
    """One worker process."""

    def __init__(self, folder: Path, memory_bytes_max: int | None = None) -> None:
        self.socket = listening_socket()
        self.socket.listen(4096)
        self.port = self.socket.getsockname()[1]
        self._folder = folder
        self._memory_bytes_max = memory_bytes_max
        self.log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, snapshot: Snapshot) -> None:
        (self._folder / METRICS).mkdir()
        (self._folder / SNAPSHOT).write_bytes(encode_snapshot(snapshot))
        settings = Settings(
            worker=0,
            listen_fd=self.socket.fileno(),
            run=str(self._folder),
            spool=None,
            limits=str(self._folder),
            lender_url="http://127.0.0.1:9",  # Nobody lends.
            drain_s=1.0,
            memory_bytes_max=self._memory_bytes_max,
        )
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fairlead.app.standalone.worker_process",
                    msgspec.json.encode(settings).decode(),
                ],
                stdout=output,
                stderr=output,
                pass_fds=(self.socket.fileno(),),
                env={**os.environ, TOKEN_VARIABLE: "none"},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def resident(self) -> int:
        """Bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def ask(self, wire: bytes, *, within_s: float = 30.0, source: str = "127.0.0.1") -> bytes:
        """All that comes back on a connection of its own, until the gateway ends it."""
        got = b""
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(source, 0)
            )
            try:
                writer.write(wire)
                while piece := await reader.read(65536):
                    got += piece
            except ConnectionError:
                pass
            finally:
                writer.close()
        return got

    async def metric(self, name: str) -> float:
        """The sum of a family's values."""
        page = await self.ask(
            b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", page.decode(), re.MULTILINE)
        return sum(float(value) for value in found)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.socket.close()

    def is_up(self) -> bool:
        """Whether it answers."""
        address = ("127.0.0.1", self.port)
        with contextlib.suppress(OSError), socket.create_connection(address, 10) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
        return False


async def stalled(worker: Outside) -> socket.socket:
    """A client that asks for a stream and never reads it."""
    loop = asyncio.get_running_loop()
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(made, ("127.0.0.1", worker.port))
    await loop.sock_sendall(made, request(HOST, length(STREAM), body=STREAM))
    return made


@contextlib.asynccontextmanager
async def outside(
    folder: Path, snapshot: Snapshot, memory_bytes_max: int | None = None
) -> AsyncIterator[Outside]:
    """A worker process that serves."""
    made = Outside(folder, memory_bytes_max)
    made.start(snapshot)
    try:
        await until(made.is_up, within_s=60)
        yield made
        assert made.process is not None
        assert made.process.poll() is None, made.log.read_text()
    finally:
        made.kill()
