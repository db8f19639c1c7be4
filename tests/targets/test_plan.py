"""The plan and the life of a replica, on simulated time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.replica import Launch, ReplicaState, Wanted
from fairlead.targets import lifecycle
from fairlead.targets.lifecycle import Probe, Replica, back_off_s
from fairlead.targets.plan import (
    ForgetReplica,
    KillReplica,
    MarkSurplus,
    ProbeReplica,
    RestartReplica,
    StartReplica,
    StopReplica,
    TakeBack,
    match,
    plan,
    restarts,
    upkeep,
)

S = ReplicaState
LAUNCH = Launch(argv=("serve",), probe_body={"prompt": "ok"}, start_timeout_s=10.0)
REMOTE = Launch(base_url="https://models.example/v1", start_timeout_s=10.0)
NUMBERS = itertools.count()


def wish(count: int, digest: str = "a", launch: Launch = LAUNCH) -> Wanted:
    return Wanted(digest, count, launch)


def new(at: float = 0.0, launch: Launch = LAUNCH, digest: str = "a") -> Replica:
    number = next(NUMBERS)
    replica = lifecycle.created(f"r{number}", wish(1, digest, launch), at)
    if launch.base_url:
        return replica
    replica = lifecycle.running(replica, 1000 + number, "began", at)
    return lifecycle.listening(replica, "http://127.0.0.1:1")


def ready(at: float = 0.5) -> Replica:
    return lifecycle.probed(new(at), Probe.GOOD, "", at)


def died(replica: Replica, at: float) -> Replica:
    after = lifecycle.ended(replica, "ended", at)
    assert after is not None
    return after


def restarted(replica: Replica, at: float) -> Replica:
    again = lifecycle.running(lifecycle.started_again(replica, at), 7, "began", at)
    return lifecycle.listening(again, "http://127.0.0.1:2")


def test_missing_replicas_are_started() -> None:
    assert match([wish(3)], [ready()], ()) == [StartReplica(wish(3))] * 2


def test_the_same_engine_wanted_twice_is_started_once() -> None:
    assert match([wish(1), wish(2)], [], ()) == [StartReplica(wish(2))] * 2


def test_nothing_is_done_when_all_is_as_wanted() -> None:
    assert plan([wish(2)], [ready(), ready()], (), 1.0) == []


def test_a_shrinking_engine_gives_up_what_failed_then_what_starts_then_the_youngest() -> None:
    old, young, starting = ready(1.0), ready(2.0), new(0.0)
    waiting = died(new(0.0), 0.0)
    replicas = [old, young, starting, waiting]
    assert match([wish(3)], replicas, ()) == [ForgetReplica(waiting.id)]
    assert match([wish(2)], replicas, ()) == [
        ForgetReplica(waiting.id),
        MarkSurplus(starting.id),
    ]
    assert MarkSurplus(young.id) in match([wish(1)], replicas, ())
    assert MarkSurplus(old.id) not in match([wish(1)], replicas, ())


def test_a_surplus_replica_is_stopped_only_when_nobody_uses_it() -> None:
    surplus = lifecycle.unwanted(ready(), 1.0)
    assert plan([], [surplus], (), 2.0) == []
    assert plan([], [surplus], {surplus.id}, 2.0) == [StopReplica(surplus.id)]


def test_a_surplus_replica_is_taken_back_before_another_is_started() -> None:
    surplus = lifecycle.unwanted(ready(), 1.0)
    assert match([wish(2)], [surplus], {surplus.id}) == [
        TakeBack(surplus.id),
        StartReplica(wish(2)),
    ]
    assert lifecycle.taken_back(surplus, 2.0).state is S.READY


def test_a_replica_that_was_still_starting_comes_back_with_its_whole_start_time() -> None:
    back = lifecycle.taken_back(lifecycle.unwanted(new(0.0), 1.0), 50.0)
    assert back.state is S.STARTING
    assert not [step for step in upkeep([back], 51.0) if isinstance(step, KillReplica)]


def failed_at(at: float) -> Replica:
    replica = died(new(), at)
    for _ in range(4):
        replica = died(restarted(replica, at), at)
    return replica


def test_a_failed_replica_takes_its_place_until_its_engine_is_wanted_no_more() -> None:
    failed = failed_at(1.0)
    assert failed.state is S.FAILED
    assert match([wish(1)], [failed], ()) == []
    assert plan([], [failed], (), 1e6) == [ForgetReplica(failed.id)]


def test_a_failed_replica_is_tried_again_every_thirty_seconds_while_it_is_wanted() -> None:
    """The cause may have passed: a full disk, no memory."""
    failed = failed_at(1.0)
    assert plan([wish(1)], [failed], (), 30.9) == []
    assert plan([wish(1)], [failed], (), 31.0) == [RestartReplica(failed.id)]
    again = died(restarted(failed, 31.0), 32.0)
    assert (again.state, again.restarts) == (S.FAILED, 5)
    assert plan([wish(1)], [again], (), 61.9) == []
    assert plan([wish(1)], [again], (), 62.0) == [RestartReplica(again.id)]


def test_a_failed_replica_counts_as_failed_until_it_is_ready_again() -> None:
    """A rollout must not take the next try for a release that starts."""
    trying = lifecycle.probed(restarted(failed_at(1.0), 31.0), Probe.BAD, "loading", 32.0)
    assert trying.status.state is S.FAILED
    well = lifecycle.probed(trying, Probe.GOOD, "", 33.0)
    assert (well.status.state, well.failed_starts) == (S.READY, 0)
    assert died(well, 34.0).state is S.BACKING_OFF


def test_a_failed_replica_that_hangs_in_its_next_try_is_ended() -> None:
    trying = restarted(failed_at(1.0), 31.0)
    assert isinstance(upkeep([trying], 41.0)[0], KillReplica)


def test_where_nothing_may_be_started_what_runs_is_kept_and_what_ended_stays_so() -> None:
    """The weights could not be verified: neither a start nor a restart may use them."""
    sound, ended, failed = ready(), died(ready(), 1.0), failed_at(1.0)
    unverified = Wanted("a", 4, LAUNCH, start=False)
    assert plan([unverified], [sound, ended, failed], (), 1e6) == [ProbeReplica(sound.id)]
    surplus = lifecycle.unwanted(ready(), 1.0)
    assert match([unverified], [surplus], ()) == [TakeBack(surplus.id)]


def test_what_ended_is_not_started_again_without_a_wish() -> None:
    ended = died(ready(), 1.0)
    assert upkeep([ended], 1e6) == []
    assert restarts([], [ended], 1e6) == []
    assert restarts([wish(1, "b")], [ended], 1e6) == []
    assert restarts([wish(1)], [ended], 1e6) == [RestartReplica(ended.id)]


def test_the_first_end_is_followed_by_a_start_at_once_the_next_by_waiting_longer() -> None:
    replica, waits = ready(), []
    for _ in range(12):
        replica = died(replica, 10.0)
        waits.append(replica.retry_at - 10.0)
        replica = lifecycle.probed(restarted(replica, 10.0), Probe.GOOD, "", 10.0)
    assert waits[:5] == pytest.approx([0.0, 0.2, 0.4, 0.8, 1.6])
    assert waits[-1] == pytest.approx(30.0)
    assert replica.restarts == 12


def test_ten_seconds_of_health_forgive_earlier_ends() -> None:
    replica = ready()
    for _ in range(4):
        replica = restarted(died(replica, 5.0), 5.0)
        replica = lifecycle.probed(replica, Probe.GOOD, "", 5.0)
    assert died(replica, 14.9).retry_at > 14.9
    assert died(replica, 15.0).retry_at == 15.0


def test_a_restart_waits_for_its_time() -> None:
    replica = died(restarted(died(ready(), 1.0), 1.0), 1.0)
    assert restarts([wish(1)], [replica], 1.1) == []
    assert restarts([wish(1)], [replica], 1.25) == [RestartReplica(replica.id)]


def test_a_starting_replica_is_probed_every_tenth_of_a_second_a_ready_one_every_two() -> None:
    starting = lifecycle.probed(new(), Probe.BAD, "no", 1.0)
    assert upkeep([starting], 1.05) == []
    assert upkeep([starting], 1.1) == [ProbeReplica(starting.id)]
    serving = lifecycle.probed(starting, Probe.GOOD, "", 2.0)
    assert upkeep([serving], 3.9) == []
    assert upkeep([serving], 4.0) == [ProbeReplica(serving.id)]


def test_a_replica_that_has_not_said_where_it_listens_is_not_probed() -> None:
    silent = lifecycle.running(lifecycle.created("x", wish(1), 0.0), 5, "began", 0.0)
    assert upkeep([silent], 9.0) == []
    assert isinstance(upkeep([silent], 10.0)[0], KillReplica)


def test_three_bad_probes_make_it_unhealthy_six_get_it_killed_one_good_heals_it() -> None:
    replica = ready()
    for number in range(1, 7):
        replica = lifecycle.probed(replica, Probe.BAD, "refused", 2.0 * number)
        assert (replica.state is S.UNHEALTHY) == (number >= 3)
        killed = any(isinstance(step, KillReplica) for step in upkeep([replica], 2.0 * number))
        assert killed == (number >= 6)
    assert replica.detail == "refused"
    healed = lifecycle.probed(replica, Probe.GOOD, "", 20.0)
    assert (healed.state, healed.probe_failures, healed.detail) == (S.READY, 0, "")


def test_a_busy_replica_stays_ready_however_long_but_a_busy_start_is_not_ready() -> None:
    replica = ready()
    for number in range(100):
        replica = lifecycle.probed(replica, Probe.BUSY, "busy", float(number))
    assert replica.state is S.READY
    assert lifecycle.probed(new(), Probe.BUSY, "busy", 1.0).state is S.STARTING


def test_a_probe_that_comes_late_does_not_revive_what_was_given_up() -> None:
    for given_up in (lifecycle.unwanted(ready(), 1.0), died(ready(), 1.0)):
        assert lifecycle.probed(given_up, Probe.GOOD, "", 2.0).state is given_up.state


def test_a_remote_endpoint_that_does_not_answer_becomes_unhealthy_and_is_never_killed() -> None:
    remote = new(launch=REMOTE)
    assert remote.base_url == REMOTE.base_url
    remote = lifecycle.probed(remote, Probe.BAD, "refused", 9.0)
    assert remote.state is S.STARTING
    for number in range(20):
        remote = lifecycle.probed(remote, Probe.BAD, "refused", 11.0 + number)
        assert upkeep([remote], 100.0) == [ProbeReplica(remote.id)]
    assert remote.state is S.UNHEALTHY
    assert lifecycle.probed(remote, Probe.GOOD, "", 101.0).state is S.READY


def test_a_remote_endpoint_without_its_key_fails_at_once_and_is_looked_at_again_soon() -> None:
    remote = lifecycle.probed(new(launch=REMOTE), Probe.HOPELESS, "no key", 1.0)
    assert (remote.status.state, remote.detail) == (S.FAILED, "no key")
    wanted = [wish(1, launch=REMOTE)]
    assert plan(wanted, [remote], (), 2.0) == []
    assert plan(wanted, [remote], (), 3.5) == [RestartReplica(remote.id)]
    trying = lifecycle.started_again(remote, 3.5)
    assert trying.status.state is S.FAILED, "a start of it promises nothing"
    assert lifecycle.probed(trying, Probe.HOPELESS, "no key", 3.6).state is S.FAILED
    assert lifecycle.probed(trying, Probe.GOOD, "", 3.6).status.state is S.READY
    assert plan([], [remote], (), 2.0) == [ForgetReplica(remote.id)]


def test_a_clock_set_back_does_not_delay_probes_or_restarts() -> None:
    serving, waiting = ready(1000.0), died(restarted(died(ready(), 1000.0), 1000.0), 1000.0)
    assert plan([wish(2)], [serving, waiting], (), 10.0) == [
        RestartReplica(waiting.id),
        ProbeReplica(serving.id),
    ]


def test_an_impossible_change_of_state_raises_with_the_replica() -> None:
    with pytest.raises(lifecycle.ImpossibleTransition, match="failed -> surplus"):
        lifecycle.unwanted(Replica("x", "a", LAUNCH, S.FAILED, 0.0), 1.0)


@given(st.integers(min_value=1, max_value=10**6))
def test_back_off_never_shrinks_and_is_bounded(ends: int) -> None:
    assert back_off_s(ends) <= back_off_s(ends + 1) <= 30.0


class World:
    """Carries out instructions at once, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 1.0
        self.replicas: dict[str, Replica] = {}
        self.stopped: list[str] = []
        self.names = itertools.count()

    def do(self, count: int, stoppable: set[str], probe: Probe) -> None:
        for step in plan([wish(count)], list(self.replicas.values()), stoppable, self.now):
            self.apply(step, probe)

    def apply(self, step: object, probe: Probe) -> None:
        match step:
            case StartReplica(wanted):
                replica = lifecycle.created(f"n{next(self.names)}", wanted, self.now)
                self.put(self.begun(replica))
            case RestartReplica(key):
                self.put(self.begun(lifecycle.started_again(self.replicas[key], self.now)))
            case ProbeReplica(key):
                self.put(lifecycle.probed(self.replicas[key], probe, probe.value, self.now))
            case KillReplica(key):
                self.end(key)
            case MarkSurplus(key):
                self.put(lifecycle.unwanted(self.replicas[key], self.now))
            case TakeBack(key):
                self.put(lifecycle.taken_back(self.replicas[key], self.now))
            case StopReplica(key):
                self.stopped.append(key)
                self.put(lifecycle.stopping(self.replicas[key], self.now))
                self.end(key)
            case ForgetReplica(key):
                assert not self.replicas[key].pid
                del self.replicas[key]

    def begun(self, replica: Replica) -> Replica:
        replica = lifecycle.running(replica, 100, "began", self.now)
        return lifecycle.listening(replica, "http://127.0.0.1:1")

    def put(self, replica: Replica) -> None:
        self.replicas[replica.id] = replica

    def end(self, key: str) -> None:
        after = lifecycle.ended(self.replicas[key], "ended", self.now)
        if after is None:
            del self.replicas[key]
        else:
            self.put(after)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.floats(0.05, 40.0),
        st.sampled_from(list(Probe)),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_the_wanted_number_is_kept_and_nothing_in_use_is_stopped(
    events: list[tuple[int, float, Probe, int, bool]],
) -> None:
    world = World()
    for count, seconds, probe, ends, unused in events:
        world.now += seconds
        for key in sorted(k for k, r in world.replicas.items() if r.pid)[:ends]:
            world.end(key)
        surplus = {k for k, r in world.replicas.items() if r.state is S.SURPLUS}
        world.stopped.clear()
        world.do(count, surplus if unused else set(), probe)
        kept = [r for r in world.replicas.values() if r.state not in (S.SURPLUS, S.STOPPING)]
        assert len(kept) == count
        assert unused or not world.stopped
        assert set(world.stopped) <= surplus
        for replica in world.replicas.values():
            has_process = replica.state not in (S.BACKING_OFF, S.FAILED)
            assert bool(replica.pid) == has_process == bool(replica.base_url)
            assert replica.failed_starts <= lifecycle.FAILED_STARTS_MAX


@given(EVENTS)
def test_good_probes_and_no_more_ends_lead_to_ready_replicas(
    events: list[tuple[int, float, Probe, int, bool]],
) -> None:
    world = World()
    for count, seconds, probe, ends, _ in events:
        world.now += seconds
        for key in sorted(k for k, r in world.replicas.items() if r.pid)[:ends]:
            world.end(key)
        world.do(count, set(), probe)
    for _ in range(12):
        world.now += 8.0
        surplus = {k for k, r in world.replicas.items() if r.state is S.SURPLUS}
        world.do(2, surplus, Probe.GOOD)
    assert len(world.replicas) == 2
    assert {r.state for r in world.replicas.values()} == {S.READY}
