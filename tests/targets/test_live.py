"""Targets with real llama.cpp replicas and a tiny model."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from fairlead.domain.replica import Launch, ReplicaState, ReplicaStatus, Wanted
from fairlead.targets import EveryTarget

pytestmark = pytest.mark.live

S = ReplicaState
Wish = Callable[..., Wanted]
Llama = Callable[[Path], Launch]


async def until(
    target: EveryTarget, wanted: list[Wanted], check: Callable[[list[ReplicaStatus]], bool]
) -> list[ReplicaStatus]:
    """Reconcile as control does until the check holds."""
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        await target.reconcile(wanted, lambda _: True)
        if check(target.replicas()):
            return target.replicas()
        await asyncio.sleep(0.02)
    raise AssertionError(target.replicas())


def are_ready(count: int) -> Callable[[list[ReplicaStatus]], bool]:
    return lambda replicas: [r.state for r in replicas] == [S.READY] * count


def complete(base_url: str, tokens: int) -> int:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=30)
    try:
        body = json.dumps({"prompt": "hello", "max_tokens": tokens, "ignore_eos": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        return int(answer["usage"]["completion_tokens"])
    finally:
        connection.close()


async def test_replicas_start_are_probed_survive_a_kill_and_a_restart_of_control_and_stop(
    tmp_path: Path,
    tiny_model: Path,
    llama_launch: Llama,
    wish: Wish,
    gone: Callable[[int], bool],
) -> None:
    wanted = [wish(llama_launch(tiny_model), 2)]
    first = EveryTarget(tmp_path, supervisor_pid=os.getpid())
    await first.adopt()
    one, two = await until(first, wanted, are_ready(2))
    assert await asyncio.to_thread(complete, one.base_url, 5) == 5
    os.kill(one.pid, signal.SIGKILL)
    after = await until(first, wanted, lambda rs: are_ready(2)(rs) and rs[0].pid != one.pid)
    assert (after[0].id, after[0].restarts, after[1].pid) == (one.id, 1, two.pid)
    await first.close(stop=False)

    second = EveryTarget(tmp_path, supervisor_pid=os.getpid())
    await second.adopt()
    adopted = await until(second, wanted, are_ready(2))
    assert [(r.pid, r.base_url) for r in adopted] == [(r.pid, r.base_url) for r in after]
    await second.close(stop=True)
    assert all(gone(r.pid) for r in after)
    assert list(tmp_path.iterdir()) == []


async def test_a_model_that_cannot_be_loaded_fails_with_the_engines_words(
    tmp_path: Path, llama_launch: Llama, wish: Wish
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF, it says, but it is not")
    target = EveryTarget(tmp_path / "replicas", supervisor_pid=os.getpid())
    await target.adopt()
    try:
        wanted = [wish(llama_launch(model))]
        (replica,) = await until(target, wanted, lambda rs: rs[0].state is S.FAILED)
        assert "ended with exit status 1" in replica.detail
        assert "failed to load model" in replica.detail
    finally:
        await target.close(stop=True)


async def test_a_replica_whose_slots_are_all_taken_stays_ready(
    tmp_path: Path, tiny_model: Path, llama_launch: Llama, wish: Wish
) -> None:
    target = EveryTarget(tmp_path, supervisor_pid=os.getpid())
    await target.adopt()
    stop = threading.Event()

    def load(base_url: str) -> None:
        while not stop.is_set():
            complete(base_url, 200)

    try:
        wanted = [wish(llama_launch(tiny_model))]
        (replica,) = await until(target, wanted, are_ready(1))
        workers = [threading.Thread(target=load, args=(replica.base_url,)) for _ in range(12)]
        for worker in workers:
            worker.start()
        for _ in range(40):
            await target.reconcile(wanted, lambda _: True)
            assert target.replicas()[0].state is S.READY
            await asyncio.sleep(0.1)
        assert target.replicas()[0].restarts == 0
    finally:
        stop.set()
        for worker in workers:
            await asyncio.to_thread(worker.join)
        await target.close(stop=True)


SUPERVISOR = """
import subprocess, sys, os
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:], str(os.getpid())])
child.wait()
"""

CONTROL = """
import asyncio, sys, pathlib, msgspec
from fairlead.domain.replica import Wanted
from fairlead.targets import EveryTarget

async def main():
    wanted = msgspec.json.decode(sys.argv[2], type=list[Wanted])
    target = EveryTarget(pathlib.Path(sys.argv[1]), supervisor_pid=int(sys.argv[3]))
    await target.adopt()
    said = False
    while True:
        await target.reconcile(wanted, lambda _: True)
        replicas = target.replicas()
        if not said and [r.state for r in replicas] == ["ready"] * 2:
            said = True
            print(os.getpid(), *[r.pid for r in replicas], flush=True)
        await asyncio.sleep(0.1)

import os
asyncio.run(main())
"""


@pytest.mark.parametrize("control_first", [True, False])
async def test_when_everything_is_killed_no_replica_is_left_behind(
    tmp_path: Path,
    tiny_model: Path,
    llama_launch: Llama,
    wish: Wish,
    gone: Callable[[int], bool],
    control_first: bool,
) -> None:
    wanted = msgspec.json.encode([wish(llama_launch(tiny_model), 2)]).decode()
    supervisor = start_supervisor([CONTROL, str(tmp_path), wanted])
    try:
        assert supervisor.stdout is not None
        line = await asyncio.to_thread(supervisor.stdout.readline)
        control, *replicas = [int(pid) for pid in line.split()]
        assert len(replicas) == 2
        if control_first:
            os.kill(control, signal.SIGKILL)
            supervisor.kill()
        else:
            supervisor.kill()
            os.kill(control, signal.SIGKILL)
        end = time.monotonic() + 10.0
        while not all(gone(pid) for pid in replicas) and time.monotonic() < end:
            time.sleep(0.05)  # noqa: ASYNC251
        assert [pid for pid in replicas if not gone(pid)] == []
    finally:
        supervisor.kill()
        await asyncio.to_thread(supervisor.wait)
        supervisor.stdout.close()


def start_supervisor(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, *arguments], stdout=subprocess.PIPE, text=True
    )
