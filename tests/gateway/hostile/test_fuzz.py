"""Any bytes in any pieces: an answer, a refusal or a wish for more, and nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import fuzz
import pytest
from attack import (
    BODY,
    HOST,
    Bystander,
    descriptors,
    given_back,
    length,
    request,
    resident_bytes,
    statuses,
)
from fuzz import one_input, random_input
from gateway_rig import Rig
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import messages

EXAMPLES = int(os.environ.get("FAIRLEAD_FUZZ_EXAMPLES", "3000"))


@settings(max_examples=EXAMPLES // 30, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    one_input(data)


@settings(max_examples=EXAMPLES // 30, deadline=None)
@given(st.integers(1, 255), messages())
def test_any_message(step: int, wire: bytes) -> None:
    one_input(bytes((step,)) + wire)


@settings(max_examples=EXAMPLES // 30, deadline=None)
@given(st.integers(1, 255), st.binary(max_size=200))
@example(1, b"[" * 100)
@example(255, b'{"model":"bank","stream":true,"x":"\\ud800"}')
def test_any_body(step: int, body: bytes) -> None:
    one_input(bytes((step,)) + request(HOST, length(body), body=body))


@settings(max_examples=EXAMPLES // 30, deadline=None)
@given(st.integers(1, 255), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_any_headers(step: int, headers: dict[str, str]) -> None:
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    one_input(bytes((step,)) + request(HOST, *lines, length(BODY), body=BODY))


def test_many_mutations() -> None:
    chance = random.Random(3)
    for _ in range(EXAMPLES):
        one_input(random_input(chance))


def test_the_target_runs_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "fuzz.py", "-max_total_time=1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_input_that_takes_too_long_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "INPUT_S_MAX", 0.0)
    with pytest.raises(AssertionError, match="takes too long"):
        one_input(b"\xffGET / HTTP/1.1\r\n")


def _kept_bytes(inputs: int, keep: list[bytes] | None = None) -> int:
    """What is still in memory of so many inputs, after as many others came before."""
    chance = random.Random(5)
    tracemalloc.start()
    try:
        for _ in range(inputs):
            one_input(random_input(chance))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(inputs):
            data = random_input(chance)
            one_input(data)
            if keep is not None:
                keep.append(data)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_no_memory_is_kept_of_any_input() -> None:
    assert _kept_bytes(EXAMPLES // 15) < 10_000
    leak: list[bytes] = []
    assert _kept_bytes(EXAMPLES // 15, leak) > 10_000


async def test_any_bytes_over_sockets_cost_others_nothing_and_all_is_given_back(
    served: Rig, bystander: Bystander
) -> None:
    """As above, but with a whole worker: no crash, no descriptor and no memory kept."""
    chance = random.Random(11)
    before, memory = descriptors(), resident_bytes()

    async def one() -> list[int]:
        data = random_input(chance)
        size = max(1, data[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        got = b""
        try:
            for start in range(1, len(data), size):
                writer.write(data[start : start + size])
            writer.write_eof()
            while piece := await asyncio.wait_for(reader.read(65536), 60):
                got += piece
        except ConnectionError:
            pass
        finally:
            writer.close()
        return statuses(got)

    found: set[int] = set()
    for _ in range(EXAMPLES // 300):
        for answers in await asyncio.gather(*(one() for _ in range(20))):
            found.update(answers)
    assert not found & {500, 502}
    assert found >= {400}
    await bystander.was_served()
    await given_back(served, before + 4)
    assert resident_bytes() - memory < 64 * 2**20
