"""Samples by the API and the command line: only with the token, noted as events, deleted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from control.simulated_world import SPOOL, World
from fairlead.control.api import create_app
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import Agreement, JudgeModel
from fairlead.store.rows import SampleRow, SpoolCursor

TOKEN = "the-token"
SAMPLES = "/api/v1/samples"


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    rows = [
        SampleRow(f"q{n}", "bank", f"k{n % 2}", f"u{n}", 10.0 + n, 1e9,
                  '[["user", "confidential words"]]', "an answer", False)
        for n in range(4)
    ]  # fmt: skip
    world.store.open_spool(SPOOL)
    world.store.ingest(SPOOL, [], [], SpoolCursor(1, 1, world.now), (), rows)
    transport = httpx.ASGITransport(create_app(world.plane, TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://control", headers=headers
    ) as made:
        yield made


async def test_samples_are_read_with_the_token_alone_and_that_is_noted(
    client: httpx.AsyncClient, world: World
) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, SAMPLES, headers={"authorization": "Bearer no"})
        assert answer.status_code == 401
    assert world.store.events() == []
    answer = await client.get(SAMPLES, params={"key": "k1", "limit": 1})
    (row,) = answer.json()
    assert (row["id"], row["prompt"]) == ("q3", [["user", "confidential words"]])
    (event,) = world.store.events()
    assert (event.kind, event.message) == ("samples_read", "1 samples were read: key k1")
    assert (await client.get("/api/v1/status")).status_code == 200
    assert b"confidential" not in json.dumps([e.message for e in world.store.events()]).encode()


async def test_older_ones_are_read_by_the_time_of_those_that_are_known(
    client: httpx.AsyncClient,
) -> None:
    async def read(**query: float) -> list[str]:
        answer = await client.get(SAMPLES, params={"limit": 2, **query})
        return [row["id"] for row in answer.json()]

    assert await read() == ["q3", "q2"]
    assert await read(before=12.0) == ["q1", "q0"]
    assert await read(before=10.0) == []


async def test_samples_are_deleted_by_whom_they_are_of(
    client: httpx.AsyncClient, world: World
) -> None:
    assert (await client.delete(SAMPLES)).status_code == 400
    assert (await client.delete(SAMPLES, params={"key": "k0"})).json() == {"count": 2}
    assert (await client.delete(SAMPLES, params={"unit": "u3"})).json() == {"count": 1}
    assert [row["id"] for row in (await client.get(SAMPLES)).json()] == ["q1"]
    kinds = [event.kind for event in world.store.events()]
    assert kinds == ["samples_deleted", "samples_deleted", "samples_read"]


async def test_a_measured_error_is_shown_for_the_judge_that_it_is_of(
    client: httpx.AsyncClient, world: World
) -> None:
    judge = JudgeModel(provider=RemoteModel("http://127.0.0.1:9/v1", "m"))
    measured = world.plane.judging.measured
    assert measured(judge, "bank") == "its error was not measured: fairlead judge check FILE"
    found = Agreement(judge.identity, 50, 50, 5, 5)
    body: Any = msgspec.to_builtins(found)
    answer = await client.put("/api/v1/services/bank/judge/error", json=body)
    assert answer.json()["said"].startswith("right on 90.0% of 100 labelled answers")
    assert measured(judge, "bank") == answer.json()["said"]
    other = msgspec.structs.replace(judge, rubric="another")
    assert measured(other, "bank").startswith("it was changed since its error was measured")
