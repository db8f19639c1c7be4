"""Who answers a request: assignment to champion or canary, and the choice of a replica. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from fairlead.gateway.replicas.assignment import Arm, Assignment
from fairlead.wire.snapshot import ServiceRoute

CONTINUING = "continuing "
"""Beginning of the name of a lane in which the rest of broken streams waits for its release."""


def unit_of(key_id: str, session: bytes | None, user: str | None) -> str:
    """The sticky unit of a request as 16 hex digits: its session, else its user, else its key.

    Sessions and users are the client's own names, so they are told apart by API key.
    """
    if session:
        kind, name = b"session", session
    elif user:
        kind, name = b"user", user.encode(errors="surrogatepass")
    else:
        kind, name = b"key", b""
    text = b"%b\0%b\0%b" % (kind, key_id.encode(), name)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def is_canary_unit(salt: str, unit: str, share: float) -> bool:
    """Whether the unit's salted hash, as a number in [0, 1), is below the canary's share."""
    if share <= 0.0:
        return False
    # Compared as integers: as a float the largest hashes would round up to 1.
    return _point(salt, unit) < share * 2.0**64


def _point(salt: str, unit: str) -> int:
    digest = hashlib.blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def pinned_arm(service: ServiceRoute, key_id: str, session: bytes | None) -> Arm | None:
    """The arm to which this request is pinned; None for nearly all."""
    for pin in service.pins:
        if key_id in pin.keys:
            return pin.arm
        if session and any(session.startswith(name.encode()) for name in pin.sessions):
            return pin.arm
    return None


def assign(
    service: ServiceRoute, unit: str, *, canary_is_usable: bool, pinned: Arm | None = None
) -> Assignment | None:
    """The release that this unit belongs to now; None while the service has no champion.

    With fallbacks there is an assignment to no release then: one of those answers meanwhile.

    While no replica of the canary is usable, every unit goes to the champion with certainty
    (rho 0), so that a gap between two lives of a replica is not taken for the release's quality.
    Whether it is usable is known before the unit is looked at, so the odds that are logged are
    those of the assignment. What was assigned before the replica failed stays with the canary.

    What is pinned goes to its arm with certainty (rho 1 or 0), so that no judge counts it.
    """
    if service.champion is None and not service.fallbacks:
        return None
    arm: Arm = "champion"
    release = service.champion or ""
    share = 0.0
    if canary_is_usable and service.champion is not None and service.canary is not None:
        share = service.canary_share
        if pinned is not None:
            share = 1.0 if pinned == "canary" else 0.0
        if is_canary_unit(service.salt, unit, share):
            arm, release = "canary", service.canary
    rollout = service.rollout
    if rollout is None:
        return Assignment(arm, release, unit, share, "", 0, service.facts)
    return Assignment(arm, release, unit, share, rollout, service.phase, service.facts)


def finish(service: ServiceRoute, release: str, unit: str) -> Assignment:
    """To the release on which this session finishes, with certainty: no judge counts it."""
    arm: Arm = "champion" if release == service.champion else "canary"
    rollout = service.rollout
    return Assignment(
        arm=arm,
        release=release,
        unit=unit,
        rho=0.0 if arm == "champion" else 1.0,
        rollout=rollout or "",
        phase=0 if rollout is None else service.phase,
    )


def assign_by_weight(
    service: ServiceRoute, unit: str, *, is_usable: Callable[[str], bool]
) -> Assignment | None:
    """The same for a service with `weights`: one of several releases, by cumulative weight.

    As with a canary, what belongs to a release without a usable replica goes to the champion. The
    others keep their units, so that nobody is moved who need not be.
    """
    if service.champion is None:
        return None
    point = _point(service.salt, unit)
    edge, rest = 0.0, 1.0
    release, rho = "", 0.0
    is_found = False
    for digest, share in service.weights[1:]:
        edge += share
        takes = is_usable(digest)
        if takes:
            rest -= share
        if not is_found and point < edge * 2.0**64:
            is_found = True
            if takes:
                release, rho = digest, share
    return Assignment(
        arm="canary" if release else "champion",
        release=release or service.champion,
        unit=unit,
        rho=rho if release else rest,
        rollout=service.rollout or "",
        phase=service.phase if service.rollout is not None else 0,
    )


class Candidate(Protocol):
    """What the choice of a replica needs to know of it."""

    @property
    def in_flight(self) -> int:
        """Requests it serves now."""

    @property
    def slots(self) -> int:
        """Requests it serves at the same time at most."""

    def is_usable(self, now: float) -> bool:
        """Whether it is not passed over because it failed."""


C = TypeVar("C", bound=Candidate)


def least_loaded(candidates: Sequence[C], turn: int) -> C | None:
    """The candidate with the smallest share of its slots in use; None when all are full.

    Equal ones take turns: `turn` is any number that grows from call to call.
    """
    count = len(candidates)
    if count == 1:
        only = candidates[0]
        return only if only.in_flight < only.slots else None
    best: C | None = None
    best_load = 1.0
    for step in range(count):
        candidate = candidates[(turn + step) % count]
        load = candidate.in_flight / candidate.slots
        if load < best_load:
            best, best_load = candidate, load
    return best


Picker = Callable[[Sequence[C], int], C | None]
"""Chooses among usable candidates; None when all are full."""


def choose(
    assigned: Sequence[C],
    fallback: Sequence[C],
    tried: Collection[C],
    now: float,
    turn: int,
    pick: Picker[C] = least_loaded,
) -> C | None:
    """The replica for the next attempt, or None to wait.

    In this order: replicas of the assigned release that were not tried yet; those of the fallback
    (the champion, for a canary that cannot serve); those that were tried but are usable again.
    A group with a usable replica is waited for when it is busy, never passed over.
    """
    if not tried:
        if len(assigned) == 1 and assigned[0].is_usable(now):
            return pick(assigned, turn)
        usable = [c for c in assigned if c.is_usable(now)]
        if usable:
            return pick(usable, turn)
        return pick([c for c in fallback if c.is_usable(now)], turn)
    return _choose_again(assigned, fallback, tried, now, turn)


def untried(candidates: Sequence[C], tried: Collection[C], now: float) -> Sequence[C]:
    """Those that are usable and were not tried yet."""
    return [c for c in candidates if c not in tried and c.is_usable(now)]


def _choose_again(
    assigned: Sequence[C],
    fallback: Sequence[C],
    tried: Collection[C],
    now: float,
    turn: int,
) -> C | None:
    usable = [c for c in assigned if c.is_usable(now)]
    fresh = [c for c in usable if c not in tried]
    if fresh:
        return least_loaded(fresh, turn)
    spare = [c for c in fallback if c.is_usable(now)]
    fresh = [c for c in spare if c not in tried]
    return least_loaded(fresh or usable or spare, turn)
