"""Ways to a server that are cut in the middle of an answer, as if the server were killed."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway_rig import reset

_INTO_NEXT = 9
"""Bytes of the next event that still come: a death leaves half of one."""


class Cuts(Protocol):
    """When a way is cut."""

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What of this part of an answer still comes, and whether it is the last."""


class AfterBytes:
    """After so many bytes of answers, once."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self, data: bytes) -> tuple[bytes, bool]:
        if self._left <= 0:
            return data, False
        passed, self._left = data[: self._left], self._left - len(data)
        return passed, self._left <= 0


class AfterEvents:
    """After each of these numbers of events, counted from the cut before.

    All ways that have the same one are cut in turns.
    """

    def __init__(self, *counts: int) -> None:
        self._left = list(counts)

    @property
    def is_used_up(self) -> bool:
        return not self._left

    def take(self, data: bytes) -> tuple[bytes, bool]:
        if not self._left:
            return data, False
        at = 0
        while self._left[0] > 0:
            found = data.find(b"\n\n", at)
            if found < 0:
                return data, False
            at = found + 2
            self._left[0] -= 1
        self._left.pop(0)
        return data[: at + _INTO_NEXT], True


class Mortal:
    """One way to a server."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self.url = ""
        self.cuts: Cuts | None = None
        self.deaths = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Mortal:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        asking = asyncio.ensure_future(self._copy(reader, up_writer))
        try:
            while data := await up_reader.read(4096):
                passed, is_last = (data, False) if self.cuts is None else self.cuts.take(data)
                writer.write(passed)
                await writer.drain()
                if is_last:
                    self.deaths += 1
                    await asyncio.sleep(0.02)
                    reset(writer)
                    break
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            reset(writer)
        finally:
            self._tasks.discard(task)
            asking.cancel()
            up_writer.close()
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
