"""A release answers copies before clients, on the whole platform with real models."""

from __future__ import annotations

import pytest

from fairlead.control.views import RolloutView
from fairlead.manifest import Manifest
from fairlead.manifest.rollout import Shadow, Step
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter
from support.installation import Installation
from support.load import Connection

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]
COPIES = 12


def no_gates(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


def shadowed(manifest: Manifest) -> Manifest:
    """A shadow, and then a canary that does not end by itself within the test."""
    rollout = manifest.rollout.model_copy(
        update={
            "shadow": Shadow(share=0.5, requests=COPIES, seconds=1, timeout_seconds=5),
            "steps": (Step(share=0.5, requests=1_000_000, seconds=0),),
        }
    )
    return no_gates(manifest).model_copy(update={"rollout": rollout})


async def test_a_release_is_shadowed_before_it_meets_a_client(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"
    trial = installation.ship(installation.spec("b", shadowed))
    installation.wait(lambda: installation.rollout(trial.id).state == "shadowing", "the shadow", 60)

    connection = Connection(installation.gateway, installation.key)
    copied: list[str] = []
    view = installation.rollout(trial.id)
    for number in range(2_000):
        question, _ = questions[number % len(questions)]
        body = {
            "model": "banking",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 8,
            "stream": number % 2 == 0,
        }
        reply = await connection.post("/v1/chat/completions", body, session=f"s{number}")
        assert reply.status == 200, reply
        view = installation.rollout(trial.id)
        if view.state != "shadowing":
            break
        assert reply.release == first.release
        copied.append(reply.request_id)
    connection.close()
    assert view.state in ("shifting", "judging"), view
    assert view.shadow is not None
    assert view.shadow.copies >= COPIES
    assert view.shadow.failed == 0
    assert view.verdict is None or view.verdict.numbers["canary"]["units"] == 0

    store = open_store(installation.paths.store_url)
    try:
        shadows = store.records(RecordFilter(arm="shadow"), limit=10_000)
    finally:
        store.close()
    assert len(shadows) >= COPIES
    assert {r.release for r in shadows} == {trial.release}
    assert {r.rollout for r in shadows} == {trial.id}
    assert {r.id.removesuffix(".shadow") for r in shadows} <= {*copied, reply.request_id}
    assert all(r.completion_tokens > 0 for r in shadows if r.status == 200)
    ended: RolloutView = installation.control.post(RolloutView, "rollouts", trial.id, "abort")
    assert installation.finish(ended.id).outcome in ("rolled_back", "aborted")
