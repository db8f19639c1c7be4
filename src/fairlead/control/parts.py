"""What control stands on, and the parts that ship releases: most of the others need them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairlead.control.drill.drills import Drills
from fairlead.control.judging.judging import Judging
from fairlead.control.judging.live import LiveJudging
from fairlead.control.outside.hooks import Hooks
from fairlead.control.probing.probes import Probes
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.rollouts import Rollouts
from fairlead.control.shipping.slow_watches import SlowWatches
from fairlead.control.world.fleet import Fleet
from fairlead.control.world.hub import SnapshotHub
from fairlead.registry import Registry
from fairlead.store.interface import Store
from fairlead.targets import Target


def random_id(prefix: str) -> str:
    """`ro-1f0c9a3e`: a name that nothing has yet."""
    return f"{prefix}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Ground:
    """What control stands on; whoever starts it gives it.

    Attributes:
        now: Unix time in seconds, for what is kept.
        monotonic: Seconds that never jump, for what is waited for.
        word_vectors: The table of what words mean that drift goes by, if it is there.
        service_vectors: Where tables are that were fitted to one service each.
        new_id: A name that begins with this, for a rollout (`ro`), an evaluation or a drill.
    """

    store: Store
    registry: Registry
    target: Target
    hub: SnapshotHub
    gateway_url: str
    now: Callable[[], float]
    monotonic: Callable[[], float]
    word_vectors: Path | None = None
    service_vectors: Path | None = None
    new_id: Callable[[str], str] = random_id


@dataclass(frozen=True)
class Parts:
    """The parts that ship releases and look after them, and where they keep and say what they do.

    Attributes:
        watches: Of champions, for days after they were promoted.
    """

    store: Store
    hub: SnapshotHub
    fleet: Fleet
    evaluations: Evaluations
    hooks: Hooks
    judging: Judging
    live_judging: LiveJudging
    rollouts: Rollouts
    watches: SlowWatches
    drills: Drills
    probes: Probes

    @property
    def overview(self) -> Overview:
        """How services and their rollouts stand, for whoever only looks."""
        return self.rollouts.overview
