"""What the REST API takes and gives; the OpenAPI document is derived from these."""

from __future__ import annotations

import msgspec

from fairlead.control.hub import WorkerStatus
from fairlead.domain.quota import NO_QUOTA, Quota
from fairlead.domain.replica import ReplicaStatus
from fairlead.domain.verdicts import GateVerdict, RolloutVerdict


class GateProgress(msgspec.Struct, frozen=True):
    """How far a gate's evaluation is: cases answered, of how many, and the mean score so far."""

    gate: str
    done: int
    total: int
    mean: float
    reused: int = 0


class HistoryEntry(msgspec.Struct, frozen=True):
    """One transition of a rollout."""

    at: float
    state: str
    why: str


class ShadowView(msgspec.Struct, frozen=True):
    """How a rollout's copies of requests fare: so many have an outcome, of how many at least.

    Attributes:
        failed: Copies that failed where the live request did not.
    """

    share: float
    requests: int
    copies: int
    failed: int


class RolloutView(msgspec.Struct, frozen=True):
    """A rollout as people see it.

    Attributes:
        outcome: `running`, `promoted`, `rolled_back`, `gate_failed`, `aborted` or `failed`.
        share: Probability with which a unit goes to the canary at this moment.
        served: Requests that the release has answered within this rollout; None in lists of
            rollouts, where they are not counted.
        goes_back: Whether it returns to an earlier release, rather than shipping one.
        then: Id of the rollout that begins in the moment in which this one ends.
        shadow: Its copies of requests; None if its plan has none.
        waiting: What its replicas show while too few are ready, as far as they say anything; empty
            in lists of rollouts.
    """

    id: str
    service: str
    release: str
    name: str
    champion: str | None
    state: str
    outcome: str
    paused: bool
    step: int
    steps: int
    share: float
    reason: str
    created_at: float
    updated_at: float
    served: int | None
    gates: list[GateProgress]
    gate_verdicts: list[GateVerdict]
    verdict: RolloutVerdict | None
    history: list[HistoryEntry]
    goes_back: bool = False
    then: str | None = None
    waiting: str = ""
    shadow: ShadowView | None = None


class FiguresView(msgspec.Struct, frozen=True):
    """A release's figures over a span of time; None where there was nothing to measure."""

    service: str
    release: str
    name: str
    requests: int
    errors: int
    ttft_ms_p50: float | None
    ttft_ms_p95: float | None
    itl_ms_p50: float | None
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    latency_ms_p99: float | None
    prompt_tokens: int
    completion_tokens: int
    feedback: dict[str, tuple[int, float]]


class SloView(msgspec.Struct, frozen=True):
    """A promise and what was measured, over the span of the status."""

    name: str
    target: float
    measured: float | None
    met: bool | None


class ServiceView(msgspec.Struct, frozen=True):
    """A service: who answers for it, and how it fares.

    Attributes:
        trouble: What keeps it from being served, or its rollout from going on, and what to do.
    """

    name: str
    champion: str | None
    champion_name: str
    previous: str | None
    canary: str | None
    share: float
    rollout: str | None
    figures: list[FiguresView]
    slos: list[SloView]
    trouble: str = ""


class StatusView(msgspec.Struct, frozen=True):
    """The whole installation at one moment."""

    version: str
    gateway_url: str
    snapshot: int
    workers: list[WorkerStatus]
    replicas: list[ReplicaStatus]
    services: list[ServiceView]
    observer_lag_s: float


class KeyView(msgspec.Struct, frozen=True):
    """An API key, without the key itself."""

    id: str
    name: str
    created_at: float
    revoked_at: float | None
    tenant: str | None = None
    limits: Quota = NO_QUOTA
    priority: int = 0


class NewKey(msgspec.Struct, frozen=True):
    """A key just made. It is shown this once and never stored."""

    id: str
    name: str
    key: str
    priority: int = 0


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for a new key of this name; with limits, and as one of a tenant's keys.

    Attributes:
        priority: Where requests have to wait, those of a higher one go first; -100 to 100.
    """

    name: str
    tenant: str | None = None
    limits: Quota = NO_QUOTA
    priority: int = 0


class LimitsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes the limits that it names; 0 takes one away.

    Attributes:
        tenant: Whose key it is from now on; empty for nobody's.
    """

    limits: Quota = NO_QUOTA
    tenant: str | None = None


class TenantView(msgspec.Struct, frozen=True):
    """A tenant: what its keys may use together, and their names."""

    name: str
    limits: Quota
    keys: tuple[str, ...]


class RollbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks to go back to an earlier release.

    Attributes:
        to: A former champion: its digest, six or more of its first hex digits, or its name. If none
            is named: from a canary to the champion, else to the champion before this one.
        why: The reason of the rollout that goes back, or of the end of the canary.
    """

    to: str | None = None
    why: str = "rolled back by hand"


class Applied(msgspec.Struct, frozen=True):
    """The champion runs by the given spec; `changed` says whether that was new."""

    service: str
    release: str
    changed: bool


class EventView(msgspec.Struct, frozen=True):
    """Something that happened."""

    id: int
    at: float
    service: str
    rollout: str
    kind: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """Every error has this form."""

    code: str
    message: str
    hint: str | None = None
