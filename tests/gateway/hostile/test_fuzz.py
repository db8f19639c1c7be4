"""Any bytes in any pieces: an answer, a refusal or a wish for more, and nothing is kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from attack import BODY, HOST, length, request
from fuzz import one_input, random_input
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
