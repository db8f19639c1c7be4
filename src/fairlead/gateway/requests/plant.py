"""The parts of a worker that its requests use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.gateway.clock import Clock
from fairlead.gateway.guardrails.turns import Turns
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.recorder import Recorder
from fairlead.gateway.replicas.fleet import Fleet
from fairlead.gateway.requests.tracing import Tracing
from fairlead.gateway.streams.batching import Batches
from fairlead.gateway.waiting.deadlines import Deadlines

if TYPE_CHECKING:
    from fairlead.gateway.requests.call import Captures, Queue, Shadows


class Plant:
    """The parts of the worker that a request uses."""

    __slots__ = (
        "batches", "captures", "clock", "deadlines", "fleet", "metrics", "queue", "recorder",
        "shadows", "tracing", "turns",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clock: Clock,
        deadlines: Deadlines,
        fleet: Fleet,
        queue: Queue,
        recorder: Recorder,
        metrics: GatewayMetrics,
        shadows: Shadows,
        captures: Captures,
        batches: Batches,
        turns: Turns,
        tracing: Tracing | None = None,
    ) -> None:
        self.clock = clock
        self.deadlines = deadlines
        self.fleet = fleet
        self.queue = queue
        self.recorder = recorder
        self.metrics = metrics
        self.shadows = shadows
        self.captures = captures
        self.batches = batches
        self.turns = turns
        self.tracing = tracing
