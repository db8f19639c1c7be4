"""A snapshot as the worker uses it: with keys indexed and replicas found. Swapped whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from fairlead.gateway.auth import KeyRing
from fairlead.gateway.fleet import Fleet, Replica
from fairlead.gateway.quota import QuotaBook
from fairlead.gateway.request_id import RequestIds
from fairlead.wire.snapshot import Limits, Snapshot


class Loaded:
    """One snapshot's lifetime."""

    def __init__(
        self,
        snapshot: Snapshot,
        fleet: Fleet,
        environ: Mapping[str, str],
        quotas: QuotaBook | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.keys = KeyRing(snapshot.keys, is_open=snapshot.open)
        self.ids = RequestIds(_id_key(snapshot.request_id_key))
        self.models = {name: _model(name) for name in sorted(snapshot.services)}
        bodies = [service.limits.body_bytes_max for service in snapshot.services.values()]
        # Which service it is for is in the body itself: until then the largest bound holds.
        self.body_bytes_max = max(bodies, default=Limits().body_bytes_max)
        self.quotas = quotas if quotas is not None and not quotas.is_empty else None
        """The limits that are declared; None when there are none."""
        self._pools = fleet.update(snapshot, environ)

    def pool(self, service: str, release: str | None) -> tuple[Replica, ...]:
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
