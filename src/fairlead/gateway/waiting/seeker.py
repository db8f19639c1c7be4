"""A request as its queue sees it: where it may be tried, and how long it may wait for that."""

from __future__ import annotations

from fairlead.gateway.errors import Refusal
from fairlead.gateway.replicas.affinity import Prefix
from fairlead.gateway.replicas.assignment import Arm
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.requests.attempt import Attempting
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.patience import Patience
from fairlead.gateway.requests.plant import Plant
from fairlead.wire.snapshot import Limits, ReleaseRoute


class Seeker(Attempting):
    """See the head of this file.

    Attributes:
        served_by, limits: The service whose replicas it uses, and its limits: its own, or a
            fallback's.
        arm, lane: With whom it waits there.
        tried: Replicas that it was on.
        failures: Attempts that failed, at this service.
        was_failed: A service gave it up after it had been sent.
        rests_until: Until then no replica that was tried is asked again; in monotonic seconds.
    """

    __slots__ = (
        "_patience",
        "_plant",
        "arm",
        "assignment",
        "call",
        "failures",
        "lane",
        "limits",
        "rests_until",
        "served_by",
        "service",
        "tried",
        "was_failed",
    )

    def __init__(self, plant: Plant, call: Call) -> None:
        self._plant = plant
        self.call = call
        self.assignment = assignment = call.assignment
        self.service = self.served_by = call.service.route.name
        self.limits = call.service.route.limits
        self.arm: Arm = assignment.arm
        self.lane = assignment.lane
        self.tried: set[Replica] = set()
        self.failures = 0
        self.was_failed = False
        self.rests_until = 0.0
        self._patience: Patience | None = None

    @property
    def prefix(self) -> Prefix | None:
        """The prompt's beginnings, where the service is balanced by them."""
        return self.call.prefix

    @property
    def key_id(self) -> str:
        """The API key whose request it is."""
        return self.call.key_id

    @property
    def priority(self) -> int:
        """Of its key."""
        return self.call.priority

    @property
    def patience_s(self) -> float:
        """Seconds that it may wait in all."""
        return min(self.limits.queue_timeout_s, self.limits.request_timeout_s)

    @property
    def body_bytes(self) -> int:
        """Size of its body."""
        return len(self.call.body)

    @property
    def is_trying(self) -> bool:
        """Whether it is on a replica now."""
        raise NotImplementedError

    @property
    def release(self) -> str:
        """Digest of the release that it was sent to last."""
        raise NotImplementedError

    @property
    def bound_to(self) -> str | None:
        """The only release that can go on with what this request's client has."""
        raise NotImplementedError

    def become_champions(self) -> None:
        """A canary has turned it away: the champion's replicas answer it, or nobody's here."""
        self.lane = "champion"

    @property
    def is_champions(self) -> bool:
        """Whether it is a canary's by assignment alone."""
        return self.arm == "canary" and self.lane == "champion"

    def retries_free(self, after: int) -> bool:
        """Whether a retry costs no budget, once so many attempts have failed.

        A canary's requests are the champion's if need be: a bad canary takes no budget away. The
        rest of a broken stream is work that would have been done anyway.
        """
        is_canary = self.arm == "canary" and self.failures == after
        return is_canary or self.bound_to is not None

    def start_on(self, replica: Replica, route: ReleaseRoute, *, fell_back: bool) -> None:
        """Try this replica, which has a free slot.

        Args:
            fell_back: The canary cannot serve, and the champion does it instead.
        """
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """It cannot be served."""
        raise NotImplementedError

    def fall_back_to(self, service: str, limits: Limits) -> None:
        """Another service is to answer, within its limits: its champion, or this one's again."""
        self.served_by = service
        is_home = service == self.service
        self.arm = self.assignment.arm if is_home else "champion"
        self.lane = self.assignment.lane if is_home else "champion"
        self.limits = limits
        self.tried.clear()
        self.failures = 0

    def begin_waiting(self) -> None:
        """It waits from now on, for as long as it may still wait."""
        if self._patience is None:
            self._patience = Patience(self._plant.clock, self.limits.queue_timeout_s)
        self._patience.begin(self._wait_expired)
        self._plant.shadows.make_room()

    def _end_waiting(self) -> None:
        if self._patience is None:
            return
        waited = self._patience.end()
        if waited is not None:
            self._plant.metrics.queue_wait.observe((self.service,), waited)

    def _wait_expired(self) -> None:
        """It has waited for too long."""
        raise NotImplementedError
