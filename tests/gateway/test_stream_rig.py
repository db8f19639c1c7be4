"""The streams' part of `benchmarks.gateway`: it counts and times what came, and keeps its cores."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gateway import hog
from benchmarks.gateway.processes import Running, cpu_s_of
from benchmarks.gateway.sse_server import CHUNK
from benchmarks.gateway.stream_client import Client, Stream, Times

STAMPS = [time.monotonic_ns() + 1000 * number for number in range(20)]
WIRE = b"".join(CHUNK % stamp for stamp in STAMPS)


@given(st.lists(st.integers(0, len(WIRE)), max_size=40).map(sorted))
def test_every_event_is_timed_once_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    times = Times()
    ends = [*cuts, len(WIRE)]
    found = [
        stamp
        for begin, end in zip([0, *ends], ends, strict=False)
        for stamp in times.feed(WIRE[begin:end])
    ]
    assert found == STAMPS


def test_an_event_over_two_chunks_is_timed_too() -> None:
    body = (CHUNK % 7).split(b"\r\n")[1]
    at = body.index(b"@") + 9
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]))
    assert Times().feed(parts) == [7]


@pytest.mark.parametrize("size", [1, 7, 190, 100_000])
def test_the_client_counts_each_event_once(size: int) -> None:
    ours, theirs = socket.socketpair()
    client = Client(0, 1, 0.0)
    stream = Stream(ours, is_timed=False)
    ours.setblocking(False)
    with ours, theirs:
        for at in range(0, len(WIRE), size):
            theirs.sendall(WIRE[at : at + size])
            client._read(stream)
    assert client._events == len(STAMPS)
    assert client._begun == 1


def test_a_stream_that_ends_is_counted_as_broken() -> None:
    ours, theirs = socket.socketpair()
    client = Client(0, 1, 0.0)
    client._epoll.register(ours)
    theirs.close()
    client._read(Stream(ours, is_timed=False))
    assert client._lost == 1


def test_the_hog_takes_no_more_than_its_share() -> None:
    began, used = time.monotonic(), time.thread_time()
    hog.hold(0.3, time.monotonic() + 0.3)
    took, used = time.monotonic() - began, time.thread_time() - used
    assert 0 < used < 0.3 * took + 0.05


def test_what_is_started_stays_on_its_core_and_all_its_threads_are_counted(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    says = "import os; print(os.sched_getaffinity(0), flush=True)"
    running = Running([sys.executable, "-c", says], tmp_path / "log", core=core)
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    assert running.said() == f"{{{core}}}\n"
    running.stop()

    def spin() -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.1:
            pass

    before = cpu_s_of(os.getpid())
    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()
    assert cpu_s_of(os.getpid()) - before >= 0.08
