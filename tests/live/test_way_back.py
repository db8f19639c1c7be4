"""How fast a whole release goes back, and conversations that may finish, with real processes."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from fairlead.control.views import RolloutView
from fairlead.manifest import Manifest
from fairlead.manifest.rollout import Step
from support.installation import Installation
from support.load import Load, Reply

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

TRIES = 5
RATE = 20.0
"""Requests in a second."""
SESSIONS = [f"session-{n}" for n in range(12)]


def no_gates(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


def half(manifest: Manifest, **changes: object) -> Manifest:
    """A canary with half of the units that does not end by itself within the test."""
    steps = (Step(share=0.5, requests=1_000_000, seconds=0),)
    rollout = manifest.rollout.model_copy(update={"steps": steps, **changes})
    return no_gates(manifest).model_copy(update={"rollout": rollout})


def may_finish(manifest: Manifest) -> Manifest:
    return half(manifest, conversations="finish", finish_minutes=5.0)


def judging(installation: Installation, rollout: RolloutView) -> RolloutView:
    installation.wait(lambda: installation.rollout(rollout.id).state == "judging", "the canary")
    return installation.rollout(rollout.id)


def abort(installation: Installation, rollout: str) -> None:
    installation.control.post(RolloutView, "rollouts", rollout, "abort")


@contextmanager
def traffic(installation: Installation, questions: list[tuple[str, str]]) -> Iterator[list[Reply]]:
    """Clients that ask meanwhile, and what they were answered."""
    load = Load(installation.gateway, installation.key, questions, RATE, streamed=0.5)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(load.run(stop),))
    thread.start()
    try:
        yield load.replies
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def has_answered(release: str, replies: list[Reply], since: int) -> bool:
    return any(reply.release == release for reply in replies[since:])


def test_a_whole_release_is_back_in_all_workers_in_under_a_second(
    installation: Installation,
    questions: list[tuple[str, str]],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """From the decision until each worker has said that it runs on the champion alone: so it is
    for the most, while clients ask and no answer is lost."""
    installation.finish(installation.ship(installation.spec("a", no_gates)).id)
    took = []
    with traffic(installation, questions) as replies:
        for _ in range(TRIES):
            before = len(replies)
            canary = judging(installation, installation.ship(installation.spec("b", half)))
            answered = partial(has_answered, canary.release, replies, before)
            installation.wait(answered, "an answer of the canary")
            abort(installation, canary.id)
            ended = installation.finish(canary.id)
            assert ended.outcome == "rolled_back"
            at = {entry.state: entry.at for entry in ended.history}
            took.append(at["rolled_back"] - at["rolling_back"])
    record_testsuite_property("seconds", [round(seconds, 3) for seconds in took])
    assert statistics.median(took) < 1.0, took
    assert [reply for reply in replies if reply.status != 200] == []


def test_conversations_finish_where_they_are_and_others_move(installation: Installation) -> None:
    """After a rollback a session goes on with the canary, a new one with the champion."""
    installation.finish(installation.ship(installation.spec("a", no_gates)).id)
    canary = judging(installation, installation.ship(installation.spec("b", may_finish)))
    key = installation.make_key("talker")
    url = "http://{}:{}/v1/chat/completions".format(*installation.gateway)
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=30.0) as client:

        def answered_by(session: str) -> str:
            body = {"model": "banking", "messages": [{"role": "user", "content": "my card?"}],
                    "max_tokens": 2}  # fmt: skip
            answer = client.post(url, json=body, headers={"x-session-id": session})
            assert answer.status_code == 200, answer.text
            return answer.headers["x-fairlead-release"]

        installation.wait(lambda: client.post(url, json={}).status_code != 401, "the key")
        before = {session: answered_by(session) for session in SESSIONS}
        on_canary = [session for session, release in before.items() if release == canary.release]
        assert on_canary
        assert len(on_canary) < len(SESSIONS)
        # A conversation that has just begun may not be recorded yet, and moves.
        installation.wait(
            lambda: (installation.rollout(canary.id).served or 0) >= len(on_canary), "its records"
        )
        installation.wait(lambda: _age(installation, canary.id) > 4.0, "that they are not new")
        abort(installation, canary.id)
        installation.wait(
            lambda: answered_by("new-1") == answered_by("new-2") == canary.champion, "the swap"
        )
        after = {session: answered_by(session) for session in SESSIONS}
        assert after == before
        assert {answered_by(f"fresh-{n}") for n in range(12)} == {canary.champion}
        assert installation.rollout(canary.id).state == "rolling_back"
        abort(installation, canary.id)
        assert installation.finish(canary.id).outcome == "rolled_back"
        assert {answered_by(session) for session in SESSIONS} == {canary.champion}


def _age(installation: Installation, rollout: str) -> float:
    """Seconds since the last request under the rollout began."""
    rows = installation.control.get(list[dict[str, object]], "records", rollout=rollout)
    return time.time() - max(float(str(row["started_at"])) for row in rows)
