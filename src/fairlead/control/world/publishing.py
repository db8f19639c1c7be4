"""Gives the gateway a new snapshot whenever what it should say has changed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fairlead.control.limits.keys import Keys
from fairlead.control.world.hub import SnapshotHub
from fairlead.control.world.routing import service_route
from fairlead.control.world.wants import ServiceWant, usable_replicas
from fairlead.domain.replica import ReplicaStatus
from fairlead.store.keys import KeyStore
from fairlead.wire.snapshot import Pin, ServiceRoute, Snapshot

SETTLE_S_MAX = 5.0
COUNTER = "snapshot"


class Publisher:
    """Builds snapshots; versions grow across restarts of control.

    They grow above all that a worker has reported, too: the store may have been restored from an
    earlier time, and a worker takes no version but a higher one.

    Just after a start the replicas have not been probed yet. A snapshot without them would take
    good routes from the gateway, which still runs on the last one: so the first is held back
    until each champion has a ready replica, or for `SETTLE_S_MAX` seconds.
    """

    def __init__(
        self, store: KeyStore, hub: SnapshotHub, keys: Keys, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._hub = hub
        self._keys = keys
        self._monotonic = monotonic
        self._begun_at = 0.0
        self._request_id_key = ""

    def begin(self) -> None:
        """Note the moment of the start."""
        self._begun_at = self._monotonic()

    async def publish(
        self, wants: Sequence[ServiceWant], replicas: Sequence[ReplicaStatus]
    ) -> None:
        """Publish if anything but the version differs from the present snapshot.

        Also if a worker runs on a later version than the present one.
        """
        keys, tenants = await self._keys.entries()
        ids: dict[str, list[str]] = {}
        for key in keys:
            ids.setdefault(key.name, []).append(key.id)
        names = {want.spec.service for want in wants}
        services = {
            want.spec.service: service_route(
                self._as_told(want, ids), usable_replicas(want, replicas), names
            )
            for want in wants
        }
        present = self._hub.snapshot
        if present is None and not self._may_begin(services):
            return
        if not self._request_id_key:
            self._request_id_key = await asyncio.to_thread(
                self._store.setdefault_setting, "request_id_key", secrets.token_hex(32)
            )
        wanted = Snapshot(
            version=0 if present is None else present.version,
            request_id_key=self._request_id_key,
            keys=keys,
            services=services,
            tenants=tenants,
            workers=self._hub.worker_count,
        )
        if wanted != present or present.version < self._hub.highest_reported:
            version = await asyncio.to_thread(self._next_version, self._hub.highest_reported)
            self._hub.publish(msgspec.structs.replace(wanted, version=version))

    def _next_version(self, above: int) -> int:
        version = self._store.next_number(COUNTER)
        if version <= above:
            self._store.set_setting(COUNTER, str(above))
            version = self._store.next_number(COUNTER)
        return version

    def _as_told(self, want: ServiceWant, ids: Mapping[str, Sequence[str]]) -> ServiceWant:
        """With keys by their ids, and what one worker may assign to a drill."""
        harm = None if want.harm is None else want.harm // self._hub.worker_count
        return msgspec.structs.replace(want, pins=_by_ids(want.pins, ids), harm=harm)

    def _may_begin(self, services: dict[str, ServiceRoute]) -> bool:
        if self._monotonic() - self._begun_at >= SETTLE_S_MAX:
            return True
        return all(
            service.champion is None or service.releases[service.champion].endpoints
            for service in services.values()
        )


def _by_ids(pins: tuple[Pin, ...], ids: Mapping[str, Sequence[str]]) -> tuple[Pin, ...]:
    """The pins with the ids of the keys that they name; a name that no key has pins nobody."""
    return tuple(
        msgspec.structs.replace(pin, keys=tuple(i for name in pin.keys for i in ids.get(name, ())))
        for pin in pins
    )
