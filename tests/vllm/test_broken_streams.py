"""Streams of a real vLLM server break at any place, and go on.

Both replicas are ways to one server that are cut as a killed server's connections are.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from gateway_rig import reset
from vllm_rig import Gateway

from support.vllm.servers import Server
from support.vllm.streams import CHAT, COMPLETIONS, greedy, summary

TOKENS = 200

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


class Mortal:
    """A way to a server that is cut after so many bytes of answers, as if that were killed."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self.url = ""
        self.bytes_left: int | None = None
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
                if self.bytes_left is not None:
                    data, self.bytes_left = data[: self.bytes_left], self.bytes_left - len(data)
                writer.write(data)
                await writer.drain()
                if self.bytes_left is not None and self.bytes_left <= 0:
                    self.bytes_left = None
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


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_that_breaks_reads_as_if_undisturbed(
    servers: list[Server], gateway: Gateway, path: str
) -> None:
    dice = random.Random(3)
    one, two = await Mortal(servers[0].url).start(), await Mortal(servers[0].url).start()
    rig = await gateway(one.url, two.url)
    body = greedy(path, TOKENS)
    async with rig.client() as client:
        whole = await client.post(path, json=body, timeout=300)
        undisturbed = summary(whole.content)
        assert undisturbed["completion_tokens"] == TOKENS
        for _ in range(4):
            for way in (one, two):
                way.bytes_left = dice.randrange(600, len(whole.content) // 2)
            answer = await client.post(path, json=body, timeout=300)
            assert summary(answer.content) == undisturbed
    assert one.deaths + two.deaths >= 4
    await one.stop()
    await two.stop()
