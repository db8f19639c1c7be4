"""A drill on the whole platform: caught by real gateway workers' records, within its budget."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.manifest import Manifest
from support.installation import Installation
from support.load import Connection

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]
HARM = 60


def quick(manifest: Manifest) -> Manifest:
    rollout = manifest.rollout.model_copy(
        update={"settle_seconds": 0.5, "feedback": None, "shadow": None}
    )
    return manifest.model_copy(update={"gates": (), "rollout": rollout})


async def test_a_release_that_answers_errors_is_caught(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    first = installation.ship(installation.spec("a", quick))
    assert installation.finish(first.id).outcome == "promoted"
    replicas = {replica.id for replica in installation.status().replicas}
    asked = DrillRequest("error", share=0.5, harm=HARM)
    began = installation.control.post(DrillView, "services", "banking", "drills", body=asked)
    connection = Connection(installation.gateway, installation.key)
    failed = 0
    view = began
    for number in range(3_000):
        body = {
            "model": "banking",
            "messages": [{"role": "user", "content": questions[number % len(questions)][0]}],
            "max_tokens": 4,
            "stream": number % 2 == 0,
        }
        reply = await connection.post("/v1/chat/completions", body, session=f"s{number}")
        failed += reply.status != 200
        view = installation.control.get(DrillView, "drills", began.id)
        if view.state == "rolled_back":
            break
        await asyncio.sleep(0)
    connection.close()
    assert view.result == "caught", view
    assert view.by == "failed"
    assert 0 < failed <= HARM
    installation.wait(
        lambda: installation.control.get(DrillView, "drills", began.id).requests == failed,
        "the records", 30,
    )  # fmt: skip
    status = installation.status()
    assert {replica.id for replica in status.replicas} == replicas, "it took no replica"
    assert status.services[0].champion == first.release
