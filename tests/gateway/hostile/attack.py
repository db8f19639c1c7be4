"""What the hostile tests share: raw requests, an honest bystander, what must be given back."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import time
from pathlib import Path

from gateway_rig import CHAT, KEY, Rig, completion, until

PATH = b"/v1/chat/completions"
BODY = json.dumps(CHAT).encode()
HOST = b"host: x"
KEY_LINE = b"authorization: Bearer " + KEY.encode()
STALL_S_MAX = 5.0
"""A bystander's answer takes longer than this only when something holds up the worker. (A busy
machine is in it, too; what these tests are about takes tens of seconds when it fails.)"""


def request(*lines: bytes, body: bytes = b"", path: bytes = PATH, method: bytes = b"POST") -> bytes:
    """A request with our key and exactly these headers."""
    head = [method + b" " + path + b" HTTP/1.1", *lines, KEY_LINE]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def length(body: bytes) -> bytes:
    return b"content-length: %d" % len(body)


def post(body: bytes = BODY) -> bytes:
    """A well-formed request with this body."""
    return request(HOST, length(body), body=body)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


def is_closed(got: bytes) -> bool:
    """Of what `Rig.raw` gave back: whether the gateway ended the connection."""
    return not got.endswith(b"<open>")


class Bystander:
    """Asks one request after the other and notes how long each took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.took: list[float] = []
        self.failed: list[bytes] = []

    async def ask(self) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request(HOST, length(BODY), b"connection: close", body=BODY))
            got = await reader.read()
        except ConnectionError as error:
            got = str(error).encode()
        finally:
            writer.close()
        self.took.append(time.monotonic() - began)
        if completion("ok") not in got:
            self.failed.append(got)

    async def run(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(0.01)

    async def was_served(self, times: int = 3) -> None:
        """It was served all the time, is still, and was never held up."""
        enough = len(self.took) + times
        await until(lambda: len(self.took) >= enough, within_s=60)
        assert self.failed == []
        assert max(self.took) < STALL_S_MAX


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def given_back(rig: Rig, descriptors_before: int) -> None:
    """Nothing of what was open during an attack is open any longer."""
    worker = rig.worker
    assert worker is not None
    await until(lambda: worker.plant.recorder.open_count == 0, within_s=30)
    await until(lambda: not worker.plant.fleet.open_replicas, within_s=30)
    await until(lambda: worker.held_body_bytes == 0, within_s=30)
    worker.plant.fleet.close()  # What is kept for the next request is no leak.
    gc.collect()
    await until(lambda: descriptors() <= descriptors_before, within_s=30)


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
