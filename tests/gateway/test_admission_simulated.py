"""Admission as a whole on simulated time: requests come, fail, wait and leave. No sockets."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest
from gateway_rig import A, B, route, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import UPSTREAM_ERROR, Refusal
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.replicas.assignment import Arm, Assignment
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.waiting import admission
from fairlead.gateway.waiting.admission import Admission
from fairlead.gateway.waiting.seeker import Seeker
from fairlead.wire.snapshot import Limits, ReleaseRoute, Snapshot

pytestmark = pytest.mark.interpreted  # Its requests are doubles.

LIMITS = Limits(queue=8, queue_timeout_s=5.0, attempts=3)
URLS = [f"http://127.0.0.1:{port}" for port in (9, 10, 11)]


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class World:
    """Admission and fleet, with a clock and timers that the test moves on."""

    def __init__(self) -> None:
        self.at = 100.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        clock = Clock(monotonic=lambda: self.at, wall=lambda: 0.0)
        self.metrics = GatewayMetrics()
        self.queue = Admission(clock, self.metrics)
        self.fleet = Fleet(clock, on_room=self.queue.pump, on_drained=lambda: None)
        self.requests: list[Request] = []
        self.version = 0

    def call_later(self, delay: float, call: Callable[..., None], *given: Any) -> Timer:
        timer = Timer(lambda: call(*given))
        heapq.heappush(self._timers, (self.at + delay, next(self._numbers), timer))
        return timer

    def use(self, made: Snapshot) -> None:
        self.version += 1
        made = msgspec.structs.replace(made, version=self.version)
        self.queue.use(Loaded(made, self.fleet, {}))

    def passes(self, seconds: float) -> None:
        end = self.at + seconds
        while self._timers and self._timers[0][0] <= end:
            self.at, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                timer.call()
        self.at = end
        self.fleet.check(self.at)
        self.queue.check()

    def ask(self, key: str = "k", priority: int = 0, arm: Arm = "champion") -> Request:
        request = Request(self, key, priority, arm)
        self.requests.append(request)
        self.queue.enter(cast(Seeker, request))
        return request

    def check(self) -> None:
        """What must hold at every moment."""
        waiting = [r for r in self.requests if r.is_waiting]
        queue = self.queue
        lanes = [lane for each in queue._queues.values() for lane in each.lanes.values()]
        assert queue._waiting == len(queue._resting) + sum(lane.count for lane in lanes)
        assert queue._waiting == len(waiting)
        for request in waiting:
            held = request in cast(Any, queue._queues[request.served_by].lane(request.lane))
            assert held != (request in cast(Any, queue._resting))
        for request in self.requests:
            assert (request.replica is not None) + request.is_waiting + (
                request.ended is not None
            ) == 1
        for replica in self.fleet._replicas.values():
            mine = sum(r.replica is replica for r in self.requests)
            assert mine == replica.in_flight <= replica.slots


class Request:
    """What admission knows of an exchange, without any connection."""

    def __init__(self, world: World, key: str, priority: int, arm: Arm) -> None:
        release = A if arm == "champion" else B
        self.world = world
        self.service = self.served_by = "bank"
        self.arm: Arm = arm
        self.lane = self.arm
        self.bound_to: str | None = None
        self.prefix = None
        self.assignment = Assignment(arm, release, "u", 0.5, "ro-1", 2)
        self.limits = LIMITS
        self.key_id, self.priority, self.patience_s = key, priority, LIMITS.queue_timeout_s
        self.tried: set[Replica] = set()
        self.failures = 0
        self.was_failed = False
        self.rests_until = 0.0
        self.body_bytes = 10
        self.replica: Replica | None = None
        self.is_waiting = False
        self.refused_by: list[Replica] = []
        self.ended: str | None = None
        self.sent = 0
        self.answered_by = ""

    def become_champions(self) -> None:
        self.lane = "champion"

    @property
    def is_champions(self) -> bool:
        return self.arm == "canary" and self.lane == "champion"

    def retries_free(self, after: int) -> bool:
        return Seeker.retries_free(cast(Seeker, self), after)

    def begin_waiting(self) -> None:
        self.is_waiting = True

    def refuse(self, refusal: Refusal) -> None:
        self._end(refusal.code)

    def start_on(self, replica: Replica, route: ReleaseRoute, *, fell_back: bool) -> None:
        assert self.ended is None
        assert self.replica is None
        self.is_waiting = False
        replica.take_slot()
        self.replica = replica
        self.answered_by = route.digest
        self.tried.add(replica)

    def fall_back_to(self, service: str, limits: Limits) -> None:
        self.served_by, self.limits = service, limits
        self.arm = self.assignment.arm if service == self.service else "champion"
        self.lane = self.arm
        self.tried.clear()
        self.refused_by.clear()
        self.sent = self.failures = 0
        self.is_waiting = False

    # What the test lets happen

    def succeeds(self) -> None:
        assert self.replica is not None
        self.world.fleet.note_success(self.replica)
        for replica in self.refused_by:
            self.world.fleet.note_refusal(replica)
        self._end("")

    def fails(self, *, to_connect: bool) -> None:
        assert self.replica is not None
        self.world.fleet.note_failure(self.replica, to_connect=to_connect)
        self._leave_replica()
        self.sent += not to_connect
        self.failures += 1
        if self.sent >= self.limits.attempts:
            self.world.queue.give_up(cast(Seeker, self), UPSTREAM_ERROR)
        else:
            self.world.queue.again(cast(Seeker, self), was_load=not to_connect)

    def is_turned_away(self, *, is_free: bool) -> None:
        """As `Exchange` does it: somebody else is asked, or it ends."""
        assert self.replica is not None
        queue, seeker = self.world.queue, cast(Seeker, self)
        self.world.fleet.note_alive(self.replica)
        self.sent += 1
        if self.sent < self.limits.attempts and queue.has_other(seeker, is_free=is_free):
            self.refused_by.append(self.replica)
            self._leave_replica()
            self.failures += 1
            refused = self.world.metrics.retries_refused.get((self.service,))
            queue.again(seeker, was_load=not is_free)
            assert self.world.metrics.retries_refused.get((self.service,)) == refused
            assert self.replica not in self.refused_by
            assert self.replica is not None or self.is_waiting
        elif queue.has_fallback(seeker):
            self._leave_replica()
            queue.give_up(seeker, UPSTREAM_ERROR)
            assert self.served_by != self.service
        else:
            self._end("told")

    def leaves(self) -> None:
        self._end("client_closed")

    def _end(self, how: str) -> None:
        assert self.ended is None, "it ends once"
        self.ended = how
        self.world.queue.leave(cast(Seeker, self))
        self.is_waiting = False
        self._leave_replica()

    def _leave_replica(self) -> None:
        if self.replica is not None:
            replica, self.replica = self.replica, None
            self.world.fleet.free_slot(replica)


def snapshots() -> list[Snapshot]:
    """Ones between which control may go to and fro; in some, a fallback is there."""
    made = [
        snapshot(route(A, *URLS[:2], slots=2), route(B, URLS[2], slots=1), share=0.5),
        snapshot(route(A, URLS[0], slots=2)),
        snapshot(route(A), route(B, URLS[2], slots=1), share=0.5),
    ]
    bank = msgspec.structs.replace(made[1].services["bank"], limits=LIMITS)
    spare = msgspec.structs.replace(
        bank, name="spare", releases={B: route(B, URLS[2], slots=2)}, champion=B
    )
    bank = msgspec.structs.replace(bank, fallbacks=("spare",))
    made.append(msgspec.structs.replace(made[1], services={"bank": bank, "spare": spare}))
    made.append(msgspec.structs.replace(made[1], services={"spare": spare}))
    return made


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    with monkeypatch.context() as patch:
        patch.setattr(admission.asyncio, "get_running_loop", lambda: made)
        yield made


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ask",
                "ask",
                "ask",
                "succeed",
                "fail",
                "refuse",
                "turn away",
                "leave",
                "pass",
                "snapshot",
            ]
        ),
        st.integers(0, 30),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_request_is_in_one_place_and_ends_once_whatever_happens(
    steps: list[tuple[str, int]],
) -> None:
    made = snapshots()
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        patch.setattr(admission.asyncio, "get_running_loop", lambda: world)
        # Longer than an ejection, so that many requests rest.
        patch.setattr(admission, "backoff_s", lambda retries, random: 1.0)
        world.use(made[0])
        for what, number in steps:
            _step(world, made, what, number)
            world.check()
        for request in world.requests:
            if request.ended is None:
                request.leaves()
        world.check()
        assert world.queue._waiting == 0


def _step(world: World, made: list[Snapshot], what: str, number: int) -> None:
    trying = [r for r in world.requests if r.replica is not None]
    if what == "ask":
        world.ask(f"k{number % 3}", number % 2, "canary" if number % 5 == 0 else "champion")
    elif what == "pass":
        world.passes(number / 20)
    elif what == "snapshot":
        world.use(made[number % len(made)])
    elif what == "leave":
        waiting = [r for r in world.requests if r.is_waiting]
        if waiting:
            waiting[number % len(waiting)].leaves()
    elif trying:
        request = trying[number % len(trying)]
        if what == "succeed":
            request.succeeds()
        elif what == "turn away":
            request.is_turned_away(is_free=number % 2 == 0)
        else:
            request.fails(to_connect=what == "refuse")


def test_a_bad_canary_takes_no_retries_from_the_champion(world: World) -> None:
    """Each of its requests goes on to the champion, however many there are."""
    world.use(snapshots()[0])
    for _ in range(60):
        request = world.ask(arm="canary")
        assert request.answered_by == B
        request.fails(to_connect=False)
        assert request.answered_by == A
        request.succeeds()
        world.passes(3.0)
    assert world.metrics.retries_refused.get(("bank",)) == 0


def test_a_request_asks_the_replica_that_failed_it_again_only_after_a_rest(world: World) -> None:
    world.use(snapshots()[1])
    request = world.ask()
    assert request.replica is not None
    replica = request.replica
    other = world.ask()
    request.fails(to_connect=False)
    other.succeeds()  # It is well again, for everybody else.
    assert request.replica is None
    assert request.is_waiting
    newcomer = world.ask()
    assert newcomer.replica is replica, "who has not been failed does not wait behind it"
    world.passes(0.2)
    assert request.replica is replica


def test_waiting_requests_go_on_to_the_fallback_when_their_replica_is_gone(world: World) -> None:
    world.use(snapshots()[3])
    first = [world.ask() for _ in range(4)]
    assert [r.is_waiting for r in first] == [False, False, True, True]
    assert first[0].replica is not None
    world.fleet.note_failure(first[0].replica, to_connect=True)
    world.passes(0.01)
    assert [r.answered_by for r in first] == [A, A, B, B]
    assert [r.served_by for r in first] == ["bank", "bank", "spare", "spare"]
