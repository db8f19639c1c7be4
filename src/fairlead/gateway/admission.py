"""Who waits and who goes on: one bounded queue per service, with a lane for each release.

A newcomer never overtakes a request of its own lane; a busy canary does not hold up the champion.
Where a request can go is decided under the present snapshot, also for one that began under an
older one: a replica that control has taken out gets no new attempt.
"""

from __future__ import annotations

from collections import OrderedDict

from fairlead.gateway import routing
from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import QUEUE_FULL, SERVICE_GONE
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.loaded import Loaded

_Lane = OrderedDict[Exchange, None]


class Admission:
    """The queues of one worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loaded: Loaded | None = None
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._turn = 0
        self._waiting = 0
        self._is_pumping = False

    def use(self, loaded: Loaded) -> None:
        """Route by this snapshot from now on."""
        self._loaded = loaded
        self.pump()
        for service, lane in [key for key, waiting in self._lanes.items() if not waiting]:
            if lane != "champion":  # The champion's stays: its service's depth is still shown.
                del self._lanes[service, lane]
                self._lanes.setdefault((service, "champion"), OrderedDict())

    def enter(self, exchange: Exchange) -> None:
        """A new request: goes on at once, waits, or is refused because too many wait."""
        lane = self._lane(exchange)
        if not lane and self._place(exchange):
            return
        if self.depth(exchange.service) >= exchange.limits.queue:
            exchange.refuse(QUEUE_FULL)
            return
        lane[exchange] = None
        self._waiting += 1
        exchange.begin_waiting()

    def again(self, exchange: Exchange) -> None:
        """A request whose attempt failed: it goes first, and was counted in already."""
        if self._place(exchange):
            return
        lane = self._lane(exchange)
        lane[exchange] = None
        lane.move_to_end(exchange, last=False)
        self._waiting += 1
        exchange.begin_waiting()

    def leave(self, exchange: Exchange) -> None:
        """It no longer waits."""
        if self._waiting:
            lane = self._lane(exchange)
            if exchange in lane:
                del lane[exchange]
                self._waiting -= 1

    def pump(self) -> None:
        """Let go on whoever can."""
        if not self._waiting or self._is_pumping:
            return
        self._is_pumping = True
        try:
            for lane in list(self._lanes.values()):
                self._pump_lane(lane)
        finally:
            self._is_pumping = False

    def depth(self, service: str) -> int:
        """How many requests of this service wait."""
        return sum(len(lane) for (name, _), lane in self._lanes.items() if name == service)

    def depths(self) -> dict[str, int]:
        """How many requests wait, for each service that was ever asked for."""
        return {name: self.depth(name) for name in {name for name, _ in self._lanes}}

    def _pump_lane(self, lane: _Lane) -> None:
        while lane:
            exchange = next(iter(lane))
            del lane[exchange]
            self._waiting -= 1
            if not self._place(exchange):
                lane[exchange] = None
                lane.move_to_end(exchange, last=False)
                self._waiting += 1
                return

    def _lane(self, exchange: Exchange) -> _Lane:
        key = (exchange.service, exchange.assignment.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = OrderedDict()
        return lane

    def _place(self, exchange: Exchange) -> bool:
        """Start it on a replica (or end it, when its service is gone); False when it must wait."""
        assert self._loaded is not None
        service = self._loaded.snapshot.services.get(exchange.service)
        if service is None:
            exchange.refuse(SERVICE_GONE)
            return True
        assigned = exchange.assignment.release
        champion = service.champion
        if assigned not in service.releases and exchange.assignment.arm == "champion":
            assigned = champion or assigned
        pool = self._loaded.pool(exchange.service, assigned)
        fallback = self._loaded.pool(exchange.service, champion) if champion != assigned else ()
        self._turn += 1
        replica = routing.choose(pool, fallback, exchange.tried, self._clock.now(), self._turn)
        if replica is None:
            return False
        if champion == assigned or replica in pool:
            exchange.start_on(replica, service.releases[assigned], fell_back=False)
        else:
            assert champion is not None
            is_canary = exchange.assignment.arm == "canary"
            exchange.start_on(replica, service.releases[champion], fell_back=is_canary)
        return True
