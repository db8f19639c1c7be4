"""Who waits for whom: the queued rollouts of each service, oldest first."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import Conflict
from fairlead.domain.release import short

QUEUE_MAX = 20


class Queues:
    """The queues of all services, as the store has them."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Running]] = {}

    def add(self, queued: Running) -> None:
        """The newest of its service."""
        self._waiting.setdefault(queued.rollout.service, []).append(queued)

    def remove(self, queued: Running) -> None:
        """It has begun, or will never begin."""
        self._waiting[queued.rollout.service].remove(queued)

    def of(self, service: str) -> tuple[Running, ...]:
        """The service's queue, oldest first."""
        return tuple(self._waiting.get(service, ()))

    def all(self) -> Iterator[Running]:
        """Everything that waits."""
        for waiting in self._waiting.values():
            yield from waiting

    def find(self, rollout: str) -> Running | None:
        """The queued rollout of this id."""
        return next((queued for queued in self.all() if queued.rollout.id == rollout), None)

    def check(self, spec: ServiceSpec, under_way: Running | None) -> bool:
        """Whether a new rollout has to wait; raises Conflict when it may not even that."""
        waiting = self.of(spec.service)
        if under_way is None and not waiting:
            return False
        ahead = under_way or waiting[0]
        if spec.drill is None and ahead.rollout.drill is not None and not waiting:
            return True  # It ends at once.
        if spec.when_busy == "refuse":
            raise busy(ahead)
        back_to = ahead.goes_back_to
        if spec.when_busy == "supersede" and back_to is not None:
            raise Conflict(
                f"{spec.service}: it is going back to release {back_to.name} "
                f"({short(back_to.release)}); that is not superseded",
                hint=f"follow it with `fairlead rollout follow {ahead.rollout.id}`",
            )
        if spec.when_busy == "queue" and len(waiting) >= QUEUE_MAX:
            raise Conflict(f"{spec.service}: {len(waiting)} rollouts are waiting already")
        return True


def busy(under_way: Running) -> Conflict:
    """That a service is not free, and what can be done about it."""
    rollout = under_way.rollout
    return Conflict(
        f"{rollout.service}: rollout {rollout.id} of release {under_way.spec.name} is "
        f"under way ({rollout.state})",
        hint=f"follow it with `fairlead rollout follow {rollout.id}`, end it with `fairlead "
        f"rollout abort {rollout.id}`, or say rollout.when_busy: queue or supersede",
    )
