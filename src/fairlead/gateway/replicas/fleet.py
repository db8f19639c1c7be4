"""The replicas as this worker knows them: load, health, open connections. Outlives snapshots."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping

from fairlead.domain.outbound import parse_proxy
from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import (
    EJECTION_S_MAX,
    EJECTION_S_MIN,
    OUTLIER_EJECTION_S_MAX,
    OUTLIER_EJECTION_S_MIN,
    PROBE_S,
    UPSTREAM_IDLE_S,
)
from fairlead.gateway.replicas.addressing import Address, beginning_of, parse_base_url
from fairlead.gateway.replicas.dialing import Dialer
from fairlead.gateway.replicas.outliers import RecentAttempts, is_outlier, may_eject
from fairlead.gateway.replicas.provider_keys import authorization_of
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.wire.snapshot import Endpoint, Snapshot

PLAIN_KINDS = ("chat/completions", "completions", "embeddings")
"""What is asked in one way of all replicas; other APIs have credentials of their own form."""
_log = logging.getLogger("fairlead.gateway")


class Replica:
    """One replica under one address.

    A failure ejects it for a time that doubles with each further one. So does a share of failures
    far above that of its pools' other replicas, for longer, and whatever succeeds meanwhile. When
    that time is over it is half open: one request at a time, until one is answered (or connected,
    if refused connections were the failure), but not longer than `PROBE_S` for each.

    Attributes:
        beginnings: What plain requests of each kind begin with.
        closed_until: When an ejection ends, or a probe no longer holds up others.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        clock: Clock,
        dialer: Dialer | None = None,
    ) -> None:
        self.id = endpoint.replica
        self.address = address
        self.dialer = dialer or Dialer(address)
        self.slots = max(1, endpoint.slots)
        self.authorize("")
        self.in_flight = 0
        self.is_retired = False
        self._clock = clock
        self._idle: list[UpstreamConnection] = []
        self.pools: tuple[tuple[Replica, ...], ...] = ()
        self.recent = RecentAttempts()
        self._failures = 0
        self._failed_to_connect = False
        self._ejected_until = 0.0
        self._is_half_open = False
        self._outlier_ejections = 0
        self._outlier_until = 0.0
        self.closed_until = 0.0

    def authorize(self, authorization: str) -> None:
        """Send this with requests from now on."""
        self.authorization = authorization
        self.beginnings = {
            kind: beginning_of(
                self.address,
                f"{self.address.prefix}/{kind}",
                authorization=authorization,
                accept="application/json",
            )
            for kind in PLAIN_KINDS
        }

    def is_usable(self, now: float) -> bool:
        """Whether it may get a request (it may still be full)."""
        return now >= self.closed_until

    @property
    def ejected_until(self) -> float:
        """When its present ejection ends, in monotonic seconds."""
        return self._ejected_until

    @property
    def is_ejected(self) -> bool:
        """Whether it is passed over now."""
        return self._clock.now() < self._ejected_until

    @property
    def counts(self) -> tuple[int, int]:
        """Attempts on it in the last seconds, and how many of them failed."""
        return self.recent.counts

    def take_slot(self) -> None:
        """A request begins."""
        self.in_flight += 1
        if self._is_half_open:
            self.closed_until = self._clock.now() + PROBE_S

    def free_slot(self) -> None:
        """A request is over, however it ended."""
        self.in_flight -= 1
        if self._is_half_open and not self.in_flight:
            self.closed_until = self._ejected_until  # Nobody is probing.

    def note_connected(self) -> bool:
        """It accepted a connection; True when that was what had failed."""
        return self._failed_to_connect and self._recover()

    def note_success(self) -> bool:
        """It answered; True when it had failed before."""
        self.recent.succeeded += 1
        return self._is_half_open and self._recover()

    def note_alive(self) -> bool:
        """It answered that it will not serve this request; True when it had failed before."""
        return self._is_half_open and self._recover()

    def note_refusal(self) -> None:
        """It would not serve a request that another one has served."""
        if self.is_ejected:
            return  # The request was on its way.
        self.recent.note_failure()
        if self._is_far_worse():
            self._is_half_open = True
            self._eject_outlier(self._clock.now())

    def note_failure(self, *, to_connect: bool = False) -> None:
        """It refused, cut, or said that it cannot serve."""
        now = self._clock.now()
        self.close_idle()
        self.recent.note_failure()
        self._failed_to_connect = to_connect
        self._is_half_open = True
        if self._is_far_worse():
            self._eject_outlier(now)
        if self._failures and now < self._ejected_until:
            return  # Requests that fail together, with one cause, count once.
        self._failures += 1
        growth = min(self._failures - 1, 16)
        self._eject(now + min(EJECTION_S_MAX, EJECTION_S_MIN * 2**growth))

    def _recover(self) -> bool:
        """It is well again, unless it is left alone whatever succeeds."""
        if self._clock.now() < self._outlier_until:
            return False
        self._failures = 0
        self._failed_to_connect = False
        self._is_half_open = False
        self._ejected_until = 0.0
        self.closed_until = 0.0
        return True

    def _is_far_worse(self) -> bool:
        others = {peer for pool in self.pools for peer in pool if peer is not self}
        return is_outlier(self.counts, (peer.counts for peer in others)) and all(
            may_eject([peer for peer in pool if peer is not self]) for pool in self.pools
        )

    def _eject_outlier(self, now: float) -> None:
        if now - self._outlier_until > OUTLIER_EJECTION_S_MAX:
            self._outlier_ejections = 0
        longest = OUTLIER_EJECTION_S_MIN * 2 ** min(self._outlier_ejections, 16)
        self._outlier_ejections += 1
        self._failures = max(1, self._failures)
        self.recent.forget()
        self._outlier_until = now + min(OUTLIER_EJECTION_S_MAX, longest)
        self._eject(self._outlier_until)

    def _eject(self, until: float) -> None:
        self._ejected_until = self.closed_until = until

    def take_idle(self, now: float) -> UpstreamConnection | None:
        """An open connection that was used a short while ago, or None."""
        oldest = now - UPSTREAM_IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a new connection; raises OSError."""
        return await self.dialer.connect(lambda: UpstreamConnection(self._freed, self._closed))

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    def _freed(self, connection: UpstreamConnection) -> None:
        if self.is_retired or len(self._idle) >= self.slots:
            connection.abort()
            return
        connection.idle_since = self._clock.now()
        self._idle.append(connection)

    def _closed(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class Fleet:
    """All replicas of the present snapshot, and older ones that still have requests open.

    Args:
        on_room: Called when a slot or a replica may have become available.
        on_drained: Called when a replica that is no longer in the snapshot has no request left.
    """

    def __init__(
        self, clock: Clock, *, on_room: Callable[[], None], on_drained: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._on_room = on_room
        self._on_drained = on_drained
        self._replicas: dict[Endpoint, Replica] = {}
        self._retired: set[Replica] = set()
        self._tls: dict[tuple[str | None, int], ssl.SSLContext] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0

    def update(
        self, snapshot: Snapshot, environ: Mapping[str, str]
    ) -> dict[tuple[str, str], tuple[Replica, ...]]:
        """Take on a snapshot's replicas; returns those of each (service, release digest)."""
        wanted: dict[Endpoint, Replica] = {}
        pools: dict[tuple[str, str], tuple[Replica, ...]] = {}
        for service in snapshot.services.values():
            for digest, route in service.releases.items():
                pool = []
                for endpoint in route.endpoints:
                    replica = wanted.get(endpoint) or self._replica(endpoint, environ)
                    if replica is not None:
                        wanted[endpoint] = replica
                        pool.append(replica)
                pools[service.name, digest] = tuple(pool)
        for replica in wanted.values():
            replica.pools = tuple(pool for pool in pools.values() if replica in pool)
        for endpoint, replica in self._replicas.items():
            if endpoint not in wanted:
                self._retire(replica)
        self._replicas = wanted
        return pools

    @property
    def open_replicas(self) -> tuple[str, ...]:
        """Ids of the replicas on which requests are open."""
        ids = {r.id for r in (*self._replicas.values(), *self._retired) if r.in_flight}
        return tuple(sorted(ids))

    @property
    def is_draining(self) -> bool:
        """Whether a replica that is no longer in the snapshot has requests open."""
        return bool(self._retired)

    def free_slot(self, replica: Replica) -> None:
        """A request on this replica is over."""
        replica.free_slot()
        if self._retired and replica in self._retired and replica.in_flight == 0:
            self._retired.discard(replica)
            self._on_drained()
        self._on_room()

    def note_connected(self, replica: Replica) -> None:
        """A connection to the replica was accepted."""
        if replica.note_connected():
            self._on_room()

    def note_success(self, replica: Replica) -> None:
        """The replica answered a request."""
        if replica.note_success():
            self._on_room()

    def note_alive(self, replica: Replica) -> None:
        """The replica answered that it will not serve this request."""
        if replica.note_alive():
            self._on_room()

    def note_refusal(self, replica: Replica) -> None:
        """Others serve what it will not: pass it over, if that comes far more often than theirs."""
        replica.note_refusal()
        if replica.is_ejected:
            self._wake_after(replica)

    def note_failure(self, replica: Replica, *, to_connect: bool = False) -> None:
        """Pass the replica over for a while, and look again when that has gone by."""
        replica.note_failure(to_connect=to_connect)
        self._wake_after(replica)

    def check(self, now: float) -> None:
        """A few times a second: forget what came of attempts too long ago."""
        for replica in self._replicas.values():
            replica.recent.pass_to(now)

    def close(self) -> None:
        """Close all idle connections."""
        if self._wake is not None:
            self._wake.cancel()
        for replica in self._replicas.values():
            replica.close_idle()

    def _wake_after(self, replica: Replica) -> None:
        at = replica.ejected_until
        if self._wake is None or at < self._wake_at:
            self._wake_in(at)

    def _wake_in(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = at
        delay = max(0.0, at - self._clock.now())
        self._wake = asyncio.get_running_loop().call_later(delay, self._ejection_over)

    def _ejection_over(self) -> None:
        self._wake = None
        now = self._clock.now()
        later = [r.ejected_until for r in self._replicas.values() if r.ejected_until > now]
        if later:
            self._wake_in(min(later))
        self._on_room()

    def _replica(self, endpoint: Endpoint, environ: Mapping[str, str]) -> Replica | None:
        replica = self._replicas.get(endpoint)
        try:
            if replica is None:
                link_local = endpoint.outbound.link_local
                address = parse_base_url(endpoint.base_url, link_local=link_local)
                replica = Replica(endpoint, address, self._clock)
            replica.dialer = self._dialer(replica.address, endpoint, environ)
        except (ValueError, OSError) as error:
            _log.warning("replica %s is left out: %s", endpoint.replica, error)
            return None
        replica.authorize(authorization_of(endpoint, environ))
        return replica

    def _dialer(self, address: Address, endpoint: Endpoint, environ: Mapping[str, str]) -> Dialer:
        """Raises ValueError or OSError when there is no such way: a bad proxy, no certificates."""
        outbound = endpoint.outbound
        proxy = None if outbound.proxy is None else parse_proxy(outbound.proxy)
        credentials = ""
        if proxy is not None and outbound.proxy_auth_env is not None:
            credentials = environ.get(outbound.proxy_auth_env, "")
            if not credentials:
                _log.warning("replica %s: no credentials for its proxy", endpoint.replica)
        return Dialer(
            address=address,
            tls=self._client_tls(outbound.ca_file) if address.is_tls else None,
            outbound=outbound,
            proxy=proxy,
            proxy_tls=self._client_tls(None) if proxy is not None and proxy.is_tls else None,
            credentials=credentials,
        )

    def _client_tls(self, ca_file: str | None) -> ssl.SSLContext:
        """Made once for each file as it is: reading certificates takes milliseconds."""
        changed_at = 0 if ca_file is None else os.stat(ca_file).st_mtime_ns
        known = self._tls.get((ca_file, changed_at))
        if known is None:
            known = ssl.create_default_context(cafile=ca_file)
            self._tls = {key: tls for key, tls in self._tls.items() if key[0] != ca_file}
            self._tls[ca_file, changed_at] = known
        return known

    def _retire(self, replica: Replica) -> None:
        replica.is_retired = True
        replica.pools = ()
        replica.close_idle()
        if replica.in_flight:
            self._retired.add(replica)
