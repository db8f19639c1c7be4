"""Drills on the whole platform: each kind of fault is met, and caught by what shows it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fairlead.cli.shipping import prepare
from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.fault import FaultKind
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from live.test_metrics import ended, model_server
from support.installation import Installation
from support.load import Connection, Reply, text_of

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]
CLIENTS = 12
HARM = 60
RIGHT = '{"intent": "card_lost"}'
MANIFEST = """
service: bank
release: {{name: good, model: "openai+http://127.0.0.1:{port}/v1?model=good"}}
rollout:
  settle_seconds: 0.5
  warm_up_seconds: 0
  margin: 0.1
  feedback: {{name: success, good_at_least: 1}}
  shadow: {{share: 50%, timeout_seconds: 1}}
  metrics:
    - {{source: duration_ms, tolerance: 50%, margin: 200%}}
    - {{source: refusal, margin: 10%}}
    - {{source: format, margin: 10%}}
"""


class Case(NamedTuple):
    """A drill, and what its traffic is like.

    Attributes:
        by: The metrics that may have caught it. What fails is bad in each rate.
        asks_json: Requests ask for JSON, so that answers have a format to keep.
        gives_feedback: Clients say whether the answer was right.
    """

    fault: FaultKind
    by: set[str]
    asks_json: bool = False
    gives_feedback: bool = False
    shadow: bool = False
    harm: int = HARM


CASES = {
    "error": Case("error", {"failed", "unconfirmed", "refusal", "format"}),
    "wrong": Case("wrong", {"failed", "unconfirmed"}, asks_json=True, gives_feedback=True),
    "refusal": Case("refusal", {"refusal"}),
    "format": Case("format", {"format"}, asks_json=True),
    "slow": Case("slow", {"duration_ms"}, harm=1_000),
    "refusal in shadow": Case("refusal", {"refusal"}, shadow=True),
}


def spec(installation: Installation, port: int) -> ServiceSpec:
    manifest = parse_manifest(MANIFEST.format(port=port), Path("fairlead.yaml").absolute())
    return prepare(Registry(installation.paths.registry), manifest)


class Traffic:
    """Clients that ask, each time as somebody else, until they are stopped."""

    def __init__(self, installation: Installation, case: Case) -> None:
        self._installation = installation
        self._case = case
        self._numbers = itertools.count()
        self._is_stopped = False
        self._clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        self.replies: list[Reply] = []

    async def stop(self) -> None:
        """Let what is open end."""
        self._is_stopped = True
        await asyncio.gather(*self._clients)

    async def _client(self) -> None:
        connection = Connection(self._installation.gateway, self._installation.key)
        while not self._is_stopped:
            number = next(self._numbers)
            body: dict[str, Any] = {
                "model": "bank",
                "messages": [{"role": "user", "content": "I have lost my card"}],
            }
            if self._case.asks_json:
                body["response_format"] = {"type": "json_object"}
            session = f"{id(self)}-{number}"
            reply = await connection.post("/v1/chat/completions", body, session=session)
            self.replies.append(reply)
            if self._case.gives_feedback and reply.status == 200:
                value = text_of(reply) == RIGHT
                said = {"request_id": reply.request_id, "name": "success", "value": value}
                await connection.post("/v1/feedback", said)
        connection.close()


async def drilled(installation: Installation, case: Case) -> tuple[DrillView, list[Reply]]:
    """A drill under traffic, once it has ended and its records are there."""
    share = 1.0 if case.shadow else 0.5
    asked = DrillRequest(case.fault, 1.0, 100.0, share, case.harm, case.shadow)

    def began() -> DrillView:
        return installation.control.post(DrillView, "services", "bank", "drills", body=asked)

    def now() -> DrillView:
        return installation.control.get(DrillView, "drills", view.id)

    view = await asyncio.to_thread(began)
    assert view.notes == [], "something that is measured shows it"
    traffic = Traffic(installation, case)
    async with asyncio.timeout(60):
        while view.state not in ("rolled_back", "failed"):
            await asyncio.sleep(0.1)
            view = await asyncio.to_thread(now)
    await traffic.stop()
    return view, traffic.replies


def is_bad(case: Case, reply: Reply) -> bool:
    """Whether a client has met the fault, by what it sees."""
    if case.fault == "slow":
        return reply.ended - reply.began > 0.1
    return reply.status != 200 or text_of(reply) != RIGHT


async def test_each_kind_of_fault_is_caught_by_what_shows_it(installation: Installation) -> None:
    """Within its budget, on the champion's replicas; in shadow no client meets it."""
    async with model_server() as port:
        first = await asyncio.to_thread(lambda: installation.ship(spec(installation, port)))
        assert (await ended(installation, first.id)).outcome == "promoted"
        replicas = {replica.id for replica in installation.status().replicas}
        for name, case in CASES.items():
            view, replies = await drilled(installation, case)
            assert view.result == "caught", (name, view)
            assert view.by in case.by, (name, view)
            bad = sum(is_bad(case, reply) for reply in replies)
            if case.shadow:
                assert (bad, view.requests) == (0, 0), name
                assert view.copies > 0
                continue
            if case.fault != "slow":  # The machine may be slow by itself.
                assert 0 < bad <= case.harm, name
            records = view.requests
            for _ in range(100):
                if records >= bad or case.fault == "slow":
                    break
                await asyncio.sleep(0.1)
                records = (
                    await asyncio.to_thread(installation.control.get, DrillView, "drills", view.id)
                ).requests
            assert case.fault == "slow" or records == bad, name
            assert 0 < records <= case.harm, name
        status = installation.status()
    assert {replica.id for replica in status.replicas} == replicas, "it took no replica"
    assert status.services[0].champion == first.release
