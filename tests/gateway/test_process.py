"""Workers as processes: killed, stopped, and side by side on one socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEY,
    A,
    Asked,
    Control,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    event,
    head,
    listening_socket,
    read_spool,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.app.state import StatePaths, UpInfo, write_private
from fairlead.wire.record import ProgressRecord, RequestRecord
from fairlead.wire.snapshot import encode_snapshot

StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"


class Workers:
    """Worker processes on one listening socket."""

    def __init__(self, folder: Path, control_url: str) -> None:
        self.control_url = control_url
        self.paths = StatePaths(folder)
        self.paths.create()
        self.up()
        self.socket = listening_socket()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        """As a supervisor does that has just been started."""
        info = UpInfo(pid=os.getpid(), gateway_url="", control_url=self.control_url)
        write_private(self.paths.up, msgspec.json.encode(info))

    def keep(self, *engines: Engine, **endpoint: str) -> None:
        """Put a snapshot in the state folder, as a worker does."""
        path = self.paths.snapshot
        made = route(A, *engines, slots=64)
        endpoints = tuple(msgspec.structs.replace(e, **endpoint) for e in made.endpoints)
        kept = snapshot(msgspec.structs.replace(made, endpoints=endpoints))
        path.write_bytes(encode_snapshot(kept))
        # Whatever the resolution of the file system's clock is.
        os.utime(path, ns=(0, self.paths.up.stat().st_mtime_ns + 1))

    def start(
        self, *, worker: int | None = None, ready: int | None = None, **environ: str
    ) -> subprocess.Popen[bytes]:
        number = len(self.processes)
        settings = {
            "worker": number if worker is None else worker,
            "state": str(self.paths.root),
            "listen_fd": self.socket.fileno(),
            "control_url": self.control_url,
            "drain_s": 5.0,
            "ready_fd": ready,
        }
        text = msgspec.json.encode(settings).decode()
        with (self.paths.logs / f"gateway-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fairlead.app.gateway_process", text],
                pass_fds=(self.socket.fileno(), *(() if ready is None else (ready,))),
                env={**os.environ, "FAIRLEAD_CONTROL_TOKEN": "control-token", **environ},
                stderr=log,
            )
        self.processes.append(process)
        return process

    async def take_over(self, worker: int) -> None:
        """Start another process of a worker, and return when it says that it serves."""
        read, write = os.pipe()
        self.start(worker=worker, ready=write)
        os.close(write)
        try:
            assert await asyncio.to_thread(os.read, read, 16) == b"serves\n", self.log(worker)
        finally:
            os.close(read)

    def log(self, number: int = 0) -> str:
        return (self.paths.logs / f"gateway-{number}.log").read_text()

    def client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=10, verify=False)

    async def ready(self) -> None:
        """Every worker has its spool folder, which it makes when it begins to serve."""
        await until(
            lambda: len(list(self.paths.spool.glob("[!.]*"))) >= len(self.processes), within_s=20
        )

    def ids(self) -> list[str]:
        records = read_spool(self.paths.spool)
        return [r.id for r in records if isinstance(r, RequestRecord)]


@pytest.fixture
def workers(tmp_path: Path, control: Control) -> Iterator[Workers]:
    made = Workers(tmp_path, control.engine.url)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
    made.socket.close()


async def test_a_killed_worker_has_recorded_every_answer_that_it_delivered(
    engine: StartEngine, workers: Workers
) -> None:
    workers.keep(await engine(answers()), await engine(streams("a", "b")))
    delivered: list[str] = []
    async with workers.client() as client:

        async def ask(number: int) -> None:
            body = {**CHAT, "stream": bool(number % 2)}
            with contextlib.suppress(httpx.TransportError):
                while True:
                    answer = await client.post(PATH, json=body)
                    assert answer.status_code == 200
                    delivered.append(answer.headers["x-request-id"])

        process = workers.start()
        await workers.ready()
        tasks = [asyncio.ensure_future(ask(n)) for n in range(16)]
        await until(lambda: len(delivered) > 150)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()  # The socket still listens, but nobody accepts any more.
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(e is None or isinstance(e, asyncio.CancelledError) for e in ended), ended
    recorded = workers.ids()
    assert set(delivered) <= set(recorded)
    assert len(recorded) == len(set(recorded))


async def test_sigterm_finishes_open_requests_refuses_new_ones_and_closes_the_spool(
    engine: StartEngine, workers: Workers
) -> None:
    plain = await engine(answers("late", delay=0.8))
    stream = await engine(streams(*"abcdefgh", gap=0.1))
    workers.keep(plain, stream)
    process = workers.start()
    await workers.ready()
    async with workers.client() as client:
        asking = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(4)]
        await until(lambda: len(plain.asked) + len(stream.asked) == 4)
        process.send_signal(signal.SIGTERM)
        got = [await a for a in asking]
    assert {a.status_code for a in got} == {200}
    assert any(a.headers.get("connection") == "close" for a in got)
    assert any(a.content == completion("late") for a in got)
    assert all(a.content == completion("late") or a.text.endswith("[DONE]\n\n") for a in got)
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0, workers.log()
    assert len(workers.ids()) == 4
    last = read_spool(workers.paths.spool)[-1]
    assert isinstance(last, ProgressRecord)
    assert last.complete_until == last.at
    assert "Traceback" not in workers.log()


async def test_what_one_worker_did_not_accept_another_serves(
    engine: StartEngine, workers: Workers
) -> None:
    workers.keep(await engine(answers()))
    workers.start()
    workers.start()
    await workers.ready()
    statuses: list[int] = []
    lost = 0
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal lost
        while not stop.is_set():
            try:
                async with workers.client() as client:
                    statuses.append((await client.post(PATH, json=CHAT)).status_code)
            except httpx.ConnectError:
                raise
            except httpx.TransportError:
                lost += 1  # in the hands of the worker that was killed

    tasks = [asyncio.ensure_future(ask()) for _ in range(6)]
    await until(lambda: len(statuses) > 50)
    workers.processes[0].kill()
    before = len(statuses)
    await until(lambda: len(statuses) > before + 50)
    stop.set()
    await asyncio.gather(*tasks)
    assert set(statuses) == {200}
    assert lost <= 6
    assert len(workers.ids()) >= len(statuses)
    counted = 0.0
    async with workers.client() as client, asyncio.timeout(20):
        # The killed one had at most a second of counts that it had not shown yet.
        while counted < before - 50:
            text = (await client.get("/metrics")).text
            lines = (x for x in text.splitlines() if x.startswith("fairlead_gateway_requests_to"))
            counted = float(next(lines).rpartition(" ")[2])
            await asyncio.sleep(0.05)


async def test_the_control_token_appears_in_no_log(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    await control.engine.kill()
    workers.keep(await engine(answers()))
    process = workers.start()
    await workers.ready()
    async with workers.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    await until(lambda: "control cannot be asked" in workers.log())
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert "control-token" not in workers.log()
    assert KEY not in workers.log()


async def test_a_replica_cannot_be_sent_what_only_fairlead_is_to_know(
    engine: StartEngine, workers: Workers
) -> None:
    one = await engine(answers())
    sent: list[str | None] = []
    names = ("FAIRLEAD_CONTROL_TOKEN", "FAIRLEAD_OTHER", "ALERT_URL", "PROVIDER_KEY")
    for number, name in enumerate(names):
        workers.keep(one, api_key_env=name)
        process = workers.start(FAIRLEAD_OTHER="other", ALERT_URL="url", PROVIDER_KEY="sk-1")
        await workers.ready()
        async with workers.client() as client:
            assert (await client.post(PATH, json=CHAT)).status_code == 200
        sent.append(one.asked[number].headers.get("authorization"))
        process.send_signal(signal.SIGTERM)
        await until(lambda running=process: running.poll() is not None)  # type: ignore[misc]
    assert sent == [None, None, None, "Bearer sk-1"]


async def test_after_a_new_up_no_prompt_goes_to_a_port_of_the_one_before(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    stranger, present = await engine(answers("stranger")), await engine(answers("present"))
    await control.engine.kill()
    workers.keep(stranger)
    workers.paths.up.unlink()
    workers.up()
    os.utime(workers.paths.snapshot, ns=(0, workers.paths.up.stat().st_mtime_ns - 1))
    process = workers.start()
    await workers.ready()
    async with workers.client() as client:
        waits = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await asyncio.sleep(0.3)
        assert not waits.done()
        control.publish(snapshot(route(A, present)))  # of the same version as the kept one
        await control.engine.start()
        assert (await waits).content == completion("present")
        up_ns = workers.paths.up.stat().st_mtime_ns
        await until(lambda: workers.paths.snapshot.stat().st_mtime_ns > up_ns)
        await control.engine.kill()
        process.kill()
        process.wait()
        workers.start()  # The same supervisor starts it again: what is kept now is of its time.
        await workers.ready()
        assert (await client.post(PATH, json=CHAT)).content == completion("present")
    assert stranger.asked == []


async def test_the_port_is_free_for_another_up_while_requests_end(
    engine: StartEngine, workers: Workers
) -> None:
    """The supervisor was killed: its workers are told to end, and its sockets are gone with it."""
    slow = await engine(answers("late", delay=2.0))
    workers.keep(slow)
    process = workers.start()
    await workers.ready()
    async with workers.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(slow.asked) == 1)
        address = workers.socket.getsockname()
        workers.socket.close()
        process.send_signal(signal.SIGTERM)
        await until(lambda: can_listen(address), within_s=1.5)
        assert not asking.done()
        assert process.poll() is None
        assert (await asking).content == completion("late")


def can_listen(address: tuple[str, int]) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(address)
            other.listen()
        except OSError:
            return False
    return True


async def test_a_retiring_worker_ends_its_stream_and_closes_idle_connections_with_their_next_answer(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    ends = asyncio.Event()

    async def holds(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        writer.write(chunk(event("a")))
        await ends.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

    slow, quick = await engine(holds), await engine(answers())
    workers.keep(slow)
    old = workers.start()
    await workers.ready()
    async with workers.client() as streaming, workers.client() as idle:
        assert (await idle.get("/healthz")).status_code == 200
        stream = asyncio.ensure_future(streaming.post(PATH, json={**CHAT, "stream": True}))
        await until(lambda: len(slow.asked) == 1)
        await workers.take_over(0)
        old.send_signal(signal.SIGUSR1)
        await asyncio.sleep(0.7)  # longer than a worker that is to stop leaves them open
        control.publish(snapshot(route(A, quick, slots=64), version=2))
        await until(lambda: any(q.pid == old.pid and q.version == 2 for q in control.questions))
        last = await idle.post(PATH, json=CHAT)
        assert (last.content, last.headers["connection"]) == (completion("hi"), "close")
        after = await idle.post(PATH, json=CHAT)
        assert (after.status_code, "connection" in after.headers) == (200, False)
        ends.set()
        assert (await stream).text.endswith("[DONE]\n\n")
        assert old.poll() is None, "the stream's connection is idle, and can be used once more"
        assert (await streaming.get("/healthz")).headers["connection"] == "close"
    await until(lambda: old.poll() is not None)
    assert old.returncode == 0, workers.log()
    ids = workers.ids()
    assert len(ids) == len(set(ids)) == 3


async def _leave(rig: Rig) -> None:
    assert rig.worker is not None
    worker = rig.worker
    await worker.retire()
    await worker.stop()


async def test_what_is_accepted_just_before_a_worker_retires_is_answered(
    engine: StartEngine, control: Control, tmp_path: Path
) -> None:
    """Whoever is accepted is served, and whoever is not waits for another worker to accept."""
    one = await engine(answers())
    asked = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    outcomes = []
    for turns in range(8):
        rig = Rig(tmp_path / str(turns), control.engine.url)
        rig.folder.mkdir()
        await rig.start(snapshot(route(A, one)))
        assert rig.worker is not None
        client = socket.create_connection(("127.0.0.1", rig.port))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving = asyncio.ensure_future(_leave(rig))
        await asyncio.sleep(0.01)
        client.sendall(asked)
        client.setblocking(False)
        try:
            async with asyncio.timeout(0.3):
                got = await asyncio.get_running_loop().sock_recv(client, 4096)
        except TimeoutError:
            outcomes.append("waits")
        else:
            assert got.startswith(b"HTTP/1.1 200"), (turns, got)
            outcomes.append("served")
        client.close()
        rig.worker = None
        await leaving
        rig.socket.close()
    assert "served" in outcomes


async def test_a_successor_reports_to_control_before_it_serves(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    gone, present = await engine(answers("gone")), await engine(answers("present"))
    workers.keep(gone)
    control.publish(snapshot(route(A, present), version=2))
    await workers.take_over(0)
    assert control.questions, "it said so before it served"
    async with workers.client() as client:
        assert (await client.post(PATH, json=CHAT)).content == completion("present")
    assert gone.asked == []


async def test_a_successor_serves_on_the_kept_snapshot_while_control_is_down(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    await control.engine.kill()
    workers.keep(await engine(answers("kept")))
    await workers.take_over(0)
    async with workers.client() as client:
        assert (await client.post(PATH, json=CHAT)).content == completion("kept")


async def test_a_successor_that_is_told_to_stop_before_it_serves_ends(
    control: Control, workers: Workers
) -> None:
    read, write = os.pipe()
    process = workers.start(ready=write)
    os.close(write)
    await until(lambda: bool(control.questions))
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(os.read, read, 16) == b""
    os.close(read)
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0, workers.log()


async def test_a_worker_that_retires_leaves_its_counts_and_no_second_version(
    engine: StartEngine, control: Control, workers: Workers
) -> None:
    ends = asyncio.Event()

    async def holds(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        writer.write(chunk(event("a")))
        await ends.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

    one = await engine(holds)
    workers.keep(one)
    old = workers.start()
    await workers.ready()
    async with workers.client() as streaming, workers.client() as other:
        stream = asyncio.ensure_future(streaming.post(PATH, json={**CHAT, "stream": True}))
        assert (await other.get("/v1/models")).status_code == 200
        assert (await other.get("/nothing")).status_code == 404
        await until(lambda: bool(one.asked))
        (shown,) = workers.paths.metrics.glob("*.metrics")
        await workers.take_over(0)
        old.send_signal(signal.SIGUSR1)
        for _ in range(2):  # the first may have been on its way already
            at = shown.stat().st_mtime_ns
            await until(lambda: shown.stat().st_mtime_ns > at)  # noqa: B023 - used at once
        async with workers.client() as client:
            text = (await client.get("/metrics")).text
        assert 'fairlead_gateway_snapshot_version{worker="0"} 1' in text
        assert 'fairlead_gateway_open_requests{worker="0"} 1' in text
        assert 'fairlead_gateway_rejected_total{reason="not_found"} 1' in text
        ends.set()
        assert (await stream).status_code == 200
