"""Replicas as processes, with a small stand-alone server in place of an engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.domain.replica import Launch, ReplicaState, ReplicaStatus, Wanted
from fairlead.targets import LocalTarget
from fairlead.targets import process as processes
from fairlead.targets.folder import ReplicaFolder
from support.real_server import free_port

S = ReplicaState
Check = Callable[[list[ReplicaStatus]], bool]
Wish = Callable[..., Wanted]
Opened = Callable[..., AbstractAsyncContextManager[LocalTarget]]


async def until(
    target: LocalTarget,
    wanted: list[Wanted],
    check: Check,
    *,
    may_stop: Callable[[str], bool] = lambda _: True,
    seconds: float = 20.0,
) -> list[ReplicaStatus]:
    """Reconcile as control does until the check holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await target.reconcile(wanted, may_stop)
        replicas = target.replicas()
        if check(replicas):
            return replicas
        await asyncio.sleep(0.02)
    raise AssertionError(f"after {seconds} s: {target.replicas()}")


def are_ready(count: int) -> Check:
    return lambda replicas: [r.state for r in replicas] == [S.READY] * count


def is_empty(replicas: list[ReplicaStatus]) -> bool:
    return not replicas


@asynccontextmanager
async def opened(
    root: Path, *, grace_s: float = 2.0, supervisor_pid: int | None = None, **environ: str
) -> AsyncIterator[LocalTarget]:
    variables = {"PATH": os.environ["PATH"], **environ}
    target = LocalTarget(
        root,
        supervisor_pid=os.getpid() if supervisor_pid is None else supervisor_pid,
        environ=variables,
        grace_s=grace_s,
    )
    await target.adopt()
    try:
        yield target
    finally:
        await target.close(stop=True)


async def test_wanted_replicas_become_ready_and_stopping_leaves_neither_process_nor_folder(
    tmp_path: Path, server_launch: Launch, wish: Wish, gone: Callable[[int], bool]
) -> None:
    async with opened(tmp_path) as target:
        replicas = await until(target, [wish(server_launch, 2)], are_ready(2))
        assert len({r.base_url for r in replicas}) == 2
    assert target.replicas() == []
    assert all(gone(r.pid) for r in replicas)
    assert list(tmp_path.iterdir()) == []


async def test_reconcile_does_not_wait_for_starts(
    tmp_path: Path, server_launch: Launch, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_start = threading.Event()
    spawn = processes.spawn

    def held(*arguments: Any, **named: Any) -> processes.Gate:
        may_start.wait(20)
        return spawn(*arguments, **named)

    monkeypatch.setattr(processes, "spawn", held)
    async with opened(tmp_path) as target:
        wanted = [wish(server_launch, 4)]
        await target.reconcile(wanted, lambda _: True)
        assert [(r.state, r.pid) for r in target.replicas()] == [(S.STARTING, 0)] * 4
        may_start.set()
        await until(target, wanted, are_ready(4))


async def test_a_killed_replica_is_noticed_and_started_again_at_once(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    async with opened(tmp_path) as target:
        wanted = [wish(server_launch)]
        (first,) = await until(target, wanted, are_ready(1))
        os.kill(first.pid, signal.SIGKILL)
        # Noticed without control asking for anything.
        async with asyncio.timeout(20):
            while target.replicas()[0].pid == first.pid:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.01)
        (second,) = await until(target, wanted, are_ready(1))
        assert (second.id, second.restarts) == (first.id, 1)
        assert second.pid != first.pid


async def test_a_replica_that_is_frozen_is_killed_by_its_start_time_limit(
    tmp_path: Path, run_python: Callable[..., Launch], wish: Wish
) -> None:
    async with opened(tmp_path) as target:
        frozen = run_python("import time; print('thinking', flush=True); time.sleep(60)",
                            start_timeout_s=0.5)  # fmt: skip
        (replica,) = await until(target, [wish(frozen)], lambda rs: rs[0].restarts > 0)
        assert "no good probe within 0.5 s" in replica.detail


async def test_five_failed_starts_are_enough_and_the_output_is_shown(
    tmp_path: Path, run_python: Callable[..., Launch], wish: Wish
) -> None:
    async with opened(tmp_path) as target:
        broken = run_python(
            "import sys; print('line\\n' * 50, flush=True); sys.exit('no such model: x.gguf')"
        )
        (replica,) = await until(target, [wish(broken)], lambda rs: rs[0].state is S.FAILED)
        assert "ended with exit status 1" in replica.detail
        assert "no such model: x.gguf" in replica.detail
        assert len(replica.detail.splitlines()) == 21
        assert replica.restarts == 4
        await until(target, [], is_empty)


async def test_a_program_that_does_not_exist_fails_with_a_reason(
    tmp_path: Path, wish: Wish
) -> None:
    async with opened(tmp_path) as target:
        missing = Launch(argv=("/no/such/engine",), probe_body={})
        (replica,) = await until(target, [wish(missing)], lambda rs: rs[0].state is S.FAILED)
        assert "/no/such/engine" in replica.detail


async def test_a_replica_that_listens_elsewhere_than_on_loopback_is_not_used(
    tmp_path: Path, run_python: Callable[..., Launch], wish: Wish
) -> None:
    code = "import sys, time; open(sys.argv[1], 'w').write('http://0.0.0.0:80'); time.sleep(60)"
    async with opened(tmp_path) as target:
        (replica,) = await until(
            target, [wish(run_python(code))], lambda rs: rs[0].state is S.FAILED
        )
        assert "not on loopback" in replica.detail


async def test_a_surplus_replica_runs_until_it_may_stop_and_is_taken_back_when_wanted_again(
    tmp_path: Path, server_launch: Launch, wish: Wish, gone: Callable[[int], bool]
) -> None:
    async with opened(tmp_path) as target:
        wanted = [wish(server_launch)]
        (first,) = await until(target, wanted, are_ready(1))
        (kept,) = await until(
            target, [], lambda rs: rs[0].state is S.SURPLUS, may_stop=lambda _: False
        )
        assert kept.base_url == first.base_url
        (again,) = await until(target, wanted, are_ready(1), may_stop=lambda _: False)
        assert (again.pid, again.restarts) == (first.pid, 0)
        await until(target, [], is_empty)
        assert gone(first.pid)


async def test_a_replica_that_ignores_sigterm_is_killed_after_the_grace(
    tmp_path: Path, run_python: Callable[..., Launch], wish: Wish, gone: Callable[[int], bool]
) -> None:
    stubborn = run_python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True); time.sleep(60)"
    )
    async with opened(tmp_path, grace_s=0.3) as target:
        (replica,) = await until(target, [wish(stubborn)], lambda rs: bool(rs and rs[0].pid))
        log = ReplicaFolder(tmp_path / replica.id)
        await until(target, [wish(stubborn)], lambda _: "deaf" in log.tail())
        await until(target, [], is_empty, seconds=5)
        assert gone(replica.pid)


async def test_replicas_outlive_control_and_are_adopted_as_they_were(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    wanted = [wish(server_launch, 2)]
    first = LocalTarget(tmp_path, supervisor_pid=os.getpid(), environ=os.environ)
    await first.adopt()
    before = await until(first, wanted, are_ready(2))
    await first.close(stop=False)
    async with opened(tmp_path) as second:
        adopted = second.replicas()
        assert [(r.id, r.pid, r.base_url, r.state) for r in adopted] == [
            (r.id, r.pid, r.base_url, r.state) for r in before
        ]
        os.kill(adopted[0].pid, signal.SIGKILL)
        after = await until(
            second, wanted, lambda rs: are_ready(2)(rs) and rs[0].pid != adopted[0].pid
        )
        assert after[1].pid == adopted[1].pid


CONTROL = """
import asyncio, os, sys, pathlib, msgspec
from fairlead.domain.replica import Wanted
from fairlead.targets import LocalTarget

async def main():
    wanted = msgspec.json.decode(sys.argv[2], type=list[Wanted])
    target = LocalTarget(pathlib.Path(sys.argv[1]), supervisor_pid=int(sys.argv[3]) or os.getpid(),
                         environ=os.environ)
    await target.adopt()
    while True:
        await target.reconcile(wanted, lambda _: True)
        states = [r.state for r in target.replicas()]
        if states == ["ready"] * wanted[0].count:
            print(*[r.pid for r in target.replicas()], flush=True)
            await asyncio.sleep(60)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def start_control(root: Path, wanted: Wanted, supervisor: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONTROL, str(root), msgspec.json.encode([wanted]), str(supervisor)],
        stdout=subprocess.PIPE,
        text=True,
    )


async def said_pids(control: subprocess.Popen[str]) -> list[int]:
    assert control.stdout is not None
    return [int(pid) for pid in (await asyncio.to_thread(control.stdout.readline)).split()]


def kill(control: subprocess.Popen[str]) -> None:
    assert control.stdout is not None
    control.kill()
    control.wait()
    control.stdout.close()


async def test_replicas_of_a_control_process_that_was_killed_are_adopted_by_the_next(
    tmp_path: Path, server_launch: Launch, wish: Wish, gone: Callable[[int], bool]
) -> None:
    control = start_control(tmp_path, wish(server_launch, 2), os.getpid())
    try:
        pids = await said_pids(control)
    finally:
        kill(control)
    assert len(pids) == 2
    async with opened(tmp_path) as target:
        replicas = await until(target, [wish(server_launch, 2)], are_ready(2))
        assert sorted(r.pid for r in replicas) == sorted(pids)
        os.kill(pids[0], signal.SIGKILL)
        await until(
            target,
            [wish(server_launch, 2)],
            lambda rs: are_ready(2)(rs) and pids[0] not in [r.pid for r in rs],
        )
    assert all(gone(pid) for pid in pids)


async def test_replicas_of_another_supervisor_are_ended_not_adopted(
    tmp_path: Path, server_launch: Launch, wish: Wish, gone: Callable[[int], bool]
) -> None:
    control = start_control(tmp_path, wish(server_launch), os.getppid())
    try:
        (pid,) = await said_pids(control)
    finally:
        kill(control)
    async with opened(tmp_path) as target:
        assert target.replicas() == []
        end = time.monotonic() + 20.0
        while not gone(pid) and time.monotonic() < end:
            time.sleep(0.01)  # noqa: ASYNC251
        assert gone(pid)


def start_stranger() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "30"], start_new_session=True)


async def test_the_process_of_someone_else_with_a_known_number_is_left_alone(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    first = LocalTarget(tmp_path, supervisor_pid=os.getpid(), environ=os.environ)
    await first.adopt()
    (replica,) = await until(first, [wish(server_launch)], are_ready(1))
    await first.close(stop=False)
    os.kill(replica.pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, replica.pid, 0)
    with start_stranger() as stranger:
        folder = ReplicaFolder(tmp_path / replica.id)
        text = (folder.path / "state.json").read_text()
        (folder.path / "state.json").write_text(
            text.replace(f'"pid":{replica.pid}', f'"pid":{stranger.pid}')
        )
        async with opened(tmp_path) as second:
            assert second.replicas() == []
        assert stranger.poll() is None
        processes.send(stranger.pid, "another identity", signal.SIGKILL)
        assert stranger.poll() is None
        stranger.terminate()


async def test_a_damaged_state_file_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "a-1"
    folder.mkdir()
    (folder / "state.json").write_text('{"supervisor": 1, "repl')
    async with opened(tmp_path) as target:
        assert target.replicas() == []
        assert not folder.exists()


async def test_secrets_of_this_process_do_not_reach_replicas(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    secret = {"FAIRLEAD_CONTROL_TOKEN": "t", "OPENAI_API_KEY": "k", "LANG": "C.UTF-8"}
    async with opened(tmp_path, **secret) as target:
        (replica,) = await until(target, [wish(server_launch)], are_ready(1))
        printed = ReplicaFolder(tmp_path / replica.id).tail()
    assert "'PATH'" in printed
    assert "'LANG'" in printed
    assert "TOKEN" not in printed
    assert "API_KEY" not in printed


async def test_a_disk_that_refuses_the_state_file_leaves_no_process(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    root = tmp_path / "replicas"
    async with opened(root) as target:
        root.rmdir()
        root.write_text("in the way")
        (replica,) = await until(target, [wish(server_launch)], lambda rs: bool(rs[0].detail))
        assert replica.pid == 0
        assert "could not be started" in replica.detail
        await until(target, [], is_empty)


async def test_probes_find_a_server_that_runs_but_does_not_answer(
    tmp_path: Path, run_python: Callable[..., Launch], wish: Wish
) -> None:
    port = free_port()
    code = (
        f"import sys, time; open(sys.argv[1], 'w').write('http://127.0.0.1:{port}')\ntime.sleep(60)"
    )
    async with opened(tmp_path) as target:
        (replica,) = await until(target, [wish(run_python(code))], lambda rs: bool(rs[0].detail))
        assert replica.state is S.STARTING
        assert "not reached" in replica.detail


async def test_what_ended_is_started_again_only_while_that_is_allowed(
    tmp_path: Path, server_launch: Launch, wish: Wish
) -> None:
    """Between two calls of `reconcile` nobody has verified the weights."""
    async with opened(tmp_path) as target:
        wanted = wish(server_launch)
        (first,) = await until(target, [wanted], are_ready(1))
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while target.replicas()[0].pid == first.pid:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # in which it would have been started again
        assert [r.pid for r in target.replicas()] == [0]
        unverified = msgspec.structs.replace(wanted, start=False)
        for _ in range(20):
            await target.reconcile([unverified], lambda _: True)
            await asyncio.sleep(0.02)
        assert [(r.pid, r.state) for r in target.replicas()] == [(0, S.BACKING_OFF)]
        (again,) = await until(target, [wanted], are_ready(1))
        assert (again.id, again.restarts) == (first.id, 1)
