"""The releases that services need: known from the registry, or why they could not be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from fairlead.control.judging.asking import Seat
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.evaluations import Contender
from fairlead.control.world.fleet import PASSING, Fleet
from fairlead.control.world.routing import ready_of
from fairlead.control.world.wants import KnownRelease
from fairlead.domain.errors import FairleadError, NotFound
from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaStatus

ASK_S = 60.0
"""Seconds that one answer to an evaluation may take."""
LOOK_AGAIN_S = 2.0
"""Seconds until a release that could not be read is looked for again."""
_log = logging.getLogger(__name__)


class Catalogue:
    """Releases by digest. One that cannot be read is missing for its services only.

    Args:
        now: Unix time in seconds.

    Attributes:
        known: The releases that were read.
    """

    def __init__(self, fleet: Fleet, now: Callable[[], float]) -> None:
        self._fleet = fleet
        self._now = now
        self.known: dict[str, KnownRelease] = {}
        self._unread: dict[str, FairleadError] = {}
        """Why a release that is needed could not be read, by its digest."""
        self._unread_at = 0.0

    def trouble_of(self, digest: str | None) -> FairleadError | None:
        """Why the release could not be read, if that is so."""
        return None if digest is None else self._unread.get(digest)

    async def know(self, digest: str, name: str) -> None:
        """Know a release; raises NotFound or Damaged."""
        self.known[digest] = await self._fleet.know(digest, name)
        self._unread.pop(digest, None)

    async def learn(self, digest: str, name: str) -> None:
        """Know a release that is in use already, as soon as it can be read."""
        try:
            await self.know(digest, name)
        except FairleadError as error:
            before, told = self._unread.get(digest), _unreadable(digest, name, error)
            self._unread[digest] = told
            if before is None or before.message != told.message:
                _log.error("%s", told.one_line)

    async def look_again(self, needed: Mapping[str, str]) -> None:
        """Whether the releases that could not be read have been built again.

        Args:
            needed: Names of the releases that services need, by digest; others are forgotten.
        """
        if not self._unread or 0.0 <= self._now() - self._unread_at < LOOK_AGAIN_S:
            return
        self._unread_at = self._now()
        for digest in list(self._unread):
            if digest in needed:
                await self.learn(digest, needed[digest])
            else:
                del self._unread[digest]

    def candidate(self, digest: str) -> tuple[int, str | None]:
        """How many replicas of the release are ready, and why none can run, if that is so.

        One that could not be read for a while is waited for.
        """
        unread = self._unread.get(digest)
        if unread is not None:
            return 0, None if isinstance(unread, PASSING) else unread.one_line
        release = self.release(digest).release
        return len(ready_of(release, self._fleet.replicas())), self._fleet.failure_of(release)

    def release(self, digest: str) -> KnownRelease:
        """A release that was read; raises what kept it from being read."""
        known = self.known.get(digest)
        if known is None:
            raise self._unread.get(digest) or NotFound(f"release {digest} was never read")
        return known

    def seat(self, digest: str) -> Seat:
        """Where the release is asked as a judge; raises Unavailable while no replica is ready."""
        release = self.release(digest).release
        return Seat.of_release(
            release, [r.base_url for r in ready_of(release, self._fleet.replicas())]
        )

    def replicas(self, digest: str) -> list[ReplicaStatus]:
        """The ready replicas that serve a release; none of one that is not known."""
        known = self.known.get(digest)
        return [] if known is None else ready_of(known.release, self._fleet.replicas())

    def contender(self, digest: str) -> Contender:
        """The release as one to ask."""
        return Contender(digest, self.client(digest))

    def client(self, digest: str, timeout_s: float = ASK_S) -> ReplicaClient:
        """Asks the release's ready replicas, each for so long."""
        release = self.release(digest).release
        return ReplicaClient(
            release,
            lambda: [r.base_url for r in ready_of(release, self._fleet.replicas())],
            timeout_s=timeout_s,
        )


def _unreadable(digest: str, name: str, error: FairleadError) -> FairleadError:
    """The same kind of error, with what to do about it."""
    if isinstance(error, PASSING):
        return error
    return type(error)(
        f"release {name} {short(digest)} cannot be read: {error.message}",
        hint="build it again with its manifest (`fairlead release build`); it is looked for every "
        f"{LOOK_AGAIN_S:g} s",
    )
