"""What people do by hand: pause, resume, promote, abort, roll back, revoke, restart."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from fairlead.control.limits.key_views import KeyView
from fairlead.control.views import Applied, RollbackRequest, RolloutView
from fairlead.domain.errors import Conflict
from fairlead.manifest import Manifest
from fairlead.manifest.rollout import Step
from support.installation import Installation, left_over, running
from support.load import Load, Reply, is_whole

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


def no_gates(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


def long_canary(manifest: Manifest) -> Manifest:
    """A canary that does not end by itself within the test."""
    step = Step(share=0.5, requests=1_000_000, seconds=0)
    rollout = manifest.rollout.model_copy(update={"steps": (step,)})
    return no_gates(manifest).model_copy(update={"rollout": rollout})


def command(installation: Installation, rollout: str, word: str) -> RolloutView:
    return installation.control.post(RolloutView, "rollouts", rollout, word)


def more_replicas(manifest: Manifest) -> Manifest:
    replicas = manifest.replicas.model_copy(update={"champion": 3})
    return no_gates(manifest).model_copy(update={"replicas": replicas})


def apply(
    installation: Installation, release: str, change: Callable[[Manifest], Manifest]
) -> Applied:
    """What `fairlead ship` does with a release that is the champion already."""
    spec = installation.spec(release, change)
    return installation.control.put(Applied, "services", "banking", body=spec)


def judging(installation: Installation, release: str) -> RolloutView:
    """Ship a release and wait until its canary has traffic."""
    view = installation.ship(installation.spec(release, long_canary))
    installation.wait(lambda: installation.rollout(view.id).state == "judging", "the canary", 30)
    return installation.rollout(view.id)


def champion(installation: Installation) -> str:
    return installation.status().services[0].champion_name


def test_rollouts_obey_people_and_rollback_restores_the_release(installation: Installation) -> None:
    """Promote and abort by hand, then go back to the release before, as a whole."""
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"

    canary = judging(installation, "b")
    with pytest.raises(Conflict, match="under way"):
        installation.ship(installation.spec("c", no_gates))
    assert command(installation, canary.id, "pause").paused
    assert not command(installation, canary.id, "resume").paused
    command(installation, canary.id, "promote")
    assert installation.finish(canary.id).outcome == "promoted"
    assert champion(installation) == "b"
    with pytest.raises(Conflict, match="champion already"):
        installation.ship(installation.spec("b", no_gates))
    with pytest.raises(Conflict, match="has ended"):
        command(installation, canary.id, "abort")
    assert apply(installation, "b", more_replicas).changed
    assert not apply(installation, "b", more_replicas).changed
    installation.wait(lambda: len(ready(installation)) == 3, "a third replica", 30)
    with pytest.raises(Conflict, match="not the champion"):
        apply(installation, "a", more_replicas)
    assert apply(installation, "b", no_gates).changed

    aborted = judging(installation, "c")
    command(installation, aborted.id, "abort")
    assert installation.finish(aborted.id).outcome == "rolled_back"
    assert champion(installation) == "b"

    body = RollbackRequest()
    back = installation.control.post(RolloutView, "services", "banking", "rollback", body=body)
    assert installation.finish(back.id).outcome == "promoted"
    assert champion(installation) == "a"
    status = installation.status().services[0]
    assert status.canary is None
    installation.wait(lambda: len(installation.status().replicas) == 2, "old replicas to stop", 30)


async def ask(installation: Installation, count: int) -> list[Reply]:
    load = Load(installation.gateway, installation.key, [("where is my card?", "")], 50)
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(stop))
    await asyncio.sleep(count / 50)
    stop.set()
    await task
    return load.replies


def test_a_revoked_key_is_refused_and_a_new_up_goes_on_from_the_state(
    installation: Installation,
) -> None:
    """After `down` and `up` on the same folder the champion serves again, with the same keys."""
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"
    assert all(is_whole(r) for r in asyncio.run(ask(installation, 10)))
    installation.stop()
    with running(installation.paths.root) as again:
        again.key = installation.key
        again.wait(lambda: len(ready(again)) == 2, "the champion's replicas", 30)
        replies = asyncio.run(ask(again, 10))
        assert {reply.status for reply in replies} == {200}
        again.control.delete(KeyView, "keys", "test")
        again.wait(lambda: asyncio.run(ask(again, 1))[0].status == 401, "the key to be gone", 5)


def ready(installation: Installation) -> list[int]:
    return [r.pid for r in installation.status().replicas if r.state == "ready"]


def test_nothing_outlives_a_supervisor_that_was_killed(installation: Installation) -> None:
    """kill -9 of `fairlead up` takes gateway, control, observer and replicas with it."""
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"
    assert installation.process is not None
    everybody = installation.pids("fairlead")
    assert len(everybody) >= 6
    installation.process.send_signal(signal.SIGKILL)
    installation.process.wait()
    installation.process = None
    deadline = time.monotonic() + 20
    while left_over(installation.paths.root) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_over(installation.paths.root) == []
