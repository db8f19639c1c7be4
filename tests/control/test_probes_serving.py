"""Probes of whatever serves: the candidate of a rollout, and fallbacks that declare none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from control.simulated_world import World
from control.test_probes import SPEC, Place, place
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.probing.serving import with_fallbacks
from fairlead.control.shipping.spec import ProbeSpec, ServiceSpec
from fairlead.domain.errors import Conflict
from fairlead.domain.quota import Price
from fairlead.domain.release import Engine, Release, RemoteModel
from fairlead.evaluation.cases import Suite, make_case
from fairlead.probing.model import ProbeRule

assert place
NEXT = "sha256:" + "cd" * 32
RULE = ProbeRule("sha256:" + "ef" * 32)


async def settle(world: World) -> None:
    """Wait for what is asked in the background."""
    errands = [watch.errand for watch in world.plane.probes._watches.values()]
    tasks = [errand.task for errand in errands if errand.task is not None]
    if tasks:
        await asyncio.wait(tasks)


async def test_the_candidate_of_a_rollout_is_probed_and_goes_on_as_champion(
    world: World, replica: Callable[..., AnsweringReplica]
) -> None:
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    suite = Suite(tuple(make_case(f"say {number}", f"{number}") for number in range(2)))
    rule = ProbeRule(
        world.registry.put_blob(suite.to_bytes(), "application/json"),
        cases=2, interval_s=5.0, reference_rounds=8,
    )  # fmt: skip
    await world.first_champion()
    world.users_per_turn = 6
    rollout = await world.ship("b", probes=ProbeSpec(rule))
    assert world.plane.probes.views() == [], "a release that serves nobody is asked nothing"
    await world.until(lambda: world.row(rollout).state == "judging")
    for _ in range(12):
        await world.turn()
        await settle(world)
    (view,) = world.plane.probes.views()
    assert (view.role, view.release) == ("candidate", world.digests["b"])
    assert view.rounds >= 2
    rounds = view.rounds
    await world.plane.command(rollout, "promote")
    for _ in range(40):
        await world.turn()
        await settle(world)
    assert world.champion() == world.digests["b"]
    (view,) = world.plane.probes.views()
    assert (view.role, view.release) == ("champion", world.digests["b"])
    assert view.rounds > rounds, "what was known of it goes on"


async def test_a_candidate_that_changes_is_told_and_moves_no_traffic(place: Place) -> None:
    release = Release(RemoteModel("http://x/v1", "m"), Engine("remote"))
    client = ReplicaClient(release, lambda: place.urls, timeout_s=5.0)
    place.probes._client_of = lambda _digest, _timeout_s: client
    place.rule = msgspec.structs.replace(place.rule, on_change="fallback")
    candidate = msgspec.structs.replace(place.spec, release=NEXT, name="b")

    async def turn() -> None:
        await place.probes.advance([SPEC], [candidate])
        for watch in place.probes._watches.values():
            if watch.errand.task is not None:
                await asyncio.wait([watch.errand.task])

    for number in range(50):
        place.provider.answer = (lambda text: "something else") if number >= 30 else str
        await turn()
        place.now += 100.0
    (view,) = place.probes.views()
    assert (view.role, view.state, view.is_diverted) == ("candidate", "changed", False)
    assert place.probes.view("bank") is None
    assert not place.probes.is_diverted("bank", NEXT)
    (told,) = [e for e in place.store.events("bank", limit=99) if e.kind == "unrequested_release"]
    assert "its fallbacks answer" not in told.message
    with pytest.raises(Conflict, match="its provider has changed"):
        await place.probes.command("bank", "run")
    assert (await place.probes.command("bank", "accept")).change is None
    await place.probes.advance([SPEC])
    assert place.probes.views() == []


def test_a_fallback_without_probes_of_its_own_has_those_of_who_falls_back_to_it() -> None:
    probes = ProbeSpec(msgspec.structs.replace(RULE, on_change="fallback"))
    first = msgspec.structs.replace(SPEC, probes=probes, fallbacks=("spare", "own", "here"))
    spare = msgspec.structs.replace(SPEC, service="spare")
    own = msgspec.structs.replace(SPEC, service="own", probes=ProbeSpec(RULE))
    here = msgspec.structs.replace(SPEC, service="here", release=NEXT)
    remote = {SPEC.release}.__contains__

    def found(*specs: ServiceSpec) -> dict[str, ProbeSpec | None]:
        return {spec.service: spec.probes for spec in with_fallbacks(specs, remote)}

    assert found(first, spare, own, here) == {
        "bank": probes, "spare": ProbeSpec(RULE), "own": ProbeSpec(RULE), "here": None,
    }  # fmt: skip
    assert found(spare, own)["spare"] is None
    bounded = ProbeSpec(msgspec.structs.replace(RULE, usd_per_day=1.0))
    first = msgspec.structs.replace(first, probes=bounded)
    assert found(first, spare)["spare"] is None, "what it costs is not known"
    priced = msgspec.structs.replace(spare, price=Price(1.0, 1.0))
    assert found(first, priced)["spare"] == bounded
