"""What the REST API takes and gives; the OpenAPI document is derived from these."""

from __future__ import annotations

import msgspec

from fairlead.control.drill.drill_views import DrillsView
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.control.probing.probe_views import ProbesView
from fairlead.control.watching.watch_views import AlertView
from fairlead.control.world.hub import WorkerStatus
from fairlead.domain.replica import ReplicaStatus
from fairlead.domain.verdicts import GateVerdict, RolloutVerdict
from fairlead.rollout.standing import QueryLine


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
    """How a rollout's copies of requests fare.

    Attributes:
        requests, units: Units (sessions, users, keys) that must have a pair with both outcomes to
            go on without more evidence, and those that have one.
        copies: Pairs with both outcomes.
        failed: Copies that failed where the live request did not; `live_failed` is the reverse.
        late: Pairs that did not count, because both sides took too long.
        unknown: Pairs with an outcome that nobody knows, since that side was given up before.
        slower, timed: Pairs with the slower copy, of those that both sides answered well.
        e_worse, e_not_worse: The evidence now that the release is worse, and that it is not worse
            by the margin; `e_worse_at` ends it, `e_not_worse_at` lets it go on.
    """

    share: float
    requests: int
    copies: int
    failed: int
    live_failed: int = 0
    late: int = 0
    slower: int = 0
    timed: int = 0
    e_worse: float = 1.0
    e_worse_at: float = 100.0
    e_not_worse: float = 1.0
    e_not_worse_at: float = 20.0
    units: int = 0
    unknown: int = 0


class HarmView(msgspec.Struct, frozen=True):
    """What a ramp has cost, and what it may cost, in requests that failed for it.

    Attributes:
        so_far: Of what has settled: an estimate with its standard error.
        at_worst: By the next look, at the present share.
    """

    so_far: float
    at_worst: float
    budget: float


class WatchView(msgspec.Struct, frozen=True):
    """The slow watch of a champion: whether it keeps within an absolute limit of failures.

    Attributes:
        rollout: The one that made it champion.
        limit: The failure rate that it must not exceed; `source` says where it comes from.
        since: From when on its requests count.
        units, rate: Units judged since then (each once a day), and their failure rate.
        evidence: That the limit is exceeded; the alarm is raised at `threshold`.
        alarmed_at: When it was raised; None while it was not. `alarm` says it in words.
        went_back: The rollout that goes back for it, or why there is none; empty where that is not
            declared, or waits for the end of what is under way.
    """

    rollout: str
    release: str
    limit: float
    source: str
    since: float
    units: int
    rate: float | None
    evidence: float
    threshold: float
    alarmed_at: float | None = None
    alarm: str = ""
    went_back: str = ""


class JudgingView(msgspec.Struct, frozen=True):
    """How far a rollout's judge model is.

    Attributes:
        judge: The service or model that judges.
        pending: Samples without a verdict; at least so many with `pending_is_more`.
        oldest_s: Age of the oldest of them in seconds.
        judged, unjudged: Samples with a score, and those left without one for good.
        asked: Questions so far, repeated ones included.
        usd, usd_today: What the rollout has cost, and the service today.
        said: What keeps it from going on; empty if nothing does.
        error: How often it is right, as measured on labelled answers.
        share, share_declared: Of the units in the sample, those that it is asked about now, and
            those that it is to be asked about: fewer while it cannot keep up.
        share_changes: Each Unix time from which on another share was in force, and that share: the
            probability with which a unit that was enrolled then is judged.
    """

    judge: str
    pending: int
    pending_is_more: bool
    oldest_s: float | None
    judged: int
    unjudged: int
    asked: int
    usd: float
    usd_today: float
    said: str
    error: str
    share: float = 1.0
    share_declared: float = 1.0
    share_changes: list[tuple[float, float]] = []


class Noted(msgspec.Struct, frozen=True):
    """It is kept, and will be shown so."""

    said: str


class RolloutView(msgspec.Struct, frozen=True):
    """A rollout as people see it.

    Attributes:
        outcome: `running` (or waiting in the queue), `promoted`, `rolled_back`, `gate_failed`,
            `gates_passed`, `aborted` or `failed`.
        share: Probability with which a unit goes to the canary at this moment.
        served: Requests that the release has answered within this rollout; None in lists of
            rollouts, where they are not counted.
        goes_back: Whether it returns to an earlier release, rather than shipping one.
        then: Id of the rollout that begins in the moment in which this one ends.
        shadow: Its copies of requests; None if its plan has none.
        ending: Why it ended (or goes back), by name; empty while it goes on.
        advice: What to do about that; empty where nothing is.
        awaits: What it waits for at a checkpoint; empty while it does not.
        held: Why a freeze holds it; empty while none does.
        strategy: How it gets its traffic.
        time_left_s: Seconds to the deadline of the state that it is in; None where there is none,
            and while it is held.
        missing: What it misses to go on, in words.
        margin, tolerance: Of the failure rate: a promotion needs evidence that it is not worse by
            the margin, a rollback that it is worse by more than the tolerance.
        traffic_since: When it first had a share; None before.
        queries: What it asks of Prometheus, as that stands.
        champion_name: The champion's name, as far as known.
        harm: What its ramp has cost; None without one, and before anything has settled.
        watch: The slow watch of its release, while that is the champion by this rollout.
        judging: Its judge model; None if it has none, and in lists of rollouts.
        drill: The fault of which it is a drill; empty for all others.
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
    ending: str = ""
    advice: str = ""
    awaits: str = ""
    held: str = ""
    strategy: str = "canary"
    time_left_s: float | None = None
    missing: str = ""
    margin: float = 0.0
    tolerance: float = 0.0
    traffic_since: float | None = None
    queries: list[QueryLine] = []
    champion_name: str = ""
    harm: HarmView | None = None
    watch: WatchView | None = None
    judging: JudgingView | None = None
    drill: str = ""


class PlanStep(msgspec.Struct, frozen=True):
    """A step, and the least seconds it takes; None while the traffic is not known."""

    share: float
    seconds: float | None


class PlanView(msgspec.Struct, frozen=True):
    """What a rollout would take; None where that is not known, or nothing is compared.

    Attributes:
        chosen: The steps were not named, and are chosen by replicas, traffic and deadline.
        harm_budget: How many requests a ramp may fail; None without one, or without traffic to
            go by.
        replicas_more: Replicas that run besides the champion's, at the most.
        bytes_more, bytes_available: Memory that its weights take at least, and what there is.
        requests_per_s: The service's traffic, by the busiest of its last spans.
        units_to_promote: Units until an equal release is promoted.
        units_to_roll_back: Units until a release that is worse by two margins is rolled back.
        seconds: From its first traffic to the promotion of an equal release.
        canary_requests: Requests that it answers until then; `usd` is what they cost.
        problems: Why it does not fit.
        notes: What should be known beforehand.
        queries: What it asks of Prometheus, and what that does.
    """

    service: str
    release: str
    name: str
    strategy: str
    replicas_more: int
    bytes_more: int
    bytes_available: int | None
    requests_per_s: float
    steps: list[PlanStep]
    units_to_promote: int | None
    units_to_roll_back: int | None
    seconds: float | None
    deadline_s: float
    canary_requests: int | None
    usd: float | None
    problems: list[str]
    notes: list[str]
    harm_budget: float | None = None
    chosen: bool = False
    queries: list[str] = []


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
        probes: What is known of its provider by probes; None if the champion is not probed.
        samples: Prompts and answers of it that are kept.
        judging: The judge model of its rollout.
        live_judging: The judge model of its live traffic; None where that is not judged.
        drills: Its fault drills; None without a schedule while none goes on.
        tightened: Guardrails of the champion that block because of an action.
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
    watch: WatchView | None = None
    probes: ProbesView | None = None
    samples: int = 0
    judging: JudgingView | None = None
    live_judging: LiveJudgingView | None = None
    drills: DrillsView | None = None
    tightened: tuple[str, ...] = ()


class StatusView(msgspec.Struct, frozen=True):
    """The whole installation at one moment.

    Attributes:
        alerts: Pages and tickets that fire.
        incidents: Incidents that go on.
        gravest: The gravest of these alerts.
        watching_age_s: Seconds since the monitors have last looked at everything.
        watching_trouble: Why the last look failed; empty when none has since.
    """

    version: str
    gateway_url: str
    snapshot: int
    workers: list[WorkerStatus]
    replicas: list[ReplicaStatus]
    services: list[ServiceView]
    observer_lag_s: float
    alerts: int = 0
    incidents: int = 0
    gravest: list[AlertView] = []
    watching_age_s: float = 0.0
    watching_trouble: str = ""


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
