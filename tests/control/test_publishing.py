"""What the gateway is told, and under which version."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from control.simulated_world import DIRECT, NOWHERE, World
from fairlead.control.limits.key_views import KeyRequest
from fairlead.control.shipping.spec import ServiceSpec, check_spec
from fairlead.control.world.routing import service_route
from fairlead.control.world.wants import KnownRelease, ServiceWant
from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import Engine, Release, RemoteModel, WeightsModel
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.rollout.machine import Desired

S = ReplicaState
TWO = msgspec.structs.replace(DIRECT, champion_replicas=2)


async def test_workers_on_later_versions_than_the_store_s_are_reached_all_the_same(
    world: World,
) -> None:
    """The database was restored from a backup; keys and routes must arrive."""
    await world.first_champion()
    world.store.set_setting("snapshot", "3")
    for worker in world.workers:
        assert worker.snapshot is not None
        worker.snapshot = msgspec.structs.replace(worker.snapshot, version=50)
    await world.restart()
    world.published.clear()
    await world.turn(seconds=6.0)
    await world.turn()
    assert [w.snapshot for w in world.workers] == [world.plane.hub.snapshot] * 2
    assert world.published[-1].version == 51
    assert world.plane.hub.is_current
    await world.plane.keys.create("late")
    await world.turn()
    assert [w.snapshot.version for w in world.workers if w.snapshot] == [52, 52]


async def test_a_later_version_reported_after_the_first_snapshot_makes_another(
    world: World,
) -> None:
    await world.first_champion()
    worker = world.workers[0]
    assert worker.snapshot is not None
    worker.snapshot = msgspec.structs.replace(worker.snapshot, version=1_000_000)
    await world.turn()
    assert worker.snapshot == world.plane.hub.snapshot
    assert world.published[-1].version == 1_000_001
    seen = len(world.published)
    await world.turn()
    assert len(world.published) == seen


async def test_a_champion_whose_replicas_are_all_unhealthy_keeps_its_endpoints(
    world: World,
) -> None:
    """They may serve though the probes are late; a refusal of all requests never does."""
    await world.first_champion(plan=TWO)
    first, second = (r.id for r in world.replicas_of("a"))
    for replica in (first, second):
        world.target.set_state(replica, S.UNHEALTHY)
    await world.turn()
    endpoints = world.route().releases[world.digests["a"]].endpoints
    assert [e.replica for e in endpoints] == [first, second]


async def test_a_remote_champion_has_its_endpoint_at_once_after_a_restart_of_control(
    remote: KnownRelease,
) -> None:
    route = routed(remote, S.STARTING, as_champion=True)
    assert [e.replica for e in route] == ["r"]


@pytest.mark.parametrize("state", [S.UNHEALTHY, S.STARTING])
async def test_a_canary_gets_requests_on_ready_replicas_only(
    remote: KnownRelease, state: ReplicaState
) -> None:
    assert not routed(remote, state, as_champion=False)
    assert routed(remote, S.READY, as_champion=False)


@pytest.mark.parametrize("state", [S.SURPLUS, S.STOPPING, S.BACKING_OFF, S.FAILED])
async def test_what_leaves_or_has_ended_is_no_endpoint(
    remote: KnownRelease, state: ReplicaState
) -> None:
    assert not routed(remote, state, as_champion=True)


async def test_a_fallback_is_published_once_there_is_such_a_service_and_status_says_so_till_then(
    world: World,
) -> None:
    await world.first_champion("a", fallbacks=("shop", "nobody"))
    assert world.route("bank").fallbacks == ()
    assert await trouble(world) == (
        "no fallback: there is no service shop, nobody; ship it, or take it out"
    )
    await world.first_champion("b", service="shop")
    await world.turn()
    assert world.route("bank").fallbacks == ("shop",)
    assert world.route("shop").fallbacks == ()
    assert "no service nobody;" in await trouble(world)
    await world.plane.apply(world.spec("a", plan=DIRECT, fallbacks=("shop",)))
    await world.turn()
    assert await trouble(world) == ""


@pytest.mark.parametrize("fallbacks", [("bank",), ("a", "a"), ("A b",), tuple("abcdefghi")])
async def test_fallbacks_that_a_manifest_could_not_have_said_are_refused(
    world: World, fallbacks: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput, match="fallbacks"):
        check_spec(world.spec("a", fallbacks=fallbacks))


async def test_the_gateway_is_told_a_key_s_priority(world: World) -> None:
    await world.first_champion()
    await world.plane.keys.create("important", KeyRequest("important", priority=7))
    await world.turn()
    assert world.plane.hub.snapshot is not None
    priorities = {key.name: key.priority for key in world.plane.hub.snapshot.keys}
    assert priorities["important"] == 7
    assert (await world.plane.keys.revoke("important")).priority == 7


async def trouble(world: World) -> str:
    """What `status` says of the service `bank`."""
    status = await world.plane.reports.status()
    return next(s.trouble for s in status.services if s.name == "bank")


@pytest.fixture
def remote() -> KnownRelease:
    release = Release(model=RemoteModel(base_url=NOWHERE, model="m"), engine=Engine(kind="remote"))
    return KnownRelease("sha256:a", "a", release)


def routed(known: KnownRelease, state: ReplicaState, *, as_champion: bool) -> tuple[object, ...]:
    """The endpoints of a release with one replica in this state."""
    desired = (
        Desired(champion=known.digest)
        if as_champion
        else Desired(champion=None, canary=known.digest, share=0.1)
    )
    replica = ReplicaStatus("r", known.release.engine_digest, state, NOWHERE, 0, 4, 0.0)
    spec = ServiceSpec("bank", known.digest, "a", DIRECT)
    want = ServiceWant(spec, desired, None, {known.digest: known}, {})
    route = service_route(want, [replica])
    return route.releases[known.digest].endpoints


@pytest.mark.parametrize(
    ("kind", "model", "continues"),
    [
        ("llama.cpp", WeightsModel(format="gguf", files=()), "llama.cpp"),
        ("remote", RemoteModel(base_url="https://x.example/v1", model="m"), None),
    ],
)
def test_the_gateway_is_told_which_engine_can_go_on_with_a_broken_stream(
    kind: Literal["llama.cpp", "remote"], model: WeightsModel | RemoteModel, continues: str | None
) -> None:
    known = KnownRelease("sha256:a", "a", Release(model=model, engine=Engine(kind=kind)))
    spec, desired = ServiceSpec("bank", known.digest, "a", DIRECT), Desired(champion=known.digest)
    route = service_route(ServiceWant(spec, desired, None, {known.digest: known}, {}), [])
    assert route.releases[known.digest].continues == continues
