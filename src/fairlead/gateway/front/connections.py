"""Who is connected to a worker, and who has to go when there are too many. No I/O.

A connection on which no API key was shown yet is a stranger's. When one more does not fit, the
oldest stranger goes, not the newcomer: a flood of silent connections then pushes itself out, while
an honest client shows its key long before its turn comes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from fairlead.gateway import limits

C = TypeVar("C")
K = TypeVar("K", bound="Checked")
_CHECKED_AT_ONCE = 250
_CHECK_EVERY_S = 0.005
"""So often, so many connections are looked at in a sweep: all that there may be in 0.2 s."""
_V6_SITE_BYTES = 8
"""An IPv6 client can choose its address freely within its /64, so that is what is counted."""


class Connections(Generic[C]):
    """All client connections of a worker, in order of arrival."""

    def __init__(self) -> None:
        self._sites: dict[C, str] = {}
        self._strangers: dict[C, None] = {}
        self._strangers_of: dict[str, dict[C, None]] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[C]:
        """A copy, so that they may leave meanwhile."""
        return iter(list(self._sites))

    def enter(self, connection: C, address: str) -> C | None:
        """One more; returns who has to go for it (itself, when all others are known)."""
        site = site_of(address)
        strangers = self._strangers_of.setdefault(site, {})
        leaver: C | None = None
        if self._counts.get(site, 0) >= limits.CONNECTIONS_PER_ADDRESS_MAX:
            leaver = next(iter(strangers), connection)
        elif len(self._sites) >= limits.CONNECTIONS_MAX:
            leaver = next(iter(self._strangers), connection)
        self._sites[connection] = site
        self._counts[site] = self._counts.get(site, 0) + 1
        self._strangers[connection] = strangers[connection] = None
        if leaver is not None:
            self.known(leaver)  # It is on its way out: not to be asked to go twice.
        return leaver

    def known(self, connection: C) -> None:
        """It has shown a valid key: it stays."""
        self._strangers.pop(connection, None)
        site = self._sites.get(connection, "")
        strangers = self._strangers_of.get(site)
        if strangers is not None:
            strangers.pop(connection, None)

    def leave(self, connection: C) -> None:
        """It is closed."""
        self.known(connection)
        site = self._sites.pop(connection, None)
        if site is None:
            return
        self._counts[site] -= 1
        if not self._counts[site]:
            del self._counts[site]
            self._strangers_of.pop(site, None)


class Checked(Protocol):
    """A connection that is looked at from time to time."""

    def check(self, now: float) -> None:
        """Close it, if it is silent for too long."""


class Rounds(Generic[K]):
    """Looks at all connections, some at a time: events of streams wait meanwhile."""

    def __init__(
        self,
        connections: Connections[K],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        now: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._call_later = call_later
        self._now = now
        self._unchecked: list[K] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look at all that there are now, unless the last round is not over."""
        if not self._unchecked:
            self._unchecked = list(self._connections)
            self._check_some()

    def close(self) -> None:
        """Look at no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check_some(self) -> None:
        if len(self._unchecked) > _CHECKED_AT_ONCE:
            self._timer = self._call_later(_CHECK_EVERY_S, self._check_some)
        now = self._now()
        checked = self._unchecked[-_CHECKED_AT_ONCE:]
        del self._unchecked[-_CHECKED_AT_ONCE:]
        for connection in checked:
            connection.check(now)


def site_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:_V6_SITE_BYTES].hex()
