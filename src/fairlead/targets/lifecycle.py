"""The life of one replica, as data.

`TRANSITIONS` names every change of state; another one raises. Each function below takes a replica
and a fact of the world, with the time, and returns the replica after it. None of them does I/O.

Two counters tell how often it failed. `ends` counts how often its process ended by itself without
`HEALTHY_AFTER_S` of health in between: the first time it is started again at once, then after
0.2 s, doubling up to 30 s. `failed_starts` counts starts in a row that never came to a good probe:
after `FAILED_STARTS_MAX` it has failed, and is tried again every 30 s only. Others are told that it
has failed until a good probe: a start of it promises nothing. Where a provider's key is missing,
the first probe says so: it has failed at once, and every 2 s the key is looked for again.
"""

from __future__ import annotations

import enum

import msgspec

from fairlead.domain.replica import Launch, ReplicaState, ReplicaStatus, Wanted

S = ReplicaState

TRANSITIONS: dict[ReplicaState, frozenset[ReplicaState]] = {
    S.STARTING: frozenset({S.READY, S.UNHEALTHY, S.BACKING_OFF, S.FAILED, S.SURPLUS, S.STOPPING}),
    S.READY: frozenset({S.UNHEALTHY, S.BACKING_OFF, S.SURPLUS, S.STOPPING}),
    S.UNHEALTHY: frozenset({S.READY, S.BACKING_OFF, S.SURPLUS, S.STOPPING}),
    S.SURPLUS: frozenset({S.STARTING, S.READY, S.STOPPING}),
    S.BACKING_OFF: frozenset({S.STARTING}),
    S.STOPPING: frozenset(),
    S.FAILED: frozenset({S.STARTING}),
}

SERVING = frozenset({S.STARTING, S.READY, S.UNHEALTHY})
"""States in which it is probed."""
IDLE = frozenset({S.BACKING_OFF, S.FAILED})
"""States without a process."""

PROBES_TO_UNHEALTHY = 3
PROBES_TO_KILL = 6
FAILED_STARTS_MAX = 5
BACK_OFF_FIRST_S = 0.2
BACK_OFF_MAX_S = 30.0
HEALTHY_AFTER_S = 10.0
LOOK_AGAIN_S = 2.0


class Probe(enum.Enum):
    """What a probe found."""

    GOOD = "good"
    BUSY = "busy"
    """No answer in time or at this rate, but it works on other requests."""
    BAD = "bad"
    HOPELESS = "hopeless"
    """It was not even asked: something is missing here, and waiting brings nothing."""


class Replica(msgspec.Struct, frozen=True):
    """One replica; times are Unix seconds, 0.0 for never.

    Attributes:
        since: When it came into `state`.
        pid: Its process; 0 for none. `identity` tells it from a later process of that number.
        started_at: When its present process was started.
        ready_at: When its present process gave its first good probe.
        restarts: How often it was started again.
        failed_starts: Starts in a row without a good probe, counted up to `FAILED_STARTS_MAX`.
        retry_at: When a replica that backs off or has failed is started again.
        detail: What is wrong, for a person to read.
    """

    id: str
    engine_digest: str
    launch: Launch
    state: ReplicaState
    since: float
    pid: int = 0
    identity: str = ""
    base_url: str = ""
    started_at: float = 0.0
    ready_at: float = 0.0
    restarts: int = 0
    ends: int = 0
    failed_starts: int = 0
    probe_failures: int = 0
    probed_at: float = 0.0
    retry_at: float = 0.0
    detail: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it runs elsewhere: there is no process here."""
        return self.launch.base_url is not None

    @property
    def has_failed(self) -> bool:
        """Whether it failed to start so often that it counts as failed until it is ready."""
        return self.failed_starts >= FAILED_STARTS_MAX

    @property
    def status(self) -> ReplicaStatus:
        """What others are told of it."""
        return ReplicaStatus(
            id=self.id,
            engine_digest=self.engine_digest,
            state=S.FAILED if self.state is S.STARTING and self.has_failed else self.state,
            base_url=self.base_url,
            pid=self.pid,
            slots=self.launch.slots,
            since=self.since,
            restarts=self.restarts,
            detail=self.detail,
        )


class ImpossibleTransition(AssertionError):
    """A change of state that the table does not know."""


def _moved(replica: Replica, state: ReplicaState, now: float) -> Replica:
    if state is replica.state:
        return replica
    if state not in TRANSITIONS[replica.state]:
        raise ImpossibleTransition(f"{replica.id}: {replica.state} -> {state}: {replica}")
    return msgspec.structs.replace(replica, state=state, since=now)


def created(replica_id: str, wanted: Wanted, now: float) -> Replica:
    """A new replica whose start begins now."""
    return Replica(
        id=replica_id,
        engine_digest=wanted.engine_digest,
        launch=wanted.launch,
        state=S.STARTING,
        since=now,
        started_at=now,
        base_url=wanted.launch.base_url or "",
    )


def running(replica: Replica, pid: int, identity: str, now: float) -> Replica:
    """Its process exists."""
    return msgspec.structs.replace(replica, pid=pid, identity=identity, started_at=now)


def listening(replica: Replica, base_url: str) -> Replica:
    """Its process has said where it listens."""
    return msgspec.structs.replace(replica, base_url=base_url, probed_at=0.0)


def probed(replica: Replica, probe: Probe, detail: str, now: float) -> Replica:
    """A probe of its present process has an outcome."""
    replica = msgspec.structs.replace(replica, probed_at=now)
    if replica.state not in SERVING:
        return replica
    if probe is Probe.GOOD:
        fresh = msgspec.structs.replace(
            replica,
            ready_at=replica.ready_at or now,
            probe_failures=0,
            failed_starts=0,
            detail="",
        )
        return _moved(fresh, S.READY, now)
    if probe is Probe.BUSY and replica.state is S.READY:
        return msgspec.structs.replace(replica, probe_failures=0)
    if replica.state is S.STARTING and probe is Probe.HOPELESS and replica.is_remote:
        return _given_up(replica, detail, now)
    if replica.state is S.STARTING:
        waiting = msgspec.structs.replace(replica, detail=detail)
        late = now - replica.started_at > replica.launch.start_timeout_s
        return _moved(waiting, S.UNHEALTHY, now) if late and replica.is_remote else waiting
    failures = replica.probe_failures + (probe in (Probe.BAD, Probe.HOPELESS))
    worse = msgspec.structs.replace(replica, probe_failures=failures, detail=detail)
    return _moved(worse, S.UNHEALTHY, now) if failures >= PROBES_TO_UNHEALTHY else worse


def _given_up(replica: Replica, detail: str, now: float) -> Replica:
    """It has failed at once; whether what is missing has come is looked at soon."""
    failed = msgspec.structs.replace(
        replica, failed_starts=FAILED_STARTS_MAX, retry_at=now + LOOK_AGAIN_S, detail=detail
    )
    return _moved(failed, S.FAILED, now)


def back_off_s(ends: int) -> float:
    """Seconds to wait after so many ends in a row."""
    if ends <= 1:
        return 0.0
    return float(min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2.0 ** min(ends - 2, 32)))


def ended(replica: Replica, detail: str, now: float) -> Replica | None:
    """Its process ended, or could not be started; None when it is not missed."""
    if replica.state in (S.SURPLUS, S.STOPPING):
        return None
    was_healthy = bool(replica.ready_at) and now - replica.ready_at >= HEALTHY_AFTER_S
    ends = 1 if was_healthy else replica.ends + 1
    failed_starts = 0 if replica.ready_at else min(FAILED_STARTS_MAX, replica.failed_starts + 1)
    has_failed = failed_starts >= FAILED_STARTS_MAX
    gone = msgspec.structs.replace(
        replica,
        pid=0,
        identity="",
        base_url="",
        ready_at=0.0,
        ends=ends,
        failed_starts=failed_starts,
        probe_failures=0,
        probed_at=0.0,
        retry_at=now + (BACK_OFF_MAX_S if has_failed else back_off_s(ends)),
        detail=detail,
    )
    return _moved(gone, S.FAILED if has_failed else S.BACKING_OFF, now)


def started_again(replica: Replica, now: float) -> Replica:
    """A start after an end begins now. What went wrong before stays in `detail`."""
    again = msgspec.structs.replace(replica, restarts=replica.restarts + 1, started_at=now)
    return _moved(again, S.STARTING, now)


def unwanted(replica: Replica, now: float) -> Replica:
    """It is wanted no more, and runs on until nobody uses it."""
    return _moved(replica, S.SURPLUS, now)


def taken_back(replica: Replica, now: float) -> Replica:
    """It is wanted again; one that was still starting has its whole start time again."""
    if replica.ready_at:
        return _moved(replica, S.READY, now)
    return _moved(msgspec.structs.replace(replica, started_at=now), S.STARTING, now)


def stopping(replica: Replica, now: float) -> Replica:
    """It is being stopped."""
    return _moved(replica, S.STOPPING, now)


def adopted(replica: Replica, now: float) -> Replica:
    """Another control process left it running. It is probed at once."""
    fresh = msgspec.structs.replace(replica, probed_at=0.0, probe_failures=0)
    return taken_back(fresh, now) if replica.state is S.SURPLUS else fresh
