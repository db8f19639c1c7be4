"""Decides what to do about the replicas. Facts and the time go in, instructions come out.

`match` compares what is wanted with what there is; `restarts` brings back what has ended and is
wanted; `upkeep` looks after each replica by itself. A start or restart needs a wish that allows it
now: only who wishes knows whether the weights are sound. All look at levels only: asked again
before an instruction was carried out, they give it again, and after a crash they come to the same
answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fairlead.domain.replica import ReplicaState, Wanted
from fairlead.targets.lifecycle import IDLE, PROBES_TO_KILL, SERVING, Replica

S = ReplicaState

PROBE_STARTING_S = 0.1
PROBE_SERVING_S = 2.0


@dataclass(frozen=True)
class StartReplica:
    """Start one more replica of this engine digest."""

    wanted: Wanted


@dataclass(frozen=True)
class RestartReplica:
    """Start a replica again that has ended."""

    id: str


@dataclass(frozen=True)
class ProbeReplica:
    """Ask a replica for a real answer."""

    id: str


@dataclass(frozen=True)
class KillReplica:
    """End the process of a replica that does not answer; it is started again after."""

    id: str
    reason: str


@dataclass(frozen=True)
class MarkSurplus:
    """The replica is wanted no more."""

    id: str


@dataclass(frozen=True)
class TakeBack:
    """A surplus replica is wanted again."""

    id: str


@dataclass(frozen=True)
class StopReplica:
    """Stop a replica that nobody uses."""

    id: str


@dataclass(frozen=True)
class ForgetReplica:
    """Drop a replica that has no process and is wanted no more."""

    id: str


Instruction = (
    StartReplica
    | RestartReplica
    | ProbeReplica
    | KillReplica
    | MarkSurplus
    | TakeBack
    | StopReplica
    | ForgetReplica
)


def plan(
    wanted: Sequence[Wanted], replicas: Sequence[Replica], stoppable: Collection[str], now: float
) -> list[Instruction]:
    """All that is to be done now; `stoppable` are the ids of replicas that nobody uses."""
    changes = match(wanted, replicas, stoppable)
    dropped = {step.id for step in changes if isinstance(step, MarkSurplus | ForgetReplica)}
    kept = [r for r in replicas if r.id not in dropped]
    return [*changes, *restarts(wanted, kept, now), *upkeep(kept, now)]


def match(
    wanted: Sequence[Wanted], replicas: Sequence[Replica], stoppable: Collection[str]
) -> list[Instruction]:
    """Start what is missing, take back or let go, and stop what nobody uses."""
    wishes: dict[str, Wanted] = {}
    for wish in wanted:
        known = wishes.get(wish.engine_digest)
        if known is None or wish.count > known.count:
            wishes[wish.engine_digest] = wish
    steps: list[Instruction] = []
    for digest in sorted({*wishes, *(r.engine_digest for r in replicas)}):
        mine = [r for r in replicas if r.engine_digest == digest]
        steps += _match_one(wishes.get(digest), mine, stoppable)
    return steps


def _match_one(
    wish: Wanted | None, replicas: Sequence[Replica], stoppable: Collection[str]
) -> list[Instruction]:
    count = wish.count if wish else 0
    kept = [r for r in replicas if r.state in SERVING or r.state in IDLE]
    surplus = [r for r in replicas if r.state is S.SURPLUS]
    missing = max(0, count - len(kept))
    back = sorted(surplus, key=_worth, reverse=True)[:missing]
    leaving = sorted(kept, key=_worth)[: max(0, len(kept) - count)]
    steps: list[Instruction] = [TakeBack(r.id) for r in back]
    if wish is not None and wish.start:
        steps += [StartReplica(wish)] * (missing - len(back))
    for replica in leaving:
        idle = replica.state in IDLE
        steps.append(ForgetReplica(replica.id) if idle else MarkSurplus(replica.id))
    taken = {r.id for r in back}
    steps += [StopReplica(r.id) for r in surplus if r.id in stoppable and r.id not in taken]
    return steps


def _worth(replica: Replica) -> tuple[int, float, str]:
    """What serves is worth more than what starts, that more than what failed; then the older."""
    if replica.state in IDLE:
        rank = 0
    elif not replica.ready_at:
        rank = 1
    else:
        rank = 2 if replica.state is S.UNHEALTHY else 3
    return (rank, -replica.started_at, replica.id)


def restarts(
    wanted: Sequence[Wanted], replicas: Sequence[Replica], now: float
) -> list[Instruction]:
    """Restarts that are due, of replicas whose engine is wanted and may be started."""
    allowed = {wish.engine_digest for wish in wanted if wish.count and wish.start}
    return [
        RestartReplica(replica.id)
        for replica in replicas
        if replica.state in IDLE
        and replica.engine_digest in allowed
        and _passed(now, replica.since, replica.retry_at - replica.since)
    ]


def upkeep(replicas: Sequence[Replica], now: float) -> list[Instruction]:
    """Probes and kills that are due, and stops that are under way; nothing is started."""
    return [step for replica in replicas if (step := _upkeep_one(replica, now)) is not None]


def _upkeep_one(replica: Replica, now: float) -> Instruction | None:
    if replica.state is S.STOPPING:
        return StopReplica(replica.id)
    if replica.state not in SERVING:
        return None
    if replica.pid:
        if replica.probe_failures >= PROBES_TO_KILL:
            return KillReplica(replica.id, f"{replica.probe_failures} probes in a row failed")
        limit = replica.launch.start_timeout_s
        if replica.state is S.STARTING and _passed(now, replica.started_at, limit):
            return KillReplica(replica.id, f"no good probe within {limit:g} s of its start")
    period = PROBE_STARTING_S if replica.state is S.STARTING else PROBE_SERVING_S
    if replica.base_url and _passed(now, replica.probed_at, period):
        return ProbeReplica(replica.id)
    return None


def _passed(now: float, since: float, seconds: float) -> bool:
    """Whether the time is over; also when the clock was set back, so that nothing waits for it."""
    return not 0.0 <= now - since < seconds
