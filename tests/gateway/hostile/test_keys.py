"""Keys: looked up in a time that says nothing, and never written down."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from attack import HOST, request, statuses
from gateway_rig import (
    CHAT,
    A,
    Control,
    Engine,
    Rig,
    answers,
    key_entry,
    refuses_midway,
    route,
    running,
    snapshot,
)

from fairlead.gateway.auth import KeyRing
from fairlead.gateway.framing import FirstLine, Head, check_head

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

CANARY = "fl-canary-4f1e9d7c0b2a"
WRONG = "fl-wrong-canary-77aa31"
PROVIDER = "sk-provider-canary-c0ffee"
SAMPLES = 10_000
ROUNDS = 5


# A key is never compared byte by byte: its SHA-256 is looked up in a hash table. What the time of
# that depends on (the bits of the digest) cannot be chosen without a preimage, so a key that shares
# a prefix with a valid one is as far from it as any. The test below would see a comparison of the
# keys themselves; the t-test is repeated, as another process may disturb one of them.


def _welch(one: list[int], other: list[int]) -> float:
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(spread or 1.0)


def _times(ring: KeyRing, headers: tuple[bytes, bytes]) -> tuple[list[int], list[int]]:
    chance = random.Random(5)
    took: tuple[list[int], list[int]] = ([], [])
    for _ in range(SAMPLES):
        which = chance.randrange(2)
        began = time.perf_counter_ns()
        ring.find(headers[which])
        took[which].append(time.perf_counter_ns() - began)
    # The slowest are interruptions by others, not the lookup.
    kept = [sorted(times)[: int(len(times) * 0.9)] for times in took]
    return kept[0], kept[1]


def test_a_key_that_is_nearly_right_takes_as_long_as_one_that_is_all_wrong() -> None:
    right = "fl-" + "k" * 60
    ring = KeyRing([key_entry(right, "k")])
    nearly = b"Bearer " + right[:-1].encode() + b"x"
    wrong = b"Bearer xx" + b"y" * (len(right) - 2)
    assert ring.find(nearly) is ring.find(wrong) is None
    t_least = min(abs(_welch(*_times(ring, (nearly, wrong)))) for _ in range(ROUNDS))
    assert t_least < 6


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(served: Rig) -> None:
    given = [
        b"x: y",
        b"authorization: Bearer " + WRONG.encode(),
        b"authorization: Bearer",
        b"authorization: Bearer ",
        b"authorization: Basic Zm9vOmJhcg==",
        b"authorization: Bearer " + b"x" * 5000,
        b"authorization: Bearer " + hashlib.sha256(b"fl-test-key-one").hexdigest().encode(),
        b"authorization: Bearer FL-TEST-KEY-ONE",
        b"authorization: Bearer fl-test-key-one, Bearer x",
    ]
    bodies = set()
    for line in given:
        wire = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n\r\n"
        got = await served.raw(wire)
        assert statuses(got) == [401]
        head, _, body = got.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        bodies.add((body, *(x for x in lines if not x.startswith((b"date", b"x-request-id")))))
    assert len(bodies) == 1


def test_a_heads_repr_does_not_show_the_key() -> None:
    line = FirstLine(method="GET", path="/v1/x", is_http_1_0=False)
    head = check_head(line, [(b"host", b"x"), (b"authorization", b"Bearer " + CANARY.encode())])
    assert isinstance(head, Head)
    assert CANARY not in repr(head)


async def test_canary_keys_are_found_nowhere(
    engine: StartEngine, tmp_path: Path, control: Control, capfd: pytest.CaptureFixture[str]
) -> None:
    """Served, refused, retried, broken, drained: then every byte on disk and in the output."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    one, two = await engine(answers("ok")), await engine(refuses_midway)
    made = route(A, one, two)
    named = tuple(
        msgspec.structs.replace(endpoint, api_key_env="PROVIDER_KEY") for endpoint in made.endpoints
    )
    known = snapshot(msgspec.structs.replace(made, endpoints=named))
    known = msgspec.structs.replace(known, keys=(key_entry(CANARY, "canary"),))
    rig = Rig(tmp_path, control.engine.url)
    rig.environ["PROVIDER_KEY"] = PROVIDER
    try:
        async with running(rig, known), rig.client(CANARY) as client:
            control.publish(msgspec.structs.replace(known, version=2))
            seen = []
            for _ in range(5):
                answer = await client.post("/v1/chat/completions", json=CHAT)
                seen.append(answer.text + str(answer.headers))
            for body in (b"{", b'{"model":"none"}', b'{"model":1}', b"\xff"):
                answer = await client.post("/v1/chat/completions", content=body)
                seen.append(answer.text + str(answer.headers))
            for key in (WRONG, CANARY[:-1], CANARY + "x"):
                answer = await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
                assert answer.status_code == 401
                seen.append(answer.text + str(answer.headers))
            twice = request(HOST, b"authorization: Bearer " + CANARY.encode())
            seen.append((await rig.raw(twice)).decode())
            seen.append((await client.get("/metrics")).text)
            assert any(PROVIDER in asked.headers.get("authorization", "") for asked in one.asked)
            assert not any(CANARY in str(asked.headers) for asked in one.asked)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    rig.socket.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"snapshot.json"} < {path.name for path in files}
    ours = [line for line in log.getvalue().splitlines() if "127.0.0.1" not in line]
    output = capfd.readouterr()
    everything = [path.read_bytes() for path in files]
    everything += [text.encode() for text in (*seen, *ours, output.out, output.err)]
    for secret in (CANARY, CANARY[:-1], WRONG, PROVIDER, "control-token"):
        assert not any(secret.encode() in data for data in everything), secret
