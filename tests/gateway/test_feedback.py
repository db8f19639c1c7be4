"""Feedback, request ids and keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import permutations
from typing import Any

import pytest
from gateway_rig import CHAT, KEYS, A, Engine, Rig, error_of, route, snapshot
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.auth import KeyRing
from fairlead.gateway.front.request_id import RequestIds
from fairlead.gateway.requests.feedback import read_feedback
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]


async def answered(rig: Rig) -> str:
    async with rig.client() as client:
        answer = await client.post("/v1/completions", json={**CHAT, "prompt": "p"})
    return str(answer.headers["x-request-id"])


async def test_feedback_is_recorded_before_it_is_acknowledged(
    engine: StartEngine, serve: Serve
) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    request_id = await answered(rig)
    async with rig.client() as client:
        for name, value in ((None, True), ("helpful", False), ("stars", 4), ("score", 0.25)):
            body: dict[str, Any] = {"request_id": request_id, "value": value}
            if name is not None:
                body["name"] = name
            answer = await client.post("/v1/feedback", json=body)
            assert answer.status_code == 202
            last = rig.feedback()[-1]
            assert answer.json() == {"id": last.id}
            assert (last.request, last.key) == (request_id, "k1")
            assert (last.name, last.value) == (name or "success", float(value))
        metrics = (await client.get("/metrics")).text
    assert 'fairlead_gateway_feedback_total{name="stars"} 1' in metrics


async def test_feedback_for_another_keys_request_is_404(engine: StartEngine, serve: Serve) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    request_id = await answered(rig)
    async with rig.client("fl-test-key-two") as other:
        answer = await other.post("/v1/feedback", json={"request_id": request_id, "value": True})
    assert error_of(answer) == (404, "request_not_found")
    assert not rig.feedback()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"request_id": "req_" + "0" * 40}, 404),
        ({"request_id": "x"}, 404),
        ({"request_id": 3}, 400),
        ({"value": "yes"}, 400),
        ({"value": None}, 400),
        ({"name": "no spaces"}, 400),
        ({"name": ""}, 400),
        ({"comment": "?"}, 400),
    ],
)
async def test_bad_feedback_is_refused_and_not_recorded(
    engine: StartEngine, serve: Serve, change: dict[str, Any], status: int
) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    body = {"request_id": await answered(rig), "value": True, **change}
    async with rig.client() as client:
        assert (await client.post("/v1/feedback", json=body)).status_code == status
        assert (await client.post("/v1/feedback", content=b"{")).status_code == 400
        assert (await client.post("/v1/feedback", content=b" " * 20_000)).status_code == 413
    assert not rig.feedback()


@given(st.binary(min_size=1, max_size=100), st.text(max_size=10), st.text(max_size=10))
def test_a_request_id_is_of_its_key_and_of_no_other(secret: bytes, key_id: str, other: str) -> None:
    ids = RequestIds(secret)
    made = ids.new(key_id)
    assert ids.is_of(made, key_id)
    assert RequestIds(secret).is_of(made, key_id)
    assert ids.is_of(made, other) == (other == key_id)
    assert not RequestIds(secret + b"x").is_of(made, key_id)


@given(st.text(max_size=60))
def test_no_other_text_is_a_request_id(text: str) -> None:
    assert not RequestIds(b"secret").is_of(text, "k1")
    assert not RequestIds(b"secret").is_of("req_" + text, "k1")


def test_ids_of_one_hash_are_told_apart_each_by_its_own_tag() -> None:
    ids = RequestIds(b"secret")
    made = [ids.new("k1") for _ in range(16)]
    assert all(ids.is_of(one, "k1") for one in made)
    for one, other in permutations(made, 2):
        assert not ids.is_of(one[:-16] + other[-16:], "k1")


def test_request_ids_do_not_repeat() -> None:
    ids = RequestIds(b"secret")
    assert len({ids.new("k1") for _ in range(1000)}) == 1000


@given(st.binary(max_size=40))
def test_only_the_keys_themselves_open(given_key: bytes) -> None:
    ring = KeyRing(KEYS)
    assert ring.find(b"Bearer fl-test-key-one") is KEYS[0]
    assert ring.find(b"bearer  fl-test-key-two") is KEYS[1]
    assert ring.find(b"Bearer " + given_key) is None or b"fl-test-key" in given_key
    assert ring.find(given_key) is None
    assert ring.find(None) is None


@pytest.mark.parametrize("name", ["judge", "judge_none"])
def test_what_a_judge_model_says_cannot_be_said_by_a_client(name: str) -> None:
    body = b'{"request_id": "r", "value": 5, "name": "%b"}' % name.encode()
    refused = read_feedback(body)
    assert isinstance(refused, Refusal)
    assert "judge model" in refused.message
