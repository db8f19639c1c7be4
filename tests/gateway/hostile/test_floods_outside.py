"""Floods against a worker in a process of its own. In the test suite they are small; at full size:

FAIRLEAD_FLOODS=full pytest -s tests/gateway/hostile/test_floods_outside.py
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from crowd import Flood, Honest, many_descriptors
from gateway_rig import A, Asked, Engine, answers, chunk, event, head, route, snapshot, until
from outside import Outside, outside, stalled

from fairlead.gateway.limits import CLIENT_STALL_S
from fairlead.wire.snapshot import Limits

StartEngine = Callable[..., Awaitable[Engine]]

IS_FULL = os.environ.get("FAIRLEAD_FLOODS") == "full"
SOCKETS = int(os.environ.get("FAIRLEAD_FLOOD_SOCKETS", 10_000 if IS_FULL else 300))
HONEST_REQUESTS = 20_000 if IS_FULL else 300
READERS = int(os.environ.get("FAIRLEAD_STALLED_READERS", 5_000 if IS_FULL else 600))
SLOW_CONNECTIONS = 2_000 if IS_FULL else 100
SLOW_S = 40 if IS_FULL else 3
MIB = 2**20
READER_BYTES_MAX = 400 * MIB / 5_000
SLACK_BYTES = 8 * MIB
"""What the worker takes up for its first requests, whoever makes them."""

pytestmark = pytest.mark.timeout(1800 if IS_FULL else 180)


def say(text: str) -> None:
    """With `-s`, the figures."""
    sys.stdout.write(f"\n{text}\n")


class Honesty:
    """Honest clients for as long as the block lasts, half of them on a new connection each time."""

    def __init__(self, port: int) -> None:
        self.honest = Honest()
        self._port = port

    async def __aenter__(self) -> Honest:
        self._tasks = [
            asyncio.ensure_future(self.honest.run(self._port, keeps=n % 2 == 0)) for n in range(4)
        ]
        return self.honest

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_of_many_sockets_in_three_forms_honest_clients_notice_nothing(
    engine: StartEngine, tmp_path: Path
) -> None:
    one = await engine(answers("ok"))
    with many_descriptors() as descriptors:
        size = min(SOCKETS, descriptors - 1000)
        async with outside(tmp_path, snapshot(route(A, one, slots=64))) as worker:
            before = worker.resident
            flood = Flood(worker.port, size)
            flooding = asyncio.ensure_future(flood.run())
            most = 0
            async with Honesty(worker.port) as honest:
                async with asyncio.timeout(1600):
                    while honest.served + len(honest.failed) < HONEST_REQUESTS or (
                        flood.opened < size
                    ):
                        most = max(most, worker.resident)
                        await asyncio.sleep(0.2)
                success, failed = honest.success, honest.failed[:5]
                asked = honest.served + len(honest.failed)
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            say(
                f"flood: {flood.opened:,} sockets opened, {flood.size_max:,} at once; of "
                f"{asked:,} honest requests {success:.4%} served; resident +"
                f"{(most - before) / MIB:.0f} MiB {failed}"
            )
            assert success >= 0.9999, failed
            assert most - before < 400 * MIB
            flood.close()
            await until(lambda: worker.descriptors < 100, within_s=60)


async def events(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """As fast as they are taken, to who asks for a stream: far more than all buffers hold."""
    if not asked.json.get("stream"):
        await answers("ok")(asked, writer)
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
    block = chunk(event("x" * 3_000))
    while True:
        writer.write(block)
        await writer.drain()


async def test_stalled_readers_cost_little_memory_and_are_dropped_after_the_stall(
    engine: StartEngine, tmp_path: Path
) -> None:
    one = await engine(events)
    with many_descriptors() as descriptors:
        count = min(READERS, (descriptors - 1000) // 2)
        served = snapshot(route(A, one, slots=20_000), limits=Limits(request_timeout_s=3_600))
        async with outside(tmp_path, served) as worker:
            # So that nearly all of what waits is in the worker's memory, not the kernel's.
            worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
            async with Honesty(worker.port) as honest:
                await until(lambda: honest.served > 50, within_s=60)
                before = worker.resident
                began = time.monotonic()
                readers = [await stalled(worker) for _ in range(count)]
                honest_before = honest.served
                most = await _most_resident(worker, one, count)
                say(
                    f"{count:,} stalled readers: resident +{(most - before) / MIB:.0f} MiB, "
                    f"{(most - before) / count / 1024:.0f} KiB each; {one.hung_up:,} dropped after "
                    f"{time.monotonic() - began:.0f} s; {honest.served - honest_before:,} honest "
                    f"requests served meanwhile, {len(honest.failed)} not"
                )
                assert most - before < count * READER_BYTES_MAX + SLACK_BYTES
                assert honest.served > honest_before
                assert honest.failed == []
            for reader in readers:
                reader.close()
            await until(lambda: worker.descriptors < 100, within_s=60)


async def _most_resident(worker: Outside, one: Engine, count: int) -> int:
    """The largest resident memory until all readers have stalled; at full size, were dropped."""
    most = 0
    seen = streams = 0
    until_s = time.monotonic() + (20 * CLIENT_STALL_S if IS_FULL else 60)
    quiet_since = time.monotonic()
    while time.monotonic() < until_s:
        resident = worker.resident
        if resident > most:
            most, quiet_since = resident, time.monotonic()
        streams += sum(asked.json.get("stream", False) for asked in one.asked[seen:])
        seen = len(one.asked)
        if IS_FULL and one.hung_up >= count:
            break
        if not IS_FULL and streams >= count and time.monotonic() - quiet_since > 1.0:
            break
        await asyncio.sleep(0.1)
    if IS_FULL:
        assert one.hung_up >= count
    return most


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("slow headers", ["-H", "-i", "1", "-t", "GET"]),
        ("slow body", ["-B", "-i", "1", "-s", "8192", "-t", "POST"]),
        ("ranges", ["-R", "-a", "10", "-b", "3000"]),
        ("slow read", ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3"]),
    ],
)
async def test_slowhttptest_does_not_keep_honest_clients_out(
    engine: StartEngine, tmp_path: Path, mode: str, arguments: list[str]
) -> None:
    program = shutil.which("slowhttptest")
    if program is None:
        lacks = pytest.fail if os.environ.get("FAIRLEAD_REQUIRE_PROXIES") else pytest.skip
        lacks("slowhttptest is not here: apt-get install slowhttptest")
    assert program is not None
    one = await engine(answers("ok"))
    async with outside(tmp_path, snapshot(route(A, one, slots=64))) as worker:
        before = worker.resident
        tool = await asyncio.create_subprocess_exec(
            program, *arguments, "-c", str(SLOW_CONNECTIONS), "-r", str(SLOW_CONNECTIONS),
            "-l", str(SLOW_S), "-p", "20", "-u", f"http://127.0.0.1:{worker.port}/metrics",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
        async with Honesty(worker.port) as honest:
            output, _ = await tool.communicate()
        said = output.decode(errors="replace")
        say(
            f"slowhttptest, {mode}: exit {tool.returncode}, {SLOW_CONNECTIONS} connections for "
            f"{SLOW_S} s; {honest.served:,} honest requests served, {len(honest.failed)} not; "
            f"resident +{(worker.resident - before) / MIB:.0f} MiB"
        )
        # 0 is what it ends with when its time was over, or all its connections were closed.
        assert tool.returncode == 0, said
        assert honest.served > 0
        assert honest.failed == []
        await until(worker.is_up, within_s=60)
