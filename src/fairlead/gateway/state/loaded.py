"""A snapshot as the worker uses it: with keys indexed and replicas found. Swapped whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from fairlead.gateway.front.auth import KeyRing
from fairlead.gateway.front.door import Door
from fairlead.gateway.front.request_id import RequestIds
from fairlead.gateway.quotas.quota import QuotaBook
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.replicas.routing import (
    assign,
    assign_by_weight,
    finish,
    pinned_arm,
    unit_of,
)
from fairlead.gateway.replicas.strata import Stratify, stratify
from fairlead.gateway.requests.request_body import is_shaping
from fairlead.gateway.state.harm import HarmBudget, HarmBudgets
from fairlead.wire.snapshot import Limits, ServiceRoute, Snapshot

Pool = tuple[Replica, ...]
_Who = tuple[str, bytes | None, str | None]
_UNITS_MAX = 8192
"""Units whose assignment is remembered, of one service: at most some 4 MB."""
_NAME_MAX = 256
"""Characters of a session or user that is remembered."""


class LiveService:
    """One service of the snapshot, with the replicas of its releases at hand.

    Attributes:
        pools: The replicas of each release.
        headers: What an answer of each release says of it.
        prices: What each release costs, of those of which it is known.
        is_usual: Its requests are tried one replica at a time, for as long as they may take, and it
            has no drill and no guardrails.
        choosing: Releases of which it matters which replica has a prompt's beginning cached.
        shaping: Releases that change what is asked: prompt, sampling or the model's name.
        is_guarded: A release of it, or of a fallback, has guardrails.
        stratify: Tells its requests apart by their risk; None where nothing asks for it.
    """

    __slots__ = (
        "_canary",
        "_champion",
        "_finishes_on",
        "_finishing",
        "_harm",
        "_with_canary",
        "_without",
        "choosing",
        "headers",
        "is_guarded",
        "is_usual",
        "pools",
        "prices",
        "route",
        "shaping",
        "stratify",
    )

    def __init__(
        self,
        route: ServiceRoute,
        pools: dict[str, Pool],
        harm: HarmBudget | None = None,
        *,
        is_guarded: bool = False,
        stratify: Stratify | None = None,
    ) -> None:
        self.route = route
        self.stratify = stratify
        self.is_guarded = is_guarded
        self.pools = pools
        self.headers = {digest: release_header(digest) for digest in route.releases}
        self.shaping = frozenset(d for d, release in route.releases.items() if is_shaping(release))
        by_prefix = pools if route.balance == "prefix" else {}
        self.choosing = frozenset(digest for digest, pool in by_prefix.items() if len(pool) > 1)
        priced = {digest: release.price for digest, release in route.releases.items()}
        self.prices = {digest: price for digest, price in priced.items() if price is not None}
        self._champion = pools.get(route.champion or "", ())
        self._canary = pools.get(route.canary or "", ())
        self._with_canary: dict[_Who, Assignment] = {}
        self._without: dict[_Who, Assignment] = {}
        finishing = route.finishing
        self._finishing = frozenset(finishing.units) if finishing else frozenset()
        self._finishes_on = pools.get(finishing.release, ()) if finishing else ()
        limits = route.limits
        has_drill = any(release.fault is not None for release in route.releases.values())
        self._harm = harm
        self.is_usual = (
            limits.attempt_timeout_s is None
            and limits.hedge_after_ms is None
            and not has_drill
            and not is_guarded
        )

    def assign(
        self, key_id: str, session: bytes | None, user: str | None, now: float
    ) -> Assignment | None:
        """The release of a request's unit (see `routing.unit_of` and `routing.assign`).

        While another service stands in for the champion, the arms cannot be compared: then nobody
        is assigned to the canary either.
        """
        route, harm = self.route, self._harm
        if route.weights:
            return assign_by_weight(
                route,
                unit_of(key_id, session, user),
                is_usable=lambda release: any_usable(self.pools.get(release, ()), now),
            )
        if session and self._finishing:
            unit = unit_of(key_id, session, user)
            if unit in self._finishing and any_usable(self._finishes_on, now):
                assert route.finishing is not None
                return finish(route, route.finishing.release, unit)
        has_canary = any_usable(self._canary, now) and (
            not route.fallbacks or any_usable(self._champion, now)
        )
        if harm is not None and harm.left <= 0:
            has_canary = False
        # Units come again, and under one snapshot they are assigned as before.
        known = self._with_canary if has_canary else self._without
        who = (key_id, session, user)
        found = known.get(who)
        if found is None:
            unit = unit_of(key_id, session, user)
            pinned = pinned_arm(route, key_id, session)
            found = assign(route, unit, canary_is_usable=has_canary, pinned=pinned)
            if found is not None and len(session or b"") + len(user or "") <= _NAME_MAX:
                if len(known) >= _UNITS_MAX:
                    known.clear()
                known[who] = found
        if harm is not None and found is not None and found.arm == "canary":
            harm.left -= 1
        return found

    def forget_units(self) -> None:
        """Another snapshot has come: only requests that are open still hold this one."""
        self._with_canary.clear()
        self._without.clear()


def release_header(digest: str) -> bytes:
    """The header line that says which release answered."""
    return b"x-fairlead-release: %b\r\n" % digest.encode()


def any_usable(pool: Pool, now: float) -> bool:
    """Whether one of these replicas is not passed over."""
    for replica in pool:  # noqa: SIM110 - at half the cost, for every request
        if replica.is_usable(now):
            return True
    return False


class Loaded:
    """One snapshot's lifetime."""

    def __init__(
        self,
        snapshot: Snapshot,
        fleet: Fleet,
        environ: Mapping[str, str],
        quotas: QuotaBook | None = None,
        harms: HarmBudgets | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.keys = KeyRing(snapshot.keys, is_open=snapshot.open)
        self.door = Door(snapshot.allow_hosts, snapshot.allow_origins) if snapshot.open else None
        self.ids = RequestIds(_id_key(snapshot.request_id_key))
        self.models = {name: _model(name) for name in sorted(snapshot.services)}
        bodies = [service.limits.body_bytes_max for service in snapshot.services.values()]
        # Which service it is for is in the body itself: until then the largest bound holds.
        self.body_bytes_max = max(bodies, default=Limits().body_bytes_max)
        self.quotas = quotas if quotas is not None and not quotas.is_empty else None
        """The limits that are declared; None when there are none."""
        self._harms = harms or HarmBudgets()
        self._pools = fleet.update(snapshot, environ)
        self.services = {name: self._live(route) for name, route in snapshot.services.items()}

    def _live(self, route: ServiceRoute) -> LiveService:
        harm = None
        if route.harm is not None:
            harm = self._harms.of(route.rollout or "", route.harm)
        pools = {r: self.pool(route.name, r) for r in route.releases}
        told = None if route.strata is None else stratify(route.strata, self.snapshot.keys)
        guarded = self._is_guarded(route)
        return LiveService(route, pools, harm, is_guarded=guarded, stratify=told)

    def _is_guarded(self, route: ServiceRoute) -> bool:
        """Whether a release that may answer its requests has guardrails."""
        services = self.snapshot.services
        fallbacks = (services[name] for name in route.fallbacks if name in services)
        routes = (one for each in (route, *fallbacks) for one in each.releases.values())
        return any(one.guardrails for one in routes)

    def retire(self) -> None:
        """Let go of what only new requests use: a long stream can outlive many of these."""
        for service in self.services.values():
            service.forget_units()

    def pool(self, service: str, release: str | None) -> Pool:
        """The replicas of a release; none when it is not in the snapshot."""
        return self._pools.get((service, release), ()) if release is not None else ()

    def slots_max(self, service: str) -> int:
        """Most slots of one of a service's replicas; 0 when it has none."""
        route = self.snapshot.services.get(service)
        if route is None:
            return 0
        return max((e.slots for r in route.releases.values() for e in r.endpoints), default=0)


def _id_key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return hashlib.blake2b(text.encode()).digest()


def _model(name: str) -> msgspec.Raw:
    model = {"id": name, "object": "model", "created": 0, "owned_by": "fairlead"}
    return msgspec.Raw(msgspec.json.encode(model))
