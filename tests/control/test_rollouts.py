"""Rollouts from `ship` to their end, in a world on simulated time."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest

from control.simulated_world import DIRECT, PLAN, World, questions
from fairlead.control.shipping import evidence
from fairlead.control.shipping.stored import read_rollout
from fairlead.control.views import RollbackRequest
from fairlead.domain.errors import Conflict, InvalidInput, NotFound, StorageFailed
from fairlead.domain.replica import ReplicaState
from fairlead.rollout.judge import Gathering, Judge, new_judge, observe
from fairlead.rollout.plan import Plan, ShadowRule, Step
from fairlead.store.rows import RolloutRow
from fairlead.wire.snapshot import Limits, Shadow

LONG = msgspec.structs.replace(PLAN, steps=(Step(0.5, 1_000_000, 0.0),))
"""A canary that does not end by itself within a test."""


async def judged(world: World, release: str) -> str:
    """Ship a release whose canary goes on until it is told otherwise."""
    rollout = await world.ship(release, plan=LONG)
    await world.until(lambda: world.row(rollout).state == "judging")
    return rollout


async def test_a_first_release_serves_all_traffic_once_its_replicas_are_ready(world: World) -> None:
    plan = msgspec.structs.replace(PLAN, champion_replicas=2)
    rollout = await world.ship("a", plan=plan)
    world.target.held.add(world.engine_of("a"))
    for _ in range(5):
        await world.turn()
    assert world.champion() is None
    world.target.held.clear()
    assert (await world.finish(rollout)).outcome == "promoted"
    await world.turn()
    route = world.route()
    assert (route.champion, route.canary, route.rollout) == (world.digests["a"], None, None)
    assert len(route.releases[world.digests["a"]].endpoints) == 2
    assert route.releases[world.digests["a"]].sampling == {"temperature": 0.0}


async def test_a_better_canary_is_promoted_and_its_spec_becomes_the_service_s(world: World) -> None:
    await world.first_champion(limits=Limits(queue=10))
    world.users_per_turn = 15
    rollout = await world.ship("b", limits=Limits(queue=77))
    await world.until(lambda: world.row(rollout).state == "judging")
    assert world.route().limits.queue == 10, "a canary runs by the champion's limits"
    view = await world.finish(rollout)
    assert view.outcome == "promoted"
    assert view.verdict is not None
    assert view.verdict.numbers["e_promote"] >= 20
    assert world.champion() == world.digests["b"]
    await world.turn()
    assert world.route().limits.queue == 77
    assert world.served["b"] > 30
    row = world.store.service("bank")
    assert row is not None
    assert row.previous == world.digests["a"]


SHADOWED = msgspec.structs.replace(
    PLAN, shadow=ShadowRule(0.5, requests=20, seconds=3.0, timeout_s=1.0)
)


async def test_a_release_answers_copies_before_it_answers_clients(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    rollout = await world.ship("b", plan=SHADOWED)
    await world.until(lambda: world.row(rollout).state == "shadowing")
    await world.turn()
    route = world.route()
    assert route.shadow == Shadow(world.digests["b"], 0.5, timeout_s=1.0)
    assert route.releases[world.digests["b"]].endpoints
    assert (route.canary, route.champion, route.phase) == (None, world.digests["a"], 0)
    assert world.served.get("b", 0) == 0
    view = await world.finish(rollout)
    assert view.outcome == "promoted"
    assert view.shadow is not None
    assert view.shadow.copies >= 20
    assert (view.shadow.failed, view.shadow.slower) == (0, 0)
    assert view.shadow.e_worse == 1 < view.shadow.e_not_worse
    assert world.served["b"] > 30
    await world.turn()
    assert world.route().shadow is None


async def test_a_release_that_fails_its_copies_never_answers_a_client(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    view = await world.finish(await world.ship("c", plan=SHADOWED))
    assert view.outcome == "failed"
    assert view.reason.startswith("shadow: worse on pairs: ")
    assert view.ending == "shadow_failed"
    assert view.shadow is not None
    assert view.shadow.e_worse >= view.shadow.e_worse_at
    assert 12 <= view.shadow.copies <= world.copied["c"]
    assert world.served.get("c", 0) == 0
    await world.turn()
    assert (world.route().shadow, world.route().champion) == (None, world.digests["a"])


async def test_shares_grow_step_by_step_with_a_new_salt_each(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    await world.finish(await world.ship("b"))
    splits = list(
        dict.fromkeys(
            (s.services["bank"].canary_share, s.services["bank"].phase, s.services["bank"].salt)
            for s in world.published
            if s.services["bank"].canary is not None
        )
    )
    assert [(share, phase) for share, phase, _ in splits] == [(0.3, 1), (0.6, 2)]
    assert splits[0][2] != splits[1][2]


async def test_a_worse_canary_is_rolled_back_with_its_evidence(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    view = await world.finish(await world.ship("c"))
    assert view.outcome == "rolled_back"
    assert view.verdict is not None
    numbers = view.verdict.numbers
    assert numbers["e_rollback"] >= numbers["threshold_rollback"] == 100
    assert "canary fails" in view.reason
    assert numbers["canary"]["rate"] > numbers["champion"]["rate"]
    await world.turn()
    assert world.champion() == world.digests["a"]
    assert set(world.route().releases) == {world.digests["a"]}
    await world.until(lambda: world.replicas_of("c") == [])
    kinds = [event.kind for event in world.store.events("bank", rollout=view.id)]
    assert kinds[0] == "rollout_begun"
    assert kinds[-1] == "rollout_rolled_back"


async def test_a_canary_whose_replicas_fail_is_given_up_with_their_output(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 5
    rollout = await judged(world, "b")
    (replica,) = world.replicas_of("b")
    world.target.set_state(replica.id, ReplicaState.FAILED, "cannot map memory")
    view = await world.finish(rollout)
    assert view.outcome == "rolled_back"
    assert "cannot map memory" in view.reason


async def test_a_canary_that_never_gets_well_is_given_up_after_a_minute(world: World) -> None:
    await world.first_champion()
    rollout = await judged(world, "b")
    (replica,) = world.replicas_of("b")
    world.target.set_state(replica.id, ReplicaState.UNHEALTHY, "no answer")
    begun = world.now
    view = await world.finish(rollout, seconds=7.0)
    assert view.outcome == "rolled_back"
    assert 60 < world.now - begun < 80


async def test_a_service_has_one_rollout_at_a_time(world: World) -> None:
    await world.first_champion()
    rollout = await judged(world, "b")
    with pytest.raises(Conflict, match=f"rollout {rollout} .* is under way"):
        await world.ship("c")
    await world.plane.command(rollout, "abort")
    await world.finish(rollout)
    await world.ship("c")


async def test_the_champion_is_not_shipped_again(world: World) -> None:
    await world.first_champion()
    with pytest.raises(Conflict, match="is the champion already"):
        await world.ship("a")


async def test_the_champion_s_settings_are_changed_without_a_rollout(world: World) -> None:
    """And kept through a restart; a rollout under way, or another release, is not touched so."""
    await world.first_champion(limits=Limits(queue=1))
    changed = world.spec("a", plan=DIRECT, limits=Limits(queue=9))
    assert (await world.plane.apply(changed)).changed
    await world.turn()
    assert world.route().limits.queue == 9
    assert not (await world.plane.apply(changed)).changed
    await world.restart()
    await world.turn()
    assert world.route().limits.queue == 9
    assert len(world.rollouts()) == 1
    with pytest.raises(Conflict, match="is not the champion"):
        await world.plane.apply(world.spec("b"))
    await judged(world, "b")
    with pytest.raises(Conflict, match="is under way"):
        await world.plane.apply(changed)


async def test_a_release_that_the_registry_does_not_have_leaves_nothing_behind(
    world: World,
) -> None:
    unknown = "sha256:" + "0" * 64
    with pytest.raises(NotFound):
        await world.plane.ship(msgspec.structs.replace(world.spec("a"), release=unknown))
    assert world.store.services() == []
    assert world.rollouts() == []


async def test_two_services_do_not_touch_each_other(world: World) -> None:
    await world.first_champion()
    await world.first_champion("b", service="shop")
    world.users_per_turn = 15
    before, begun = world.route("shop"), len(world.published)
    worse = await world.ship("c")
    assert (await world.finish(worse)).outcome == "rolled_back"
    later = [snapshot.services["shop"] for snapshot in world.published[begun:]]
    assert len(later) >= 3
    assert all(route == before for route in later)
    assert world.champion("shop") == world.digests["b"]


async def test_services_with_one_engine_share_its_replicas(world: World) -> None:
    await world.first_champion()
    await world.first_champion("a", service="shop")
    assert len(world.target.replicas()) == 1
    assert world.route("shop").releases.keys() == world.route("bank").releases.keys()


async def test_a_paused_rollout_waits_and_goes_on_when_resumed(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    rollout = await world.ship("b")
    await world.until(lambda: world.row(rollout).state == "judging")
    assert (await world.plane.command(rollout, "pause")).paused
    for _ in range(30):
        await world.turn()
    view = await world.plane.reports.rollout(rollout)
    assert (view.outcome, view.step) == ("running", 0)
    assert not (await world.plane.command(rollout, "resume")).paused
    assert (await world.finish(rollout)).outcome == "promoted"


async def test_a_paused_rollout_of_a_worse_canary_is_still_rolled_back(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    rollout = await world.ship("c")
    await world.until(lambda: world.row(rollout).state == "judging")
    await world.plane.command(rollout, "pause")
    assert (await world.finish(rollout)).outcome == "rolled_back"


async def test_a_canary_can_be_promoted_and_aborted_by_hand(world: World) -> None:
    await world.first_champion()
    promoted = await judged(world, "b")
    await world.plane.command(promoted, "promote")
    assert (await world.finish(promoted)).reason == "promoted by hand"
    aborted = await judged(world, "c")
    await world.plane.command(aborted, "abort")
    view = await world.finish(aborted)
    assert (view.outcome, view.reason) == ("rolled_back", "aborted by hand")
    assert world.champion() == world.digests["b"]


async def test_commands_that_make_no_sense_are_refused_and_change_nothing(world: World) -> None:
    await world.first_champion()
    ended = world.rollouts()[0].id
    with pytest.raises(Conflict, match="has ended"):
        await world.plane.command(ended, "abort")
    with pytest.raises(NotFound):
        await world.plane.command("ro-none", "abort")
    rollout = await judged(world, "b")
    before = world.row(rollout)
    with pytest.raises(InvalidInput, match="pause, resume, promote, approve, abort"):
        await world.plane.command(rollout, "explode")
    assert world.row(rollout) == before


async def evaluated(world: World, release: str) -> str:
    """Evaluate a release whose replicas do not come up, so that it goes on."""
    world.target.held.add(world.engine_of(release))
    spec = world.spec(release, gates=(world.gate(questions(2), minimum=0.5),))
    view = await world.plane.ship(spec, gates_only=True)
    await world.turn()
    return view.id


async def returned(world: World, why: str = "rolled back by hand", to: str | None = None) -> str:
    """Go back while nothing is under way, to the end; the name of the release that serves then."""
    view = await world.plane.rollback("bank", RollbackRequest(to, why))
    final = await world.finish(view.id)
    assert (final.outcome, final.goes_back, final.then) == ("promoted", True, None)
    assert final.reason == why
    assert world.champion() == final.release
    return final.name


def previous(world: World) -> str | None:
    """The name of the release to which `rollback` goes."""
    row = world.store.service("bank")
    assert row is not None
    names = {digest: name for name, digest in world.digests.items()}
    return None if row.previous is None else names[row.previous]


async def test_rolling_back_ends_an_active_rollout_for_the_reason_given(world: World) -> None:
    await world.first_champion()
    rollout = await judged(world, "b")
    view = await world.plane.rollback("bank", RollbackRequest(why="complaints"))
    assert (view.id, view.then) == (rollout, None)
    view = await world.finish(rollout)
    assert (view.outcome, view.reason) == ("rolled_back", "complaints")
    assert [h.why for h in view.history[-2:]] == ["complaints", "complaints"]
    assert world.champion() == world.digests["a"]


async def test_rolling_back_ends_a_canary_and_goes_on_to_the_release_named(world: World) -> None:
    for release in "ab":
        await world.first_champion(release)
    rollout = await judged(world, "c")
    view = await world.plane.rollback("bank", RollbackRequest("a", "complaints"))
    assert view.id == rollout
    assert view.then is not None
    ended = await world.finish(rollout)
    assert (ended.outcome, ended.reason, ended.then) == ("rolled_back", "complaints", view.then)
    begun = await world.plane.reports.rollout(view.then)
    assert (begun.outcome, begun.goes_back) == ("running", True)
    final = await world.finish(view.then)
    assert (final.outcome, final.reason) == ("promoted", "complaints")
    assert (world.champion(), previous(world)) == (world.digests["a"], None)
    kinds = [event.kind for event in world.store.events("bank", rollout=view.then)]
    assert (kinds[0], kinds[-1]) == ("rollout_begun", "rollout_promoted")


async def test_the_champion_named_as_the_release_to_go_back_to_ends_the_canary(
    world: World,
) -> None:
    await world.first_champion()
    rollout = await judged(world, "b")
    view = await world.plane.rollback("bank", RollbackRequest(to="a"))
    assert (view.id, view.then) == (rollout, None)
    assert (await world.finish(rollout)).outcome == "rolled_back"
    assert [row.release for row in world.rollouts()] == [world.digests["b"], world.digests["a"]]
    with pytest.raises(Conflict, match="is the champion already"):
        await world.plane.rollback("bank", RollbackRequest(to="a"))


async def test_rolling_back_ends_an_evaluation_and_does_go_back(world: World) -> None:
    for release in "ab":
        await world.first_champion(release)
    evaluation = await evaluated(world, "c")
    view = await world.plane.rollback("bank", RollbackRequest(why="complaints"))
    ended = await world.plane.reports.rollout(evaluation)
    assert (ended.outcome, ended.reason, ended.then) == ("aborted", "complaints", view.id)
    final = await world.finish(view.id)
    assert (final.outcome, final.reason) == ("promoted", "complaints")
    assert world.champion() == world.digests["a"]


async def test_what_is_under_way_goes_on_where_there_is_no_way_back(world: World) -> None:
    await world.first_champion()
    evaluation = await evaluated(world, "c")
    with pytest.raises(Conflict, match="no earlier release"):
        await world.plane.rollback("bank", RollbackRequest())
    assert world.row(evaluation).active
    await world.plane.command(evaluation, "abort")
    rollout = await judged(world, "b")
    before = world.row(rollout)
    with pytest.raises(NotFound, match="never been its champion"):
        await world.plane.rollback("bank", RollbackRequest(to="d"))
    with pytest.raises(NotFound, match="no release 'e' of service bank"):
        await world.plane.rollback("bank", RollbackRequest(to="e"))
    with pytest.raises(InvalidInput, match="longer than 500"):
        await world.plane.rollback("bank", RollbackRequest(why="y" * 501))
    assert world.row(rollout) == before


async def test_rolling_back_again_goes_further_back_and_never_to_what_was_left(
    world: World,
) -> None:
    for release in "abc":
        await world.first_champion(release)
    assert previous(world) == "b"
    assert (await returned(world, "complaints"), previous(world)) == ("b", "a")
    await world.restart()
    assert (await returned(world), previous(world)) == ("a", None)
    with pytest.raises(Conflict, match="no earlier release") as refused:
        await world.plane.rollback("bank", RollbackRequest())
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("name a former champion with --to: b (")
    assert (await returned(world, to="c"), previous(world)) == ("c", "a")
    await world.first_champion("d")
    assert (await returned(world), await returned(world)) == ("c", "a")


async def test_a_second_rollback_does_not_stop_the_first(world: World) -> None:
    """But another release can be named meanwhile."""
    for release in "abc":
        await world.first_champion(release)
    world.target.held.add(world.engine_of("b"))
    first = await world.plane.rollback("bank", RollbackRequest())
    await world.turn()
    for to in (None, "b"):
        with pytest.raises(Conflict, match=r"going back to release b .* already"):
            await world.plane.rollback("bank", RollbackRequest(to=to))
    second = await world.plane.rollback("bank", RollbackRequest(to="a"))
    assert (await world.plane.reports.rollout(first.id)).outcome == "aborted"
    assert (await world.finish(second.id)).outcome == "promoted"
    assert world.champion() == world.digests["a"]


async def test_the_release_named_last_is_the_one_gone_back_to(world: World) -> None:
    """While the workers are still taken off the canary."""
    for release in "abc":
        await world.first_champion(release)
    rollout = await judged(world, "d")
    world.workers[1].is_hung = True
    await world.plane.rollback("bank", RollbackRequest(to="b"))
    await world.turn()
    with pytest.raises(Conflict, match=r"going back to release b .* already"):
        await world.plane.rollback("bank", RollbackRequest())
    view = await world.plane.rollback("bank", RollbackRequest(to="a"))
    assert (view.id, view.state) == (rollout, "rolling_back")
    world.workers[1].is_hung = False
    assert view.then is not None
    await world.finish(rollout)
    assert (await world.finish(view.then)).outcome == "promoted"
    assert world.champion() == world.digests["a"]


async def test_a_release_that_was_removed_from_the_registry_is_not_gone_back_to(
    world: World,
) -> None:
    for release in "ab":
        await world.first_champion(release)
    world.registry.gc({world.digests["b"]}, grace_s=0.0)
    await world.restart()
    with pytest.raises(NotFound, match=r"release a \(.* is not in the registry any more"):
        await world.plane.rollback("bank", RollbackRequest())


async def test_rolling_back_restores_the_release_before_as_a_whole(world: World) -> None:
    """Its limits and its sampling come back with it, without gates and without a canary."""
    await world.first_champion(limits=Limits(queue=10))
    world.users_per_turn = 15
    better = await world.ship("b", limits=Limits(queue=77))
    assert (await world.finish(better)).outcome == "promoted"
    begun = len(world.published)
    view = await world.plane.rollback("bank", RollbackRequest(why="complaints"))
    assert (await world.finish(view.id)).outcome == "promoted"
    await world.turn()
    route = world.route()
    assert route.champion == world.digests["a"]
    assert route.limits.queue == 10
    assert route.releases[world.digests["a"]].sampling == {"temperature": 0.0}
    assert all(s.services["bank"].canary is None for s in world.published[begun:])
    told = [e.message for e in world.store.events("bank", rollout=view.id)]
    assert any("complaints" in message for message in told), told


async def test_one_can_go_back_to_any_former_champion_but_to_no_other(world: World) -> None:
    for release in "abc":
        await world.first_champion(release)
    for to in ("a", "bank/b", world.digests["a"][:15], world.digests["b"][7:19]):
        before = world.champion()
        name = await returned(world, to=to)
        assert world.champion() == world.digests[name] != before
    assert previous(world) == "a"
    with pytest.raises(NotFound, match="never been its champion") as refused:
        await world.plane.rollback("bank", RollbackRequest(to=world.digests["d"]))
    assert "a (" in (refused.value.hint or "")
    with pytest.raises(NotFound, match="no service"):
        await world.plane.rollback("nothing", RollbackRequest())


async def test_without_an_earlier_release_there_is_no_way_back(world: World) -> None:
    await world.first_champion()
    with pytest.raises(Conflict, match="no earlier release"):
        await world.plane.rollback("bank", RollbackRequest())


@pytest.mark.parametrize(("release", "outcome"), [("b", "promoted"), ("c", "rolled_back")])
async def test_windows_with_more_requests_than_are_read_in_a_turn_come_to_the_same_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch, release: str, outcome: str
) -> None:
    """What a turn cannot read is read in the next ones, to the same watermark, and then judged."""
    await world.first_champion()
    monkeypatch.setattr(evidence, "PAGE", 7)
    monkeypatch.setattr(evidence, "PAGES_PER_TURN", 2)
    watermarks = []

    def gathering(judge: Judge, plan: Plan, watermark: float) -> Gathering:
        watermarks.append(watermark)
        return Gathering(judge, plan, watermark)

    monkeypatch.setattr(evidence, "Gathering", gathering)
    world.users_per_turn = 12
    rollout = await world.ship(release)
    unfinished = 0
    for _ in range(600):
        await world.turn(seconds=0.25)
        unfinished += bool(world.plane._rollouts._facts.evidence._gatherings)
        if not world.row(rollout).active:
            break
    assert world.row(rollout).state == outcome
    assert unfinished > 10
    assert not world.plane._rollouts._facts.evidence._gatherings
    stored = read_rollout(world.row(rollout)).document.rollout
    everything = [
        evidence.observation(row)
        for row in world.store.assigned_requests(rollout, after=0.0, until=world.now, limit=10**6)
    ]
    begun = new_judge(stored.plan)
    assert stored.judge in [observe(begun, stored.plan, everything, at) for at in watermarks]


async def test_an_error_in_one_rollout_does_not_hold_up_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, shown with its service, also while it is tried again."""
    first = await world.ship("a", plan=DIRECT)
    second = await world.ship("b", plan=DIRECT, service="shop")
    commit = world.store.commit_rollout
    shown: list[object] = []

    def refuse(row: RolloutRow, **more: Any) -> None:
        if row.id == first:
            shown.append(world.plane._overview.trouble_of("bank"))
            raise StorageFailed("the disk is full", hint="free some space")
        commit(row, **more)

    with monkeypatch.context() as broken:
        broken.setattr(world.store, "commit_rollout", refuse)
        for _ in range(6):
            with contextlib.suppress(StorageFailed):
                await world.turn()
    assert world.row(second).state == "promoted"
    assert world.row(first).state == "evaluating"
    services = {s.name: s for s in (await world.plane.reports.status()).services}
    assert services["bank"].trouble == "the disk is full (free some space)"
    assert services["shop"].trouble == ""
    assert len(shown) > 3
    assert all(shown[1:])
    told = [r for r in caplog.records if "rollout of bank: the disk is full" in r.getMessage()]
    assert len(told) == 1
    assert (await world.finish(first)).outcome == "promoted"
    assert (await world.plane.reports.status()).services[0].trouble == ""
