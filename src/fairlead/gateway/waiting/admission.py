"""Who waits and who goes on: one bounded queue per service, with a lane for each release.

A request waits when no replica has room for it, and a newcomer never overtakes those of its own
lane; who of them goes on next is decided by `lanes`. A busy canary does not hold up the champion.
Where a request can go is decided under the present snapshot, also for one that began under an
older one: a replica that control has taken out gets no new attempt.

A broken stream can only be gone on with by replicas of the release that began it. Those that wait
for one have lanes of their own, which go first and hold up nobody who has a choice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import (
    QUEUE_FULL,
    RETRY_BUDGET_EXHAUSTED,
    SERVICE_GONE,
    UPSTREAM_CUT,
    Refusal,
    wait_too_long,
)
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.replicas import routing
from fairlead.gateway.replicas.affinity import PrefixBalancer, picker
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.retry_budget import backoff_s
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.fallback import next_fallback
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.waiting.lanes import Lane, ServiceQueue
from fairlead.gateway.waiting.seeker import Seeker
from fairlead.wire.snapshot import ReleaseRoute, ServiceRoute


class Admission:
    """The queues of one worker."""

    def __init__(self, clock: Clock, metrics: GatewayMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._random: Callable[[], float] = random.random
        self._loaded: Loaded | None = None
        self._queues: dict[str, ServiceQueue[Seeker]] = {}
        self._resting: dict[Seeker, asyncio.TimerHandle] = {}
        self._balancers: dict[str, PrefixBalancer] = {}
        self._turn = 0
        self._waiting = 0
        self._is_pumping = False

    def use(self, loaded: Loaded) -> None:
        """Route by this snapshot from now on."""
        self._loaded = loaded
        for name, queue in self._queues.items():
            queue.budget.fit(loaded.slots_max(name))
            queue.forget_empty()
        for seeker in list(self._resting):
            self._rested(seeker)
        services = loaded.snapshot.services
        for name in [name for name in self._balancers if name not in services]:
            del self._balancers[name]
        self.pump()

    def at_once(self, call: Call, now: float) -> tuple[Replica, UpstreamConnection] | None:
        """A replica with a free slot and an open connection, if nobody waits; else None: `enter`.

        What is returned has to be used.
        """
        service, prefix = call.service, call.prefix
        name = service.route.name
        if self._loaded is None or self._loaded.services.get(name) is not service:
            return None  # It was assigned under an older snapshot.
        pool = service.pools.get(call.assignment.release)
        if self._waiting or not pool:
            return None
        turn = self._turn + 1
        if len(pool) == 1:
            replica = pool[0]
            if replica.in_flight >= replica.slots or now < replica.closed_until:
                return None
        else:
            balancer = None if prefix is None else self._balancer(name)
            chosen = routing.choose(pool, (), (), now, turn, picker(balancer, prefix))
            if chosen is None:
                return None
            replica = chosen
        connection = replica.take_idle(now)
        if connection is None:
            return None
        self._turn = turn
        if prefix is not None:
            self._balancer(name).note(replica.id, prefix)
        queue = self._queues.get(name) or self._queue(name)
        queue.budget.earn()
        return replica, connection

    def enter(self, seeker: Seeker) -> None:
        """A new request: goes on at once, waits, or is refused because too many wait."""
        queue = self._queues.get(seeker.served_by) or self._queue(seeker.served_by)
        queue.budget.earn()
        lane = queue.lane(seeker.lane)
        if not lane.count and self._place(seeker, None):
            return
        now = self._clock.now()
        if queue.depth >= seeker.limits.queue and not self._makes_room(queue, seeker, now):
            seeker.refuse(QUEUE_FULL)
            return
        wait_s = lane.too_long(seeker, now)
        if wait_s is not None:
            seeker.refuse(wait_too_long(wait_s))
            return
        lane.add(seeker, now)
        self._waiting += 1
        seeker.begin_waiting()

    def again(self, seeker: Seeker, *, was_load: bool) -> None:
        """A request whose attempt failed: it goes first, and was counted in already.

        Args:
            was_load: A replica had work of it. One that refused the connection, or turned the
                request away, had none, so the next attempt adds none.
        """
        now = self._clock.now()
        if was_load:
            budget = self._queue(seeker.served_by).budget
            if not seeker.retries_free(after=1) and not budget.spend(now):
                self._metrics.retries_refused.inc((seeker.service,))
                self.give_up(seeker, RETRY_BUDGET_EXHAUSTED)
                return
            seeker.rests_until = now + backoff_s(seeker.failures, self._random)
        if self._place(seeker, None):
            return
        # First into its lane: waiting can make room, and whoever waits is asked then.
        self._queue(seeker.served_by).lane(seeker.lane).add_first(seeker, now)
        self._waiting += 1
        seeker.begin_waiting()

    def has_other(self, seeker: Seeker, is_free: bool) -> bool:
        """Whether another replica can be asked what one has turned away (free: without a retry).

        After a canary it is the champion's, whose request it is from then on, and which are waited
        for; else one of the same release that was not asked yet and has room.
        """
        assert self._loaded is not None
        service = self._loaded.snapshot.services.get(seeker.served_by)
        if service is None:
            return False
        _, pool, _, spare = self._choices(seeker, service)
        now, queue = self._clock.now(), self._queue(seeker.served_by)
        others = routing.untried(spare or pool, seeker.tried, now)
        has_room = any(one.in_flight < one.slots for one in others)
        may_wait = bool(others and spare) and queue.depth < seeker.limits.queue
        is_paid = is_free or seeker.retries_free(after=0) or queue.budget.has_spare(now)
        if not (has_room or may_wait) or not is_paid:
            return False
        if spare:
            seeker.become_champions()
        return True

    def has_fallback(self, seeker: Seeker) -> bool:
        """Whether another service can answer what this one has failed."""
        return self._fallback(seeker, may_return=False) is not None

    def give_up(self, seeker: Seeker, refusal: Refusal) -> None:
        """Its service has failed it: another one answers, or it is refused."""
        seeker.was_failed = True
        fallback = self._fallback(seeker, may_return=False)
        if fallback is None:
            seeker.refuse(refusal)
        else:
            self._fall_back(seeker, fallback)

    def hedge(self, seeker: Seeker) -> tuple[Replica, ReleaseRoute] | None:
        """Another replica of the same release for a second attempt beside the first; it is a retry
        as far as the budget is concerned. None when there is none free, or no budget."""
        assert self._loaded is not None
        service = self._loaded.snapshot.services.get(seeker.served_by)
        route = service.releases.get(seeker.release) if service is not None else None
        if route is None or not seeker.is_trying:
            return None
        now = self._clock.now()
        pool = self._loaded.pool(seeker.served_by, route.digest)
        others = [r for r in pool if r not in seeker.tried and r.is_usable(now)]
        replica = routing.least_loaded(others, self._turn) if others else None
        if replica is None:
            return None
        if not self._queue(seeker.served_by).budget.spend(now):
            self._metrics.retries_refused.inc((seeker.service,))
            return None
        return replica, route

    def leave(self, seeker: Seeker) -> None:
        """It no longer waits."""
        if not self._waiting:
            return
        timer = self._resting.pop(seeker, None)
        if timer is not None:
            timer.cancel()
            self._waiting -= 1
            return
        lane = self._queue(seeker.served_by).lane(seeker.lane)
        if seeker in lane:
            lane.remove(seeker, self._clock.now(), goes_on=False)
            self._waiting -= 1

    def pump(self) -> None:
        """Let go on whoever can."""
        if not self._waiting or self._is_pumping:
            return
        self._is_pumping = True
        try:
            for queue in list(self._queues.values()):
                for lane in list(queue.lanes.values()):
                    self._pump_lane(lane)
        finally:
            self._is_pumping = False

    def check(self) -> None:
        """A few times a second: refuse those that cannot be served in time, let go on who can."""
        if not self._waiting:
            return
        now = self._clock.now()
        for queue in list(self._queues.values()):
            for lane in list(queue.lanes.values()):
                hopeless, wait_s = lane.hopeless(now)
                self._waiting -= len(hopeless)
                for seeker in hopeless:
                    seeker.refuse(wait_too_long(wait_s))
        self.pump()

    def depth(self, service: str) -> int:
        """How many requests wait for this service's replicas."""
        queue = self._queues.get(service)
        resting = sum(seeker.served_by == service for seeker in self._resting)
        return (queue.depth if queue is not None else 0) + resting

    def depths(self) -> dict[str, int]:
        """How many requests wait, for each service that was ever asked for."""
        return {name: self.depth(name) for name in self._queues}

    def _pump_lane(self, lane: Lane[Seeker]) -> None:
        while (seeker := lane.next(self._clock.now())) is not None:
            if not self._place(seeker, lane):
                return

    def _queue(self, service: str) -> ServiceQueue[Seeker]:
        queue = self._queues.get(service)
        if queue is None:
            queue = self._queues[service] = ServiceQueue(self._clock.now())
            if self._loaded is not None:
                queue.budget.fit(self._loaded.slots_max(service))
        return queue

    def _makes_room(self, queue: ServiceQueue[Seeker], newcomer: Seeker, now: float) -> bool:
        """Refuse another request in its favour, if there is one that has to give way."""
        found = queue.makes_room_for(newcomer)
        if found is None:
            return False
        lane, loser = found
        lane.remove(loser, now, goes_on=False)
        self._waiting -= 1
        loser.refuse(QUEUE_FULL)
        return True

    def _balancer(self, service: str) -> PrefixBalancer:
        balancer = self._balancers.get(service)
        if balancer is None:
            balancer = self._balancers[service] = PrefixBalancer()
        return balancer

    def _place(self, seeker: Seeker, lane: Lane[Seeker] | None) -> bool:
        """Start it on a replica (or end it, or let it rest); False when it must wait.

        Args:
            lane: Where it waits; it is taken out of it before anything is done with it.
        """
        assert self._loaded is not None
        service = self._loaded.snapshot.services.get(seeker.served_by)
        if service is None:
            self._take_out(seeker, lane, goes_on=False)
            seeker.refuse(SERVICE_GONE)
            return True
        bound_to = seeker.bound_to
        if bound_to is not None and bound_to not in service.releases:
            self._take_out(seeker, lane, goes_on=False)
            seeker.refuse(UPSTREAM_CUT)
            return True
        assigned, pool, champion, spare = self._choices(seeker, service)
        self._turn += 1
        now = self._clock.now()
        prefix = seeker.prefix if service.balance == "prefix" else None
        balancer = None if prefix is None else self._balancer(seeker.served_by)
        replica = routing.choose(
            pool,
            spare,
            seeker.tried,
            now,
            self._turn,
            picker(balancer, prefix),
        )
        if replica is None:
            if bound_to is not None:
                return False
            return self._goes_elsewhere(seeker, lane, (*pool, *spare), now)
        if seeker.tried and replica in seeker.tried and now < seeker.rests_until:
            self._take_out(seeker, lane, goes_on=False)
            self._rest(seeker, seeker.rests_until - now)
            return True
        if lane is not None:
            self._take_out(seeker, lane, goes_on=True)
        if prefix is not None and balancer is not None:
            balancer.note(replica.id, prefix)
        release = assigned if champion is None or replica in pool else champion
        is_canary = seeker.assignment.arm == "canary" and release != seeker.assignment.release
        fell_back = is_canary and (release != assigned or seeker.is_champions)
        seeker.start_on(replica, service.releases[release], fell_back=fell_back)
        return True

    def _choices(
        self, seeker: Seeker, service: ServiceRoute
    ) -> tuple[str, Sequence[Replica], str | None, Sequence[Replica]]:
        """Its release with its replicas, and the one that may stand in, with what that adds."""
        assert self._loaded is not None
        champion, assigned = service.champion, seeker.assignment.release
        if seeker.bound_to is not None:
            assigned = champion = seeker.bound_to
        elif (
            seeker.served_by != seeker.service
            or seeker.is_champions
            or (assigned not in service.releases and seeker.arm == "champion")
        ):
            assigned = champion or assigned
        pool = self._loaded.pool(service.name, assigned)
        spare = self._loaded.pool(service.name, champion) if champion != assigned else ()
        return assigned, pool, champion, spare

    def _take_out(self, seeker: Seeker, lane: Lane[Seeker] | None, *, goes_on: bool) -> None:
        if lane is not None:
            lane.remove(seeker, self._clock.now(), goes_on=goes_on)
            self._waiting -= 1

    # Rest: a replica that has failed this request is not asked again at once

    def _rest(self, seeker: Seeker, rest_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._resting[seeker] = loop.call_later(rest_s, self._rested, seeker)
        self._waiting += 1
        seeker.begin_waiting()

    def _rested(self, seeker: Seeker) -> None:
        self._resting.pop(seeker).cancel()
        self._waiting -= 1
        self.again(seeker, was_load=False)

    # Fallbacks: another service answers

    def _goes_elsewhere(
        self,
        seeker: Seeker,
        lane: Lane[Seeker] | None,
        replicas: tuple[Replica, ...],
        now: float,
    ) -> bool:
        """Let another service answer, if no replica of this one is usable; False when it waits."""
        if any(replica.is_usable(now) for replica in replicas):
            return False
        fallback = self._fallback(seeker, may_return=not seeker.was_failed)
        if fallback is None:
            return False
        self._take_out(seeker, lane, goes_on=False)
        self._fall_back(seeker, fallback)
        return True

    def _fallback(self, seeker: Seeker, *, may_return: bool) -> ServiceRoute | None:
        assert self._loaded is not None
        loaded, now = self._loaded, self._clock.now()

        def is_usable(service: ServiceRoute) -> bool:
            pool = loaded.pool(service.name, service.champion)
            return any(replica.is_usable(now) for replica in pool)

        return next_fallback(
            loaded.snapshot.services,
            seeker.service,
            seeker.served_by,
            seeker.body_bytes,
            is_usable,
            may_return=may_return,
        )

    def _fall_back(self, seeker: Seeker, fallback: ServiceRoute) -> None:
        if fallback.name != seeker.service:
            self._metrics.fallbacks.inc((seeker.service, fallback.name))
        seeker.fall_back_to(fallback.name, fallback.limits)
        self.enter(seeker)
