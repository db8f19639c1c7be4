"""The replicas of champions: down, missing, flapping; and what happens to replicas, as events.

What a target says of a replica is a level: its state, since when, how often it was started again.
What this watch adds is memory: since when a replica has not been ready, and when it dropped (its
process ended, or it stopped answering). Drops are events, so that another control finds them again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fairlead.control.world.wants import ServiceWant
from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, Labels, labels_of
from fairlead.store.rows import EventRow

SERVICE_DOWN, REPLICA_DOWN, FLAPPING = "service_down", "replica_down", "replica_flapping"
STARTED, READY, DROPPED, GONE = (
    "replica_started", "replica_ready", "replica_dropped", "replica_gone",
)  # fmt: skip
"""Kinds of events."""

SERVICE_DOWN_S = 15.0
"""A replica that is started again at once is back by then; so is the next look."""
FLAPS_MAX = 3
FLAPS_WITHIN_S = 600.0
FLAPS_KEPT_MAX = 100
EVENTS_EVERY_S = 60.0
"""An event of one kind of one replica is told so often; what happens meanwhile is counted."""
EVENTS_AT_ONCE_MAX = 50
START_S = 60.0
"""What a start may take where a target does not say."""
DETAIL_MAX = 300
S = ReplicaState
_WITHOUT_PROCESS = (S.BACKING_OFF, S.FAILED)
_UNWANTED = (S.SURPLUS, S.STOPPING)
Places = dict[str, list[tuple[str, str]]]
"""By engine digest: the services and releases that it serves."""


class _Life:
    """What is remembered of one replica."""

    def __init__(self, status: ReplicaStatus) -> None:
        self.status = status
        self.ends = _ends(status)
        self.unready_since: float | None = None if status.state is S.READY else status.since
        self.drops: deque[float] = deque(maxlen=FLAPS_KEPT_MAX)
        self.untold = 0
        self.told_at: dict[str, float] = {}


class ReplicaWatch:
    """Remembers the replicas from look to look."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._past: dict[str, list[float]] = {}
        self._missing_since: dict[str, float] = {}
        self._has_looked = False

    def recall(self, events: Iterable[EventRow]) -> None:
        """Know the drops that an earlier control has told of."""
        for event in events:
            if event.kind != DROPPED:
                continue
            try:
                data = json.loads(event.data)
                replica, times = str(data["replica"]), int(data["times"])
            except (ValueError, KeyError, TypeError):
                continue
            kept = self._past.setdefault(replica, [])
            # One event for each service that the replica serves.
            if event.at not in kept:
                kept += [event.at] * min(max(times, 1), FLAPS_KEPT_MAX)

    def look(
        self, wants: Sequence[ServiceWant], replicas: Sequence[ReplicaStatus], now: float
    ) -> list[EventRow]:
        """Take in how the replicas are now; what has happened since the last look."""
        places = _places(wants)
        events: list[EventRow] = []
        for status in replicas:
            life = self._lives.get(status.id)
            if life is None:
                life = self._lives[status.id] = _Life(status)
                life.drops.extend(self._past.pop(status.id, ()))
                if self._has_looked:
                    events += _told(life, STARTED, "starts", places, now)
                continue
            events += self._follow(life, status, places, now)
        there = {status.id for status in replicas}
        for key in [key for key in self._lives if key not in there]:
            life = self._lives.pop(key)
            if life.status.state not in _UNWANTED:
                events += _told(life, GONE, "is gone", places, now)
        self._past.clear()
        self._has_looked = True
        return events[:EVENTS_AT_ONCE_MAX]

    def _follow(
        self, life: _Life, status: ReplicaStatus, places: Places, now: float
    ) -> Iterator[EventRow]:
        before, life.status = life.status, status
        ended = max(0, _ends(status) - life.ends)
        life.ends = max(life.ends, _ends(status))
        stopped = before.state is S.READY and status.state is S.UNHEALTHY
        drops = min(ended + stopped, FLAPS_KEPT_MAX)
        life.drops.extend([now] * drops)
        life.untold += drops
        if status.state is S.READY:
            if life.unready_since is not None:
                after_s = max(0.0, now - life.unready_since)
                yield from _told(life, READY, f"is ready after {after_s:,.0f} s", places, now)
            life.unready_since = None
        elif life.unready_since is None:
            life.unready_since = status.since
        if life.untold and _is_due(life, DROPPED, now):
            times = "" if life.untold == 1 else f" {life.untold} times"
            what = "ended" if ended or not stopped else "does not answer"
            detail = _first_line(status.detail)
            yield from _told(
                life, DROPPED, f"{what}{times}{': ' if detail else ''}{detail}", places, now
            )
            life.untold = 0

    def conditions(
        self,
        wants: Sequence[ServiceWant],
        now: float,
        start_s: dict[str, float] | None = None,
        said: dict[str, str] | None = None,
    ) -> list[Condition]:
        """What is wrong with the champions' replicas.

        Args:
            start_s: Seconds that a start may take, by engine digest.
            said: What the replicas of a release say that are not ready, by its digest.
        """
        found: list[Condition] = []
        engines = set()
        for want in wants:
            champion = want.desired.champion
            known = None if champion is None else want.known.get(champion)
            if champion is None or known is None or not want.replicas.get(champion):
                continue
            engine = known.release.engine_digest
            engines.add(engine)
            mine = [
                life
                for life in self._lives.values()
                if life.status.engine_digest == engine and life.status.state not in _UNWANTED
            ]
            why = (said or {}).get(champion, "")[:DETAIL_MAX]
            wanted = want.replicas[champion]
            found += _service_down(want, champion, wanted, mine, why)
            limit_s = (start_s or {}).get(engine, START_S)
            found += self._missing(want, champion, wanted - len(mine), limit_s, why, now)
            for life in mine:
                found += _replica_down(want, champion, life, limit_s, now)
                found += _flapping(want, champion, life, now)
        for gone in set(self._missing_since) - {want.spec.service for want in wants}:
            del self._missing_since[gone]
        return found

    def _missing(
        self, want: ServiceWant, champion: str, count: int, limit_s: float, why: str, now: float
    ) -> Iterator[Condition]:
        """Replicas that nobody has even begun to start."""
        service = want.spec.service
        if count <= 0:
            self._missing_since.pop(service, None)
            return
        since = self._missing_since.setdefault(service, now)
        if now - since >= limit_s:
            yield _condition(
                REPLICA_DOWN,
                labels_of(service=service, release=champion),
                Severity.TICKET,
                f"{count} of its replicas are wanted and not started{': ' if why else ''}{why}",
                (Figure("missing for", now - since, "s", limit_s),),
            )


def _service_down(
    want: ServiceWant, champion: str, wanted: int, mine: Sequence[_Life], why: str
) -> Iterator[Condition]:
    if any(life.status.state is S.READY for life in mine):
        return
    answers = "; its fallbacks are asked" if want.spec.fallbacks else ""
    yield _condition(
        SERVICE_DOWN,
        labels_of(service=want.spec.service, release=champion),
        Severity.PAGE,
        f"no replica of release {short(champion)} is ready{answers}{': ' if why else ''}{why}",
        (Figure("replicas ready", 0.0, "", float(wanted)),),
        pending_s=SERVICE_DOWN_S,
        keep_s=60.0,
    )


def _replica_down(
    want: ServiceWant, champion: str, life: _Life, limit_s: float, now: float
) -> Iterator[Condition]:
    status = life.status
    if status.state is S.READY or life.unready_since is None:
        return
    down_s = max(0.0, now - life.unready_since)
    if status.state is not S.FAILED and down_s < limit_s:
        return
    detail = _first_line(status.detail)
    yield _condition(
        REPLICA_DOWN,
        labels_of(service=want.spec.service, release=champion, replica=status.id),
        Severity.TICKET,
        f"replica {status.id} is {status.state.value}{': ' if detail else ''}{detail}",
        (Figure("not ready for", down_s, "s", limit_s), _restarts(status)),
    )


def _flapping(want: ServiceWant, champion: str, life: _Life, now: float) -> Iterator[Condition]:
    times = sum(0.0 <= now - at < FLAPS_WITHIN_S for at in life.drops)
    if times < FLAPS_MAX:
        return
    minutes = f"{FLAPS_WITHIN_S / 60:.0f} minutes"
    yield _condition(
        FLAPPING,
        labels_of(service=want.spec.service, release=champion, replica=life.status.id),
        Severity.TICKET,
        f"replica {life.status.id} ended or stopped answering {times} times in {minutes}",
        (Figure(f"drops in {minutes}", times, "", FLAPS_MAX), _restarts(life.status)),
    )


def _condition(
    monitor: str,
    labels: Labels,
    severity: Severity,
    said: str,
    evidence: tuple[Figure, ...],
    *,
    pending_s: float = 0.0,
    keep_s: float = 300.0,
) -> Condition:
    of = dict(labels)
    return Condition(
        labels=labels_of(monitor=monitor, **of),
        severity=severity,
        summary=f"{of['service']}: {said}",
        evidence=evidence,
        pending_s=pending_s,
        keep_s=keep_s,
    )


def _restarts(status: ReplicaStatus) -> Figure:
    return Figure("restarts", float(status.restarts))


def _ends(status: ReplicaStatus) -> int:
    """How often its process has ended by itself, as far as that can be seen."""
    return status.restarts + (status.state in _WITHOUT_PROCESS)


def _places(wants: Iterable[ServiceWant]) -> Places:
    found: Places = {}
    for want in wants:
        for digest in want.replicas:
            if digest in want.known:
                engine = want.known[digest].release.engine_digest
                found.setdefault(engine, []).append((want.spec.service, digest))
    return found


def _is_due(life: _Life, kind: str, now: float) -> bool:
    told_at = life.told_at.get(kind)
    return told_at is None or not 0.0 <= now - told_at < EVENTS_EVERY_S


def _told(life: _Life, kind: str, what: str, places: Places, now: float) -> Iterator[EventRow]:
    """An event for each service that the replica serves, unless one was told just now."""
    if not _is_due(life, kind, now):
        return
    life.told_at[kind] = now
    status = life.status
    for service, release in places.get(status.engine_digest, [("", "")]):
        data = {"replica": status.id, "release": release, "times": max(1, life.untold)}
        message = f"replica {status.id} {what}"[:1_000]
        yield EventRow(now, kind, message, service=service, data=msgspec.json.encode(data))


def _first_line(detail: str) -> str:
    lines = detail.strip().splitlines()
    return lines[0].strip()[:DETAIL_MAX] if lines else ""
