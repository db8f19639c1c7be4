"""What is wrong with the platform itself is found: records, clocks, providers, drills."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control.acting_world import acting, carry_out, platform, small
from control.simulated_world import DIRECT, World
from fairlead.control.acting.platform import OF_ALL, OF_SERVICES, PAGING, _over_limit, _provider
from fairlead.control.acting.records_watch import PAGE_S, STUCK_S, RecordsWatch
from fairlead.control.drill.drills import Schedule
from fairlead.control.probing.probe_views import probes_view
from fairlead.control.views import WatchView
from fairlead.control.world.hub import SnapshotHub, WorkerStatus
from fairlead.domain.errors import StorageFailed
from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState
from fairlead.manifest.monitor_names import MONITORS
from fairlead.monitoring.actions import ActionKind, ActionPolicy
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.desk import Desk, Duties, Look, note_done, step
from fairlead.probing.course import begin
from fairlead.probing.model import Change, ProbeRule
from fairlead.rollout.drill import DrillRule
from fairlead.store.rows import EventRow, SpoolCursor
from fairlead.wire.snapshot import SyncRequest


async def found(world: World, monitor: str) -> list[Condition]:
    await platform(world).look()
    return [c for c in platform(world).conditions(world.now) if c.monitor == monitor]


def test_actions_can_name_each_of_these_monitors() -> None:
    assert {*OF_SERVICES, *OF_ALL} <= set(MONITORS)
    assert set(PAGING) <= {*OF_SERVICES, *OF_ALL}


async def test_before_the_first_look_nothing_is_said(world: World) -> None:
    await world.first_champion()
    assert platform(world).conditions(world.now) == []
    assert platform(world).looked() == []


async def test_honest_operation_is_silent(world: World) -> None:
    """Rollouts, restarts and time alone raise nothing but what they are."""
    await world.first_champion()
    world.users_per_turn = 10
    await world.ship("b")
    for number in range(1, 121):
        await world.turn()
        for worker in world.workers:
            world.store.open_spool(worker.boot)
            world.store.ingest(worker.boot, [], [], SpoolCursor(1, number, world.now))
        await platform(world).look()
        assert platform(world).conditions(world.now) == []
    assert world.champion() == world.digests["b"]
    await world.restart()
    await platform(world).look()
    assert platform(world).conditions(world.now) == []


# Records and clocks


def worker(number: int = 0, **fields: Any) -> WorkerStatus:
    made = WorkerStatus(f"b{number}", number, 100 + number, 1, 0.1)
    return msgspec.structs.replace(made, **fields)


def faults(conditions: list[Condition]) -> list[str]:
    return [dict(c.labels).get("fault", c.monitor) for c in conditions]


def test_a_spool_that_nobody_reads_is_found_and_one_that_is_read_is_not() -> None:
    watch, now = RecordsWatch(), 0.0
    both = [worker(0), worker(1)]
    for _ in range(200):
        now += 1.0
        watch.look(both, {f"b{n}": SpoolCursor(1, int(now)) for n in (0, 1)}, now)
        assert watch.conditions(both, now) == []
    halted = {f"b{n}": SpoolCursor(1, 200) for n in (0, 1)}
    while now < 200.0 + STUCK_S:
        now += 1.0
        watch.look(both, halted, now)
    (behind,) = watch.conditions(both, now)
    assert (behind.monitor, behind.severity) == ("records", Severity.TICKET)
    assert "2 of 2 gateway workers" in behind.summary
    now += PAGE_S
    watch.look(both, halted, now)
    assert watch.conditions(both, now)[0].severity is Severity.PAGE
    watch.look(both, {f"b{n}": SpoolCursor(2, 0) for n in (0, 1)}, now)
    assert watch.conditions(both, now) == []


def test_a_spool_that_was_never_opened_is_found_and_workers_that_are_gone_are_forgotten() -> None:
    watch = RecordsWatch()
    watch.look([worker()], {}, 0.0)
    watch.look([worker()], {}, STUCK_S + 1.0)
    assert faults(watch.conditions([worker()], STUCK_S + 1.0)) == ["behind"]
    gone = [worker(silent_s=9.0)]
    watch.look(gone, {}, STUCK_S + 2.0)
    assert watch.conditions(gone, STUCK_S + 2.0) == []
    watch.look([worker()], {}, STUCK_S + 3.0)
    assert watch.conditions([worker()], STUCK_S + 3.0) == [], "its time begins anew"


def test_a_spool_that_cannot_be_written_and_records_that_are_lost_are_pages() -> None:
    watch = RecordsWatch()
    full = [worker(0), worker(1, unwritten=7)]
    watch.look(full, {}, 0.0)
    (spool,) = watch.conditions(full, 0.0)
    assert (dict(spool.labels)["fault"], spool.severity) == ("spool", Severity.PAGE)
    assert "worker 1" in spool.summary
    watch.look([worker(1, lost=3)], {}, 1.0)
    watch.look([worker(1, lost=5)], {}, 2.0)
    (lost,) = watch.conditions([worker(1, lost=5)], 3.0)
    assert (dict(lost.labels)["fault"], lost.evidence[0].value) == ("lost", 5.0)
    watch.look([worker(1, lost=5)], {"b1": SpoolCursor(1, 9)}, 3_700.0)
    assert watch.conditions([worker(1, lost=5)], 3_700.0) == []


def test_what_was_lost_before_this_control_is_not_told_again() -> None:
    """It was told by the one before; what is lost from now on is new, also of one that hung."""
    watch = RecordsWatch()
    for now in range(3):
        watch.look([worker(1, lost=5)], {"b1": SpoolCursor(1, now)}, float(now))
        assert watch.conditions([worker(1, lost=5)], float(now)) == []
    watch.look([], {}, 90.0)
    watch.look([worker(1, lost=7)], {"b1": SpoolCursor(1, 9)}, 100.0)
    (lost,) = watch.conditions([worker(1, lost=7)], 100.0)
    assert (dict(lost.labels)["fault"], lost.evidence[0].value) == ("lost", 2.0)


def test_what_a_new_worker_lost_before_it_was_first_seen_is_told() -> None:
    """Workers of before report within seconds, the first time to this control."""
    watch = RecordsWatch()
    watch.look([], {}, 0.0)
    old = worker(0, lost=5)
    for now in range(2, 40, 2):
        watch.look([old], {"b0": SpoolCursor(1, now)}, float(now))
        assert watch.conditions([old], float(now)) == []
    both, spools = [old, worker(1, lost=3)], {f"b{n}": SpoolCursor(1, 50) for n in (0, 1)}
    watch.look(both, spools, 50.0)
    (lost,) = watch.conditions(both, 50.0)
    assert (dict(lost.labels)["fault"], lost.evidence[0].value) == ("lost", 3.0)


async def test_the_hub_says_what_workers_say_of_their_clock_and_spool() -> None:
    hub = SnapshotHub(clock=lambda: 5.0, is_alive=lambda pid: True, wall=lambda: 1_000.0)
    asked = SyncRequest(0, "b0", 7, 1, wait_s=0.0, at=1_003.0, unwritten=4, lost=2)
    await hub.sync(asked)
    await hub.sync(SyncRequest(1, "b1", 8, 1, wait_s=0.0))
    one, other = hub.workers()
    assert (one.ahead_s, one.unwritten, one.lost) == (3.0, 4, 2)
    assert (other.ahead_s, other.unwritten, other.lost) == (None, 0, 0)


async def test_where_the_store_cannot_be_read_nothing_has_been_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    await platform(world).look()
    assert ("records", "") in platform(world).looked()

    def broken(*_arguments: Any, **_named: Any) -> Any:
        raise StorageFailed("the disk fails")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "rollouts", broken)
        with pytest.raises(StorageFailed):
            await platform(world).look()
    assert platform(world).looked() == [], "so no alert ends"
    said = {(one.monitor, one.service, one.error) for one in platform(world).reports(world.now)}
    assert ("service_down", "bank", "the platform was not seen") in said


async def test_a_monitor_that_cannot_look_is_blind_and_stops_no_other_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    await platform(world).look()

    def broken(*_arguments: Any, **_named: Any) -> Any:
        raise StorageFailed("the disk fails")

    def defect(*_arguments: Any, **_named: Any) -> Any:
        raise RuntimeError("no more")

    for one in world.replicas_of("a"):
        world.target.set_state(one.id, ReplicaState.FAILED, "no memory")
    monkeypatch.setattr(world.store, "open_spools", broken)
    monkeypatch.setattr(platform(world)._clocks, "look", defect)
    monkeypatch.setattr(world.plane.drills, "status", defect)
    await platform(world).look()
    said = platform(world).conditions(world.now)
    blind = {dict(c.labels)["watched"]: c for c in said if c.monitor == "monitor_blind"}
    assert blind.keys() == {"records", "clock_skew", "drill_failed"}
    assert "the disk fails" in blind["records"].summary
    assert "a defect: RuntimeError at " in blind["clock_skew"].summary
    assert "service_down" in {c.monitor for c in said}
    looked = {name for name, _ in platform(world).looked()}
    assert looked == {*OF_SERVICES, *OF_ALL} - blind.keys()
    assert {one.monitor for one in platform(world).reports(world.now)} == blind.keys()
    monkeypatch.undo()
    await platform(world).look()
    said = platform(world).conditions(world.now)
    assert not any(c.monitor == "monitor_blind" for c in said)
    assert {name for name, _ in platform(world).looked()} == {*OF_SERVICES, *OF_ALL}


async def test_pairs_that_cannot_be_asked_blind_bias_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    around = world.plane.watching._platform
    with monkeypatch.context() as patched:
        patched.setattr(world.plane.bias, "_watches", None)
        await around.refresh({})
        (blind,) = around.conditions(world.now)
        looked, reports = around.looked(), around.reports(world.now)
        assert around.watches() == []
    assert dict(blind.labels)["watched"] == "bias"
    assert ("service_down", "bank") in looked
    assert {(one.monitor, one.service) for one in reports} == {("bias", "bank")}


# Providers


RULE = ProbeRule("sha256:" + "ab" * 32, cases=6, interval_s=100.0, reference_rounds=8)
RELEASE = "sha256:" + "cd" * 32


def provider(on_change: str = "alert", **fields: Any) -> list[Condition]:
    probing = msgspec.structs.replace(begin("bank", RELEASE, "asked", 0.0), **fields)
    rule = msgspec.structs.replace(RULE, on_change=on_change)
    return list(_provider(probes_view("a", probing, rule, "", "", "champion")))


def test_a_provider_that_changed_is_a_page_and_a_ticket_once_the_fallbacks_answer() -> None:
    change = Change(1, 5.0, 9, 200.0, {}, "3 of 6 answers differ")
    (page,) = provider(change=change)
    assert (page.monitor, page.severity) == ("provider_changed", Severity.PAGE)
    assert dict(page.labels)["release"] == short(RELEASE)
    assert "3 of 6 answers differ" in page.summary
    (ticket,) = provider("fallback", change=change)
    assert ticket.severity is Severity.TICKET
    assert "its fallbacks answer" in ticket.summary


def test_probes_that_are_not_answered_are_no_change_of_the_provider() -> None:
    (one,) = provider(failing_since=5.0, failure="timed out")
    assert (one.monitor, one.severity) == ("probes_failing", Severity.TICKET)
    assert "timed out" in one.summary
    assert provider() == []


# Drills, limits, rollouts


async def test_a_missed_drill_is_a_condition_until_it_is_caught(world: World) -> None:
    await world.first_champion(drills=DrillRule(("slow",)))
    assert await found(world, "drill_failed") == []
    kept = world.plane.drills._schedules["bank"]
    world.plane.drills._schedules["bank"] = msgspec.structs.replace(
        kept, missed={"slow": "drill slow missed after 60 requests"}
    )
    (one,) = await found(world, "drill_failed")
    assert dict(one.labels) == {"monitor": "drill_failed", "service": "bank", "drill": "slow"}
    world.plane.drills._schedules["bank"] = Schedule(kept.number)
    assert await found(world, "drill_failed") == []


def test_a_champion_over_its_limit_is_a_page_for_as_long_as_it_serves() -> None:
    view = WatchView(
        "ro-1", RELEASE, 0.02, "declared", 0.0, 900, 0.09, float("inf"), 100.0, 5.0,
        "release cd fails more often than its limit",
    )  # fmt: skip
    (one,) = _over_limit("bank", view, RELEASE)
    assert (one.severity, dict(one.labels)["release"]) == (Severity.PAGE, short(RELEASE))
    assert one.evidence[0].words == "failure rate: 9 % (limit 2 %)"
    assert list(_over_limit("bank", view, "sha256:another")) == []
    quiet = msgspec.structs.replace(view, alarmed_at=None)
    assert list(_over_limit("bank", quiet, RELEASE)) == []
    assert list(_over_limit("bank", None, RELEASE)) == []


async def test_a_rollout_that_went_back_is_told_for_an_hour_or_until_the_next_promotion(
    world: World,
) -> None:
    await world.first_champion()
    world.users_per_turn = 30
    view = await world.finish(await world.ship("d"))
    assert view.outcome == "rolled_back"
    (one,) = await found(world, "rollout_rolled_back")
    assert one.severity is Severity.INFO
    assert dict(one.labels)["rollout"] == view.id
    await world.finish(await world.ship("b"))
    assert await found(world, "rollout_rolled_back") == []
    world.store.add_events([EventRow(world.now, "rollout_rolled_back", "x", "bank", "ro-9")])
    assert len(await found(world, "rollout_rolled_back")) == 1
    world.now += 3_601.0
    assert await found(world, "rollout_rolled_back") == []


# From the fault to what is done about it


async def test_an_outage_leads_by_declared_policy_to_the_fallback_and_its_end_to_the_end(
    world: World,
) -> None:
    """Platform, desk and actions as the loop puts them together."""
    await world.first_champion(fallbacks=("small",))
    await small(world)
    policy = ActionPolicy(ActionKind.FALLBACK, ("service_down",))
    duties, desk = Duties(actions={"bank": (policy,)}), Desk()
    await platform(world).look()
    for one in world.replicas_of("a"):
        world.target.set_state(one.id, ReplicaState.FAILED, "no memory")
    outcomes = []
    for _ in range(40):
        await world.turn()
        seen = platform(world)
        await seen.look()
        now = world.now
        outcome = step(
            desk,
            duties,
            Look(
                now,
                tuple(seen.conditions(now)),
                tuple(seen.looked()),
                changes=tuple(seen.changes(now - 3_600.0)),
                events=tuple(seen.events(now - 3_600.0)),
                circumstances=seen.circumstances,
            ),
        )
        desk = outcome.desk
        for entry in outcome.actions:
            said = await carry_out(world, entry)
            outcomes.append(said)
            desk = note_done(desk, entry, said, now)
    assert len(outcomes) == 1, "once, though the alert goes on"
    assert outcomes[0].startswith("small answers in the place of release a")
    assert acting(world).diversions.is_diverted("bank", world.digests["a"])
    (alert,) = [a for a in desk.alerts.values() if a.of["monitor"] == "service_down"]
    assert alert.causes[0].change.kind == "replica"
    (incident,) = desk.incidents
    told = [event.what for event in incident.timeline]
    assert any("no memory" in words for words in told)
    assert any(words.startswith("fallback small: small answers") for words in told)
    await world.finish(await world.ship("c", plan=DIRECT))
    await world.turn()
    assert acting(world).diversions.all() == []
