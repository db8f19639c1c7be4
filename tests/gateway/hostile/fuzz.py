"""The fuzz target: any bytes, in any pieces, from the parser to the route.

By itself: `python tests/gateway/hostile/fuzz.py -max_total_time=60 [folder of a corpus]`. With the
`atheris` package it is a coverage-guided libFuzzer target; without it, mutations of requests are
tried for the same time. `test_fuzz.py` runs it in the test suite.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from attack import BODY, HOST, length, request  # noqa: E402
from mutations import mutated  # noqa: E402
from parser_rig import Host, feed  # noqa: E402

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n(?:[a-z-]+: [^\r\n]*\r\n)+\r\n")
GOOD = request(HOST, length(BODY), body=BODY)
INPUT_S_MAX = 0.5
"""Inputs of a few hundred bytes take less than a millisecond, ten thousand times as many 10."""


def one_input(data: bytes) -> None:
    """The first byte says how the rest is cut. Raises AssertionError, or whatever breaks."""
    # What is slow is slow again; a collection of the whole process' garbage does not come again.
    slow = _seconds(data) >= INPUT_S_MAX and _seconds(data) >= INPUT_S_MAX
    assert not slow, f"takes too long: {data!r}"


def _seconds(data: bytes) -> float:
    """Of this thread's processor, so that a busy machine is not taken for a slow parser."""
    began = time.thread_time()
    _one_input(data)
    return time.thread_time() - began


def _one_input(data: bytes) -> None:
    host = Host()
    size = max(1, data[0]) if data else 1
    wire = data[1:]
    pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
    fed = feed(pieces, host)
    _are_answers(fed.transport.written)
    fed.connection.check(host.plant.clock.now() + 1e6)  # Whatever is open then has timed out.
    _are_answers(fed.transport.written)
    fed.connection.connection_lost(None)
    assert host.held == 0


def _are_answers(written: bytes) -> None:
    """One after the other: 100, or a head with a body of its length."""
    while written:
        if written.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            written = written[25:]
            continue
        head = _HEAD.match(written)
        assert head is not None, written
        assert head[1] in _STATUSES, written
        size = int(re.findall(rb"content-length: (\d+)\r\n", head[0])[0])
        body = written[head.end() : head.end() + size]
        assert len(body) == size
        if head[1] != b"200":
            assert json.loads(body)["error"]["code"]
        written = written[head.end() + size :]


# What is refused, and what needs no replica: 500 and 502 are not among these.
_STATUSES = (
    b"200", b"400", b"401", b"404", b"405", b"408", b"413", b"414", b"415", b"417", b"431", b"503",
    b"505",
)  # fmt: skip


def random_input(chance: random.Random) -> bytes:
    """A mutated request, mostly one that gets as far as the route; cut in some way."""
    wire = mutated(chance) if chance.random() < 0.5 else GOOD * chance.randint(1, 2)
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(wire))
        wire = (
            wire[:at] + chance.randbytes(chance.randint(0, 3)) + wire[at + chance.randint(0, 2) :]
        )
    return bytes((chance.choice((1, 2, 7, 50, 255)),)) + wire


def _without_atheris(seconds: float) -> None:
    chance = random.Random(time.time_ns())
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = random_input(chance)
        try:
            one_input(data)
        except BaseException:
            sys.stderr.write(f"failed on {data!r}\n")
            raise
        count += 1
    sys.stderr.write(f"{count} inputs, nothing found\n")


def main() -> None:
    if importlib.util.find_spec("atheris") is None:
        given = [word.partition("=")[2] for word in sys.argv if word.startswith("-max_total_time=")]
        _without_atheris(float(given[0]) if given else 60.0)
        return
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
