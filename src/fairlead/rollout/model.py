"""A rollout as it is stored, the facts that move it, and what it wants of the world."""

from __future__ import annotations

import enum
import hashlib

import msgspec

from fairlead.domain.verdicts import GateVerdict, RolloutVerdict
from fairlead.rollout.checkpoints import Checkpoint, HookReport
from fairlead.rollout.drill import Drill, Met
from fairlead.rollout.endings import Ending
from fairlead.rollout.judge import Judge, new_judge
from fairlead.rollout.pairs import PairsSeen
from fairlead.rollout.plan import Plan
from fairlead.rollout.readings import Memory, Readings
from fairlead.rollout.states import State
from fairlead.rollout.suites import SuiteReading, SuiteState


class Transition(msgspec.Struct, frozen=True):
    """A change of state, or a pause or resumption (`origin` and `to` are then the same)."""

    at: float
    origin: State
    to: State
    why: str


class Command(enum.StrEnum):
    """What a person can tell a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    APPROVE = "approve"
    ABORT = "abort"


class Finish(msgspec.Struct, frozen=True):
    """Conversations that may finish on the release that is left.

    Attributes:
        release: Its digest.
        arm: What it was to them, `canary` or `champion`, in this phase.
        since, before: Those with a request in this span, Unix times in seconds.
        until: When they move, too.
    """

    release: str
    arm: str
    phase: int
    since: float
    before: float
    until: float


class Rollout(msgspec.Struct, frozen=True):
    """A rollout, whole: what is stored of it is what is known of it.

    Attributes:
        release: Digest of the release that is rolled out; `name` is its name.
        champion: Digest of the release that served before; None for a service's first release.
        gates: Number of gates it has to pass.
        gates_only: End after the gates, without traffic.
        gates_begun: There was a replica to ask: from then on its gates have their own deadline.
        why: Why a person asked for it, in their words; the reason of a promotion without a canary.
        step: Index of the plan's step.
        phase: Number of the split in force; 0 before the first one.
        entered_at, step_started_at, created_at: Unix times in seconds: of this state, of the moment
            since which all workers run on this step, of the rollout.
        step_requests: What the judge had counted of requests by then.
        step_phase: The first phase of this step.
        share_before: The canary's share before this step.
        traffic_since: When the canary first had a share.
            `entered_at` leaves out the time for which it was held.
        paused_at: When it was paused; None while it is not.
        frozen: Why no traffic may move to it now (a freeze window); empty for no such reason.
        held_at: Since when a pause, a freeze or a checkpoint holds it; None while none does.
        paused_s: Seconds for which it was held, without the present hold, since `traffic_since`.
        checkpoint: Where it waits for hooks or a person.
        passed: The checkpoints that it has passed.
        watched: The time in which the old release stays warm is over.
        finish: Conversations that stay on the release that was left, for a while; None when all
            have moved.
        ending: Why it ended, or is on its way back; None while it goes on.
        shadowed: What the pairs of live requests and copies have shown while shadowing.
        readings: What Prometheus said so far.
        early: What the early judge knows, which waits for no judge model (`early`); None where
            there is none, and until it has first looked.
        drill: It is a drill, and can only end with the champion; None for all others.
        met: Who has met the drill.
        suites: What the suites that are run again have shown so far, by their names.
        verdict: The judge's; from the move to promotion on the one that decided it, or without
            steps what the units that are held back say.
    """

    id: str
    service: str
    release: str
    name: str
    champion: str | None
    plan: Plan
    gates: int
    created_at: float
    entered_at: float
    judge: Judge
    gates_only: bool = False
    gates_begun: bool = False
    why: str = ""
    state: State = State.EVALUATING
    step: int = 0
    phase: int = 0
    step_started_at: float = 0.0
    step_requests: int = 0
    step_phase: int = 0
    share_before: float = 0.0
    traffic_since: float | None = None
    paused_at: float | None = None
    paused_s: float = 0.0
    frozen: str = ""
    held_at: float | None = None
    checkpoint: Checkpoint | None = None
    passed: tuple[str, ...] = ()
    watched: bool = False
    finish: Finish | None = None
    ending: Ending | None = None
    verdict: RolloutVerdict | None = None
    gate_verdicts: tuple[GateVerdict, ...] = ()
    reason: str = ""
    shadowed: PairsSeen = PairsSeen()
    history: tuple[Transition, ...] = ()
    readings: Memory = Memory()
    early: Judge | None = None
    drill: Drill | None = None
    met: Met = Met()
    suites: dict[str, SuiteState] = {}

    @property
    def paused(self) -> bool:
        """Whether a person holds steps and promotion."""
        return self.paused_at is not None

    @property
    def is_held(self) -> bool:
        """Whether a pause, a freeze or a checkpoint holds steps, promotion and deadline."""
        return self.paused or bool(self.frozen) or self.checkpoint is not None

    @property
    def promotion(self) -> Transition | None:
        """The move to its promotion; pauses and resumptions are none."""
        moves = (t for t in reversed(self.history) if t.origin is not t.to)
        return next((t for t in moves if t.to is State.PROMOTING), None)

    @property
    def salt(self) -> str:
        """Salt of the assignment in this phase."""
        return hashlib.blake2b(f"{self.id}:{self.phase}".encode(), digest_size=8).hexdigest()


class Facts(msgspec.Struct, frozen=True):
    """What is the case at `now`.

    Attributes:
        gate_verdicts: All gates' verdicts; None while any is missing.
        candidate_ready: Ready replicas that can serve the release.
        candidate_failed: Why its replicas cannot run, if they were given up.
        workers_phase: Phase of the split on which all live gateway workers run; None while they
            differ.
        judge: What the judge knows by now (`judge.observe`); None when nothing is new.
        early: The same of the early judge.
        shadowed: What the pairs have shown so far; None when nothing is new.
        hooks: What became of the hooks at its checkpoint; None while they have not settled.
        frozen: Why no traffic may move to the release now; empty when it may.
        readings: What Prometheus said; None when nothing is new.
        by: Who gave the command.
        why: Why they want it ended.
        awaited: The judge model that is behind with its samples, and why; empty when it is not.
        no_more: Why no more evidence will come, once all that there is has been taken in; empty
            while some may.
        superseded: It is ended because another release takes its place.
        met: Who has met the drill; None when nothing is new.
        suites: What runs of suites have found.
        observed_until: Everything that began before it is known to the judge; None for all.
    """

    now: float
    gate_verdicts: tuple[GateVerdict, ...] | None = None
    candidate_ready: int = 0
    candidate_failed: str | None = None
    workers_phase: int | None = None
    judge: Judge | None = None
    shadowed: PairsSeen | None = None
    command: Command | None = None
    by: str = ""
    why: str = ""
    hooks: HookReport | None = None
    frozen: str = ""
    superseded: bool = False
    observed_until: float | None = None
    no_more: str = ""
    readings: Readings | None = None
    early: Judge | None = None
    awaited: str = ""
    met: Met | None = None
    suites: tuple[SuiteReading, ...] = ()


class Desired(msgspec.Struct, frozen=True):
    """What a rollout wants of the world.

    Attributes:
        share: Probability with which a unit goes to the canary.
        shadow: Digest of the release that gets copies, or None.
        shadow_share: Probability with which a request is copied.
        shadow_timeout_s: A copy is ended after so long.
        candidate_replicas: Replicas of the release under rollout, whatever its role is.
        run_gates: Whether its gates are to be run.
        finish: Conversations that may finish on another release.
        call_hooks: The point at which its hooks are to be called; empty for none.
    """

    share: float = 0.0
    canary: str | None = None
    champion: str | None = None
    phase: int = 0
    salt: str = ""
    candidate_replicas: int = 0
    run_gates: bool = False
    shadow: str | None = None
    shadow_share: float = 0.0
    shadow_timeout_s: float = 0.0
    call_hooks: str = ""
    finish: Finish | None = None


def new_rollout(
    *,
    id: str,
    service: str,
    release: str,
    name: str,
    champion: str | None,
    plan: Plan,
    gates: int,
    now: float,
    gates_only: bool = False,
    why: str = "",
    queued: bool = False,
    drill: Drill | None = None,
) -> Rollout:
    """A rollout at its beginning, or `queued` behind another one."""
    return Rollout(
        id=id,
        service=service,
        release=release,
        name=name,
        champion=champion,
        plan=plan,
        gates=gates,
        gates_only=gates_only,
        why=why,
        created_at=now,
        entered_at=now,
        judge=new_judge(plan),
        state=State.QUEUED if queued else State.EVALUATING,
        reason=_waits(gates, queued=queued),
        drill=drill,
    )


def _waits(gates: int, *, queued: bool) -> str:
    if queued:
        return "another rollout of the service is under way"
    return "its gates are evaluated" if gates else "its replicas are started"
