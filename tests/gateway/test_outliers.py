"""Replicas that fail more than their peers, and how one comes back. Simulated time, no sockets."""

from __future__ import annotations

import pytest
from gateway_rig import A, route, snapshot

from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import (
    OUTLIER_ATTEMPTS_MIN,
    OUTLIER_EJECTION_S_MAX,
    OUTLIER_EJECTION_S_MIN,
    OUTLIER_WINDOW_S,
    PROBE_S,
)
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.replicas.outliers import is_outlier, may_eject


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ((10, 6), [(10, 0)], True),
        ((9, 9), [(100, 0)], False),
        ((10, 5), [(10, 0)], False),
        ((10, 6), [(5, 0), (5, 0)], True),
        ((10, 6), [(9, 0)], False),
        ((10, 6), [], False),
        ((100, 60), [(100, 40)], False),
        ((100, 90), [(100, 55)], True),
        ((100, 100), [(100, 100)], False),
    ],
)
def test_an_outlier_fails_more_than_half_and_others_do_clearly_better(
    own: tuple[int, int], others: list[tuple[int, int]], expected: bool
) -> None:
    assert is_outlier(own, others) is expected


class World:
    """A fleet of one pool on simulated time."""

    def __init__(self, size: int) -> None:
        self.at = 100.0
        clock = Clock(monotonic=lambda: self.at, wall=lambda: 0.0)
        self.fleet = Fleet(clock, on_room=lambda: None, on_drained=lambda: None)
        urls = [f"http://127.0.0.1:{9 + n}" for n in range(size)]
        (self.pool,) = self.fleet.update(snapshot(route(A, *urls)), {}).values()
        self.fleet.check(self.at)

    def passes(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + 0.25)
            self.fleet.check(self.at)

    def serve(self, replica: Replica, *outcomes: bool) -> None:
        for is_good in outcomes:
            replica.take_slot()
            if is_good:
                replica.note_success()
            else:
                replica.note_failure()
            replica.free_slot()
            self.passes(0.25)

    def is_usable(self, replica: Replica) -> bool:
        return replica.is_usable(self.at)


WELL = (True,) * 12


def test_a_replica_that_fails_most_requests_is_left_alone_though_some_succeed() -> None:
    world = World(2)
    flaky, well = world.pool
    world.serve(well, *WELL)
    while flaky.ejected_until - world.at < 1.0:
        world.serve(flaky, False, False, True)
    ejected_s = flaky.ejected_until - world.at
    assert OUTLIER_EJECTION_S_MIN / 2 < ejected_s <= OUTLIER_EJECTION_S_MIN
    flaky.note_success()
    assert not world.is_usable(flaky), "a late answer to an older request does not end it"
    world.passes(OUTLIER_EJECTION_S_MIN)
    assert world.is_usable(flaky)


def test_the_next_time_is_longer_up_to_a_bound() -> None:
    world = World(2)
    flaky, well = world.pool
    for number in range(7):
        while flaky.ejected_until - world.at < 1.0:
            world.serve(well, True, True)
            world.serve(flaky, False, False, True)
        longest = min(OUTLIER_EJECTION_S_MAX, OUTLIER_EJECTION_S_MIN * 2**number)
        assert longest / 2 < flaky.ejected_until - world.at <= longest
        world.passes(flaky.ejected_until - world.at + 0.01)
        assert world.is_usable(flaky)


def test_one_that_will_not_serve_what_others_do_is_left_alone() -> None:
    world = World(2)
    full, well = world.pool
    for _ in range(2 * OUTLIER_ATTEMPTS_MIN):
        full.note_alive()
    world.serve(well, *WELL)
    assert full.counts == (0, 0), "nobody is known to serve them"
    for number in range(OUTLIER_ATTEMPTS_MIN):
        assert world.is_usable(full), number
        full.note_refusal()
    assert full.ejected_until - world.at == pytest.approx(OUTLIER_EJECTION_S_MIN)
    until = full.ejected_until
    for _ in range(2 * OUTLIER_ATTEMPTS_MIN):
        full.note_refusal()  # Those that were on their way.
        assert not full.note_alive()
    assert full.ejected_until == until
    world.passes(OUTLIER_EJECTION_S_MIN)
    full.take_slot()
    assert not world.is_usable(full), "one probes"
    full.free_slot()
    assert full.note_alive()
    full.note_refusal()
    assert world.is_usable(full), "it is counted anew"


def test_one_that_refused_connections_and_turns_a_request_away_is_there_again() -> None:
    world = World(1)
    (one,) = world.pool
    one.note_failure(to_connect=True)
    assert not world.is_usable(one)
    assert one.note_alive()
    assert world.is_usable(one)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_never_more_than_half_of_a_pool_is_left_alone_for_its_share_of_failures(size: int) -> None:
    world = World(size)
    for _ in range(15):
        for number, replica in enumerate(world.pool):
            # The last one does well; all others fail most requests, but not the latest.
            replica.recent.succeeded += 20 if number == size - 1 else 4
    for replica in world.pool[:-1]:
        for _ in range(70):
            replica.recent.note_failure()
        replica.note_failure()
    world.passes(0.5)  # longer than the ejection by a single failure
    assert sum(replica.is_ejected for replica in world.pool) == min(size - 1, size // 2)
    assert may_eject([]) is False


def test_refused_connections_may_take_out_the_whole_pool() -> None:
    world = World(3)
    for replica in world.pool:
        replica.note_failure(to_connect=True)
    assert not any(world.is_usable(replica) for replica in world.pool)


def test_failures_long_ago_do_not_count() -> None:
    world = World(2)
    flaky, well = world.pool
    world.serve(flaky, False, False, False, False)
    world.passes(OUTLIER_WINDOW_S + 1)
    world.serve(well, *WELL)
    world.serve(flaky, True)
    assert flaky.counts == (1, 0)
    world.passes(1000)
    assert well.counts == (0, 0)


def test_when_all_fail_alike_none_is_an_outlier() -> None:
    world = World(2)
    for _ in range(15):
        for replica in world.pool:
            world.serve(replica, False)
    assert all(replica.ejected_until - world.at <= OUTLIER_EJECTION_S_MIN for replica in world.pool)
    assert all(replica.counts[0] >= 10 for replica in world.pool)


def test_after_any_ejection_one_request_at_a_time_probes_until_one_is_answered() -> None:
    world = World(1)
    (one,) = world.pool
    one.note_failure()
    assert not world.is_usable(one)
    world.at = one.ejected_until
    one.take_slot()
    assert not world.is_usable(one)
    assert not one.note_connected(), "it had not refused a connection"
    assert not world.is_usable(one)
    one.free_slot()  # The client left: somebody else may probe.
    assert world.is_usable(one)
    one.take_slot()
    assert not world.is_usable(one)
    assert one.note_success()
    assert world.is_usable(one)
    one.take_slot()
    assert world.is_usable(one), "it is well again"


def test_a_probe_whose_answer_takes_long_does_not_hold_up_the_next_for_ever() -> None:
    world = World(1)
    (one,) = world.pool
    one.note_failure()
    world.at = one.ejected_until
    for _ in range(3):
        assert world.is_usable(one)
        one.take_slot()
        world.at += PROBE_S / 2
        assert not world.is_usable(one)
        world.at += PROBE_S / 2
