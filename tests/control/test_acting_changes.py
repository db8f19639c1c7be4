"""What happened is told as causes and in timelines, with what it is about."""

from __future__ import annotations

import itertools
import random

import pytest

from control.acting_world import carry_out, entry, platform, small
from control.simulated_world import World
from fairlead.control.acting.changes import EventLog, change_of, event_of
from fairlead.control.acting.traffic import BEFORE, Traffic, jumps
from fairlead.domain.quota import Price
from fairlead.domain.release import short
from fairlead.monitoring.actions import ActionKind
from fairlead.monitoring.causes import Change, causes_of
from fairlead.monitoring.conditions import labels_of
from fairlead.rollout.plan import Plan
from fairlead.store.rows import EventRow


async def kinds(world: World) -> list[str]:
    await platform(world).look()
    return [change.kind for change in platform(world).changes(0.0)]


async def test_a_rollout_from_beginning_to_end(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 20
    rollout = await world.ship("b")
    await world.finish(rollout)
    await platform(world).look()
    mine = [c for c in platform(world).changes(0.0) if rollout in c.what]
    assert [c.kind for c in mine][-1] == "release"
    assert {c.kind for c in mine} == {"rollout", "release"}
    assert mine[-1].what.startswith(f"release b takes over ({rollout}): ")
    assert dict(mine[-1].labels) == {"service": "bank", "release": short(world.digests["b"])}
    events = platform(world).events(0.0)
    for state in ("begun", "promoted"):
        told = [e for e in events if e.what.startswith(f"release b {state} ({rollout})")]
        assert [e.kind for e in told] == ["rollout"]
    both = {(e.at, e.what) for e in events} & {(c.at, c.what) for c in mine}
    assert both == set(), "the desk makes events of changes by itself"


async def test_that_it_takes_over_is_dated_before_what_its_monitors_learn(world: World) -> None:
    """Users are answered by it from the switch on, and it is promoted only minutes later."""
    await world.first_champion()
    plan = Plan(steps=(), warm_s=60.0)
    rollout = await world.ship("b", plan=plan)
    await world.finish(rollout)
    await platform(world).look()
    mine = [c for c in platform(world).changes(0.0) if rollout in c.what]
    events = [e for e in platform(world).events(0.0) if rollout in e.what]
    (promoted,) = [e for e in events if e.what.startswith("release b promoted")]
    (taken,) = [c for c in mine if c.kind == "release"]
    assert promoted.at - taken.at >= 60.0
    assert [c for c in mine if c.at > taken.at] == []
    labels = labels_of(monitor="errors", release=world.digests["b"], service="bank")
    # Its first request came after that, and long before the promotion.
    learnt_since = taken.at
    assert causes_of(labels, promoted.at + 60.0, mine, learnt_since) == ()
    assert causes_of(labels, promoted.at + 60.0, mine)[0].change == taken


async def test_it_takes_over_once_and_the_last_units_move_later(world: World) -> None:
    await world.first_champion()
    plan = Plan(steps=(), warm_s=30.0, holdback=0.05)
    rollout = await world.ship("b", plan=plan)
    await world.finish(rollout)
    await platform(world).look()
    mine = [c for c in platform(world).changes(0.0) if rollout in c.what]
    (taken,) = [c for c in mine if c.kind == "release"]
    assert taken.what.startswith(f"release b takes over ({rollout}): ")
    (rest,) = [c for c in mine if c.at > taken.at]
    assert (rest.kind, rest.what) == (
        "rollout", f"release b switching ({rollout}): the last units move, too",
    )  # fmt: skip
    assert rest.at - taken.at >= 30.0


async def test_that_it_takes_over_is_the_nearest_cause_of_what_its_release_does(
    world: World,
) -> None:
    await world.first_champion()
    await world.finish(await world.ship("b", plan=Plan(steps=())))
    world.now += 30.0
    await world.plane.apply(world.spec("b", plan=Plan(steps=()), price=Price(1.0, 2.0)))
    await platform(world).look()
    labels = labels_of(monitor="slo", release=world.digests["b"], service="bank")
    causes = causes_of(labels, world.now + 60.0, platform(world).changes(0.0))
    assert {causes[0].place, causes[1].place} == {"release"}
    assert causes[0].change.kind == "price"
    assert any("release b takes over" in cause.change.what for cause in causes[1:3])


def test_a_replica_that_starts_is_a_cause_of_what_it_does_and_not_its_release() -> None:
    """That it is there is noted a little after the promotion for which it was started."""
    promoted = b'{"release": "sha256:bb", "name": "b"}'
    started = b'{"release": "sha256:bb", "replica": "r1", "times": 1}'
    rows = [
        EventRow(100.0, "rollout_switching", "all", service="bank", rollout="ro-1", data=promoted),
        EventRow(130.0, "replica_started", "replica r1 starts", service="bank", data=started),
    ]
    changes = [change for row in rows if (change := change_of(row)) is not None]

    def first(**of: str) -> str:
        labels = labels_of(service="bank", release="sha256:bb", **of)
        return causes_of(labels, 140.0, changes)[0].change.kind

    assert first() == "release"
    assert first(replica="r1") == "replica"


async def test_actions_are_the_desks_own_and_a_diversion_is_a_change(world: World) -> None:
    await world.first_champion(fallbacks=("small",))
    await small(world)
    await carry_out(world, entry(ActionKind.FALLBACK, "small"))
    assert "fallback" in await kinds(world)
    everything = [*platform(world).changes(0.0), *platform(world).events(0.0)]
    assert not [one for one in everything if one.kind == "action"]


@pytest.mark.parametrize(
    ("kind", "data", "found"),
    [
        ("unrequested_release", b'{"release": "sha256:a"}', "provider"),
        ("probes_accepted", b'{"release": "sha256:a"}', None),
        ("probes_accepted", b'{"serves_again": true}', "fallback"),
        ("replica_dropped", b'{"replica": "r1", "release": "sha256:a"}', "replica"),
        ("settings_changed", b'{"changed": ["plan", "price"]}', "price"),
        ("settings_changed", b'{"changed": ["plan"]}', "settings"),
        ("settings_changed", b"not json", "settings"),
        ("rollout_shifting", b"[1]", "rollout"),
        ("rollout_judging", b"{}", None),
        ("champion_over_limit", b"{}", None),
        ("drill_missed", b"{}", None),
        ("samples_read", b"{}", None),
        ("action", b"{}", None),
    ],
)
def test_which_events_are_changes(kind: str, data: bytes, found: str | None) -> None:
    change = change_of(EventRow(5.0, kind, "words", service="bank", data=data))
    assert (None if change is None else change.kind) == found


@pytest.mark.parametrize(
    ("kind", "found"),
    [("champion_over_limit", "limit"), ("drill_missed", "drill"), ("gates_rerun", "gate"),
     ("probes_accepted", "provider"),
     ("probes_failing", "provider"), ("rollout_judging", "rollout"), ("spool_damaged", "records"),
     ("action", None), ("samples_read", None), ("rollout_promoted", "rollout"),
     ("rollout_watching", "rollout"), ("rollout_switching", None)],
)  # fmt: skip
def test_which_events_are_told_in_timelines_only(kind: str, found: str | None) -> None:
    event = event_of(EventRow(5.0, kind, "words", service="bank"))
    assert (None if event is None else event.kind) == found


@pytest.mark.parametrize(
    ("kind", "since", "found"),
    [
        ("unrequested_release", b"3.5", 3.5),
        ("provider_named_otherwise", b"4", 4.0),
        ("unrequested_release", b'"yesterday"', None),
        ("settings_changed", b"3.5", None),
    ],
)
def test_after_when_a_provider_changed_is_told_with_it(
    kind: str, since: bytes, found: float | None
) -> None:
    change = change_of(EventRow(5.0, kind, "words", service="bank", data=b'{"since": %b}' % since))
    assert change is not None
    assert (change.at, change.since) == (5.0, found)


def test_labels_of_other_types_are_left_out() -> None:
    change = change_of(EventRow(1.0, "replica_gone", "w", data=b'{"release": 7, "replica": null}'))
    assert change == Change(1.0, "replica", "w", ())


async def test_the_log_reads_on_and_forgets_what_is_old(world: World) -> None:
    log = EventLog(world.store, lambda: world.now)
    assert await log.read() == []
    world.store.add_events([EventRow(world.now, "spool_damaged", str(n)) for n in range(2_500)])
    assert len(await log.read()) == 2_500
    assert await log.read() == []
    world.store.add_events([EventRow(world.now + 5.0, "spool_damaged", "late")])
    assert [row.message for row in await log.read()] == ["late"]
    assert [event.what for event in log.events(world.now + 1.0)] == ["late"]
    world.now += 9 * 3_600.0
    await log.read()
    assert log.events(0.0) == []


# Traffic


def minutes(*parts: tuple[int, float], seed: int = 1) -> list[tuple[float, int]]:
    """Poisson counts at these rates, so many minutes each."""
    dice = random.Random(seed)
    rates = [rate for count, rate in parts for _ in range(count)]
    return [(60.0 * number, _poisson(dice, rate)) for number, rate in enumerate(rates)]


def _poisson(dice: random.Random, rate: float) -> int:
    at, count = 0.0, 0
    while (at := at + dice.expovariate(max(rate, 1e-9))) < 1.0:
        count += 1
    return count


@pytest.mark.parametrize(("before", "after", "rose"), [(100, 300, True), (300, 100, False)])
def test_a_jump_is_told_with_both_rates(before: float, after: float, rose: bool) -> None:
    (found,) = jumps("bank", minutes((30, before), (30, after)))
    assert found[0] is rose
    assert abs(found[1].at - 30 * 60.0) <= 60.0
    assert found[1].labels == (("service", "bank"),)
    assert ("rose" if rose else "fell") in found[1].what


def test_an_end_and_a_beginning_of_all_traffic_are_jumps() -> None:
    assert [r for r, _ in jumps("bank", minutes((30, 50), (20, 0), (30, 50)))] == [False, True]


@pytest.mark.parametrize("rate", [0.0, 0.3, 3.0, 30.0, 300.0])
def test_steady_traffic_never_jumps(rate: float) -> None:
    for seed in range(20):
        assert jumps("bank", minutes((500, rate), seed=seed)) == []


def test_less_than_twice_as_much_is_no_jump_however_sure() -> None:
    assert jumps("bank", minutes((60, 1_000), (60, 1_700))) == []


def test_a_jump_is_told_once_as_it_was_told_first_while_minutes_come_in() -> None:
    traffic, counts = Traffic(), minutes((40, 50), (60, 200))
    told: set[Change] = set()
    seen_after = None
    for last in range(BEFORE, len(counts)):
        now = counts[last][0] + 60.0
        traffic.see({"bank": counts[: last + 1][-60:]}, now)
        told |= set(traffic.changes(0.0))
        if told and seen_after is None:
            seen_after = last - 40
    (found,) = told
    assert abs(found.at - 40 * 60.0) <= 180.0
    assert seen_after is not None
    assert seen_after <= 2, "minutes after the jump"
    traffic.see({"bank": []}, 1e6)
    assert traffic.changes(0.0) == []


def test_too_few_minutes_say_nothing() -> None:
    for count in range(BEFORE + 3):
        assert jumps("bank", minutes((count, 100))) == []
    assert list(itertools.chain(jumps("bank", []))) == []


async def test_the_platform_tells_jumps_among_the_changes(world: World) -> None:
    await world.first_champion()
    await platform(world).look({"bank": minutes((30, 50), (10, 300))})
    (found,) = [c for c in platform(world).changes(0.0) if c.kind == "traffic"]
    assert "traffic rose from" in found.what
