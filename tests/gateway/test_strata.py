"""Strata of risk: what is recorded is what was known of a request before it was assigned."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEY,
    KEYS,
    OTHER_KEY,
    A,
    B,
    Engine,
    Rig,
    key_entry,
    route,
    snapshot,
)

from fairlead.domain.release import Prompt
from fairlead.domain.strata import ENDPOINTS, SIZES, Strata
from fairlead.gateway.replicas.strata import stratify
from fairlead.wire.snapshot import Snapshot, decode_snapshot, encode_snapshot

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]
PATH = "/v1/chat/completions"
CHAT_KIND = "chat/completions"


def telling(strata: Strata, served: Snapshot) -> Snapshot:
    bank = msgspec.structs.replace(served.services["bank"], strata=strata)
    return msgspec.structs.replace(served, services={"bank": bank})


def test_sizes_are_told_apart_by_factors_of_four() -> None:
    tell = stratify(Strata("size"), KEYS)
    sizes = [0, 255, 256, 1_023, 1_024, 4_096, 16_384, 65_536, 262_144, 10**7]
    found = [tell(CHAT_KIND, "k1", b"x" * size, None) for size in sizes]
    assert found == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6]
    assert len(Strata("size").names) == len(SIZES) + 1


def test_every_kind_has_a_number_for_every_request() -> None:
    """Also for what nobody has declared; each number has its name."""
    tools = Strata("tools")
    assert stratify(tools, KEYS)(CHAT_KIND, "k1", b'{"tools": []}', None) == 1
    assert stratify(tools, KEYS)(CHAT_KIND, "k1", b'{"tool": []}', None) == 0
    endpoint = Strata("endpoint")
    kinds = [stratify(endpoint, KEYS)(kind, "k1", b"", None) for kind in ENDPOINTS]
    assert [endpoint.names[stratum] for stratum in kinds] == list(ENDPOINTS)
    keys = Strata("key", ("k2", "nobody"))
    twice = (*KEYS, key_entry("another", "k3"), msgspec.structs.replace(KEYS[1], id="k9"))
    ids = ("k1", "k2", "k3", "k9", "")
    found = [stratify(keys, twice)(CHAT_KIND, key, b"", None) for key in ids]
    assert [keys.names[stratum] for stratum in found] == ["others", "k2", "others", "k2", "others"]
    header = Strata("header", ("high", "low"))
    said = (b"low", b" high ", b"High", b"", None)
    found = [stratify(header, KEYS)(CHAT_KIND, "k1", b"", one) for one in said]
    assert [header.names[stratum] for stratum in found] == [
        "low", "high", "others", "others", "others",
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_each_record_has_the_stratum_of_its_request(
    serve: Serve, engine: StartEngine, stream: bool
) -> None:
    """On the short way and the whole one, on both arms, whatever the releases make of it."""
    served = await engine()
    longer = route(B, served, prompt=Prompt(system="x" * 5_000))
    given = snapshot(route(A, served), longer, share=0.5)
    rig = await serve(telling(Strata("size"), given))
    async with rig.client() as client:
        for number in range(12):
            text = "x" * (10 if number % 2 else 3_000)
            body = {**CHAT, "messages": [{"role": "user", "content": text}], "stream": stream}
            answer = await client.post(PATH, json=body, headers={"x-session-id": f"s{number}"})
            assert answer.status_code == 200
    records = rig.requests()
    assert [record.stratum for record in records] == [2, 0] * 6
    assert {record.arm for record in records} == {"champion", "canary"}


async def test_what_a_client_says_of_a_request_is_heard_on_a_connection_that_goes_on(
    serve: Serve, engine: StartEngine
) -> None:
    """Though a head that is known is not read again."""
    served = await engine()
    strata = Strata("header", ("high", "low"))
    rig = await serve(telling(strata, snapshot(route(A, served), route(B, served), share=0.5)))
    async with rig.client() as client:
        for said in ("high", "high", "high", "low", "low", None, "high"):
            headers = {} if said is None else {"x-fairlead-risk": said}
            assert (await client.post(PATH, json=CHAT, headers=headers)).status_code == 200
        twice = [("x-fairlead-risk", "high"), ("x-fairlead-risk", "low")]
        refused = await client.post(PATH, json=CHAT, headers=twice)
    assert [record.stratum for record in rig.requests()] == [0, 0, 0, 1, 1, 2, 0]
    assert refused.status_code == 400
    assert all("x-fairlead-risk" not in asked.headers for asked in served.asked)


async def test_keys_are_told_apart(serve: Serve, engine: StartEngine) -> None:
    served = await engine()
    plain = snapshot(route(A, served), route(B, served), share=0.5)
    rig = await serve(telling(Strata("key", ("k2",)), plain))
    async with rig.client() as client:
        for key in (KEY, OTHER_KEY):
            headers = {"authorization": f"Bearer {key}"}
            assert (await client.post(PATH, json=CHAT, headers=headers)).status_code == 200
    assert [record.stratum for record in rig.requests()] == [1, 0]


async def test_a_service_that_tells_nothing_apart_records_that_it_is_not_known(
    serve: Serve, engine: StartEngine
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert [record.stratum for record in rig.requests()] == [-1]


def test_a_snapshot_says_it_and_an_older_one_does_not() -> None:
    told = telling(Strata("header", ("high",)), snapshot(route(A, "http://127.0.0.1:1")))
    assert decode_snapshot(encode_snapshot(told)) == told
    older = json.loads(encode_snapshot(told))
    del older["services"]["bank"]["strata"]
    assert decode_snapshot(json.dumps(older).encode()).services["bank"].strata is None
