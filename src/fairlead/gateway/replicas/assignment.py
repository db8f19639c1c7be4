"""Which release a request belongs to."""

from __future__ import annotations

from typing import Literal

Arm = Literal["champion", "canary"]


class Assignment:
    """Which release a request belongs to, whatever happens to it later (intention to treat).

    Requests of one unit share it: nothing of it is ever changed.

    Attributes:
        unit: Hash of the session, user or key by which it was assigned.
        rho: Probability with which this unit was assigned to the canary; among more than two
            releases, to this one.
        facts: What to look for in its answer.
    """

    __slots__ = ("arm", "facts", "phase", "release", "rho", "rollout", "unit")

    def __init__(
        self,
        arm: Arm,
        release: str,
        unit: str,
        rho: float,
        rollout: str,
        phase: int,
        facts: tuple[str, ...] = (),
    ) -> None:
        self.arm: Arm = arm
        self.release = release
        self.unit = unit
        self.rho = rho
        self.rollout = rollout
        self.phase = phase
        self.facts = facts

    @property
    def lane(self) -> str:
        """Who waits together: those for the champion, whichever it is, and those for each other."""
        return self.arm if self.arm == "champion" else self.release
