"""What the gateway's tests share: engines that misbehave on demand, a control, a worker."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from fairlead.gateway.settings import WorkerSettings
from fairlead.gateway.waiting.admission import Admission
from fairlead.gateway.worker import Worker
from fairlead.wire.record import (
    FeedbackRecord,
    ProgressRecord,
    Record,
    RequestRecord,
    decode_record,
)
from fairlead.wire.snapshot import (
    Endpoint,
    KeyEntry,
    Limits,
    ReleaseRoute,
    ServiceRoute,
    Snapshot,
    SyncRequest,
    encode_snapshot,
)
from fairlead.wire.spool import MAGIC, frames

KEY = "fl-test-key-one"
OTHER_KEY = "fl-test-key-two"
A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64
CHAT = {"model": "bank", "messages": [{"role": "user", "content": "hello"}]}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def key_entry(key: str, key_id: str) -> KeyEntry:
    return KeyEntry(id=key_id, name=key_id, sha256=hashlib.sha256(key.encode()).hexdigest())


KEYS = (key_entry(KEY, "k1"), key_entry(OTHER_KEY, "k2"))


def route(digest: str, *engines: Engine | str, slots: int = 4, **more: Any) -> ReleaseRoute:
    endpoints = []
    for engine in engines:
        url = engine if isinstance(engine, str) else engine.url
        endpoints.append(Endpoint(replica=f"r-{url.rpartition(':')[2]}", base_url=url, slots=slots))
    return ReleaseRoute(digest=digest, name=digest[7:9], endpoints=tuple(endpoints), **more)


def snapshot(
    champion: ReleaseRoute | None,
    canary: ReleaseRoute | None = None,
    *,
    share: float = 0.0,
    version: int = 1,
    limits: Limits | None = None,
    salt: str = "s1",
) -> Snapshot:
    releases = {r.digest: r for r in (champion, canary) if r is not None}
    service = ServiceRoute(
        name="bank",
        releases=releases,
        champion=champion.digest if champion else None,
        canary=canary.digest if canary else None,
        canary_share=share,
        rollout="ro-1" if canary else None,
        phase=2 if canary else 0,
        salt=salt,
        limits=limits or Limits(queue_timeout_s=2.0, request_timeout_s=10.0),
    )
    return Snapshot(
        version=version, request_id_key="11" * 32, keys=KEYS, services={"bank": service}
    )


class Asked(msgspec.Struct):
    """One request as an engine saw it."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """A real HTTP server that answers as `behave` says; it counts who hung up on it."""

    def __init__(self, name: str = "engine", tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.tls = tls
        self.connections = 0
        self.asked: list[Asked] = []
        self.hung_up = 0
        self.port = 0
        self.behave: Behaviour = answers()
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Engine:
        self._release_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def kill(self) -> None:
        """Refuse connections, and reset those that are open; nobody else is given its port."""
        await self.stop()
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", self.port))

    async def stop(self) -> None:
        """The end: as killed, and its port is anybody's."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._release_port()

    def _release_port(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            self.hung_up += 1
        except asyncio.CancelledError:
            reset(writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(first.split()[1], headers, body, writer)
        self.asked.append(asked)
        work = asyncio.ensure_future(self.behave(asked, writer))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.hung_up += 1
                return False
            work.result()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        return not writer.is_closing()


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def head(status: int, content_type: str = "application/json", **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}"]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": USAGE,
        }
    ).encode()


def answers(
    text: str = "hi",
    *,
    delay: float = 0.0,
    after: asyncio.Event | None = None,
    status: int = 200,
    body: bytes | None = None,
) -> Behaviour:
    """Answers after `delay` seconds, and not before `after` is set."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay)
        if after is not None:
            await after.wait()
        content = completion(text) if body is None else body
        writer.write(head(status, content_length=len(content)) + content)
        await writer.drain()

    return behave


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str | None, **more: Any) -> bytes:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**base, "choices": choices, **more}).encode() + b"\n\n"


def streams(
    *texts: str, gap: float = 0.0, cut_after: int | None = None, done: bool = True
) -> Behaviour:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for number, text in enumerate(texts):
            if cut_after is not None and number >= cut_after:
                await writer.drain()
                await asyncio.sleep(0.02)
                reset(writer)
                return
            writer.write(chunk(event(text)))
            await writer.drain()
            await asyncio.sleep(gap)
        if asked.json.get("stream_options", {}).get("include_usage"):
            writer.write(chunk(event(None, usage=USAGE)))
        writer.write((chunk(b"data: [DONE]\n\n") if done else b"") + chunk(b""))
        await writer.drain()

    return behave


async def refuses_midway(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Half of a plain answer, then a reset."""
    body = completion("lost")
    writer.write(head(200, content_length=len(body)) + body[: len(body) // 2])
    await writer.drain()
    await asyncio.sleep(0.02)
    reset(writer)


async def hangs(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


class Control:
    """The control plane's side of the sync: a real server with a snapshot to give."""

    def __init__(self) -> None:
        self.engine = Engine("control")
        self.engine.behave = self._sync
        self.newest: Snapshot | None = None
        self.questions: list[SyncRequest] = []
        self.tokens: list[str] = []
        self._changed = asyncio.Event()

    def publish(self, newest: Snapshot) -> None:
        self.newest = newest
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sync(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        question = msgspec.json.decode(asked.body, type=SyncRequest)
        self.questions.append(question)
        self.tokens.append(asked.headers["authorization"])
        if self.newest is None or self.newest.version <= question.version:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), question.wait_s)
        if self.newest is None or self.newest.version <= question.version:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            body = encode_snapshot(self.newest)
            writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()


class Rig:
    """One worker in this process, on a socket of its own."""

    def __init__(self, folder: Path, control_url: str, **settings: Any) -> None:
        self.folder = folder
        self.socket = listening_socket()
        self.settings = WorkerSettings(
            worker=0,
            listen_fd=self.socket.fileno(),
            snapshot_path=str(folder / "snapshot.json"),
            metrics_dir=str(folder / "metrics"),
            control_url=control_url,
            control_token="control-token",
            **{"boot": "boot-0", "drain_s": 2.0, "spool_dir": str(folder / "spool"), **settings},
        )
        self.environ: dict[str, str] = {}
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.worker: Worker | None = None

    async def start(self, kept: Snapshot | None = None) -> Rig:
        if kept is not None:
            Path(self.settings.snapshot_path).write_bytes(encode_snapshot(kept))
        self.worker = Worker(self.settings, self.environ)
        await self.worker.start(self.socket)
        return self

    async def stop(self) -> None:
        if self.worker is not None:
            worker, self.worker = self.worker, None
            await worker.stop()

    def client(self, key: str = KEY, **more: Any) -> httpx.AsyncClient:
        # verify=False: there is no TLS here, and loading certificates takes most of a test's time.
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"},
            timeout=15,
            verify=False,
            **more,
        )

    def waiting(self, service: str) -> int:
        """How many requests wait for a replica."""
        assert self.worker is not None
        queue = self.worker.plant.queue
        assert isinstance(queue, Admission)
        return queue.depth(service)

    def records(self) -> list[Record]:
        return read_spool(self.folder / "spool")

    def requests(self) -> list[RequestRecord]:
        return [r for r in self.records() if isinstance(r, RequestRecord)]

    def feedback(self) -> list[FeedbackRecord]:
        return [r for r in self.records() if isinstance(r, FeedbackRecord)]

    def progress(self) -> list[ProgressRecord]:
        return [r for r in self.records() if isinstance(r, ProgressRecord)]

    async def raw(self, data: bytes, *, wait_s: float = 2.0) -> bytes:
        """Send bytes; give back everything until the gateway closes or is silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        got = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65536), wait_s):
                got += piece
        except TimeoutError:
            got += b"<open>"
        except ConnectionError:
            got += b"<reset>"
        writer.close()
        return got


def listening_socket() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    listening.setblocking(False)
    return listening


def read_spool(folder: Path) -> list[Record]:
    records = []
    for segment in sorted(folder.glob("*/*.seg")):
        data = segment.read_bytes()
        assert data.startswith(MAGIC)
        records += [decode_record(payload) for _, payload in frames(data, len(MAGIC))]
    return records


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is not ours to signal
            await asyncio.sleep(0.005)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, body["error"]["code"]


@contextlib.asynccontextmanager
async def running(rig: Rig, kept: Snapshot | None = None) -> AsyncIterator[Rig]:
    try:
        yield await rig.start(kept)
    finally:
        await rig.stop()
