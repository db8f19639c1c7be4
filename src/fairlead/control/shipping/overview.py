"""What services and their rollouts are now, as control has them in memory. Nothing here acts."""

from __future__ import annotations

from fairlead.control.judging.asking import Seat
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.keeping import Keeping
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.troubles import Troubles
from fairlead.control.shipping.unreadable import Unreadable
from fairlead.control.views import GateProgress
from fairlead.control.world.wants import KnownRelease, ServiceWant, readable, want_of
from fairlead.domain.errors import FairleadError, Unavailable
from fairlead.domain.release import RemoteModel
from fairlead.store.rows import ServiceRow


class Overview:
    """All services with their rollouts, to be looked at by whoever does nothing to them."""

    def __init__(
        self,
        kept: Keeping,
        catalogue: Catalogue,
        evaluations: Evaluations,
        unreadable: Unreadable,
        troubles: Troubles,
    ) -> None:
        self._kept = kept
        self._catalogue = catalogue
        self._evaluations = evaluations
        self._unreadable = unreadable
        self._troubles = troubles

    def services(self) -> list[tuple[ServiceRow, ServiceSpec]]:
        """All services with the specs by which they run."""
        return [(row, self._kept.specs[name]) for name, row in self._kept.services.items()]

    def running(self, service: str) -> Running | None:
        """The service's active rollout."""
        return self._kept.running.get(service)

    def active(self) -> list[Running]:
        """All rollouts under way."""
        return list(self._kept.running.values())

    def champions(self) -> list[ServiceSpec]:
        """By which specs the services run that have a champion."""
        rows = self._kept.services.values()
        return [self._kept.specs[row.name] for row in rows if row.champion is not None]

    def wants(self) -> list[ServiceWant]:
        """What each service wants now."""
        known = self._catalogue.known
        return [
            readable(
                want_of(row, self._kept.specs[row.name], self._kept.running.get(row.name), known)
            )
            for row in self._kept.services.values()
        ]

    def trouble_of(self, service: str) -> FairleadError | None:
        """What keeps the service from being served, or its rollout from going on."""
        row, running = self._kept.services.get(service), self._kept.running.get(service)
        needed = [row.champion if row else None, running.rollout.release if running else None]
        unread = (self._catalogue.trouble_of(digest) for digest in needed)
        found = next((e for e in unread if e is not None), self._troubles.of(service))
        return found or self._unreadable.trouble_of(service)

    def gate_progress(self, rollout: str) -> list[GateProgress]:
        """How far its gates are; empty when none runs."""
        return self._evaluations.progress(rollout)

    def known(self, release: str) -> KnownRelease | None:
        """A release by its digest; None while it is not known."""
        return self._catalogue.known.get(release)

    def is_remote(self, release: str) -> bool:
        """Whether its model is a provider's; False while it is not known."""
        known = self.known(release)
        return known is not None and isinstance(known.release.model, RemoteModel)

    def ready(self, release: str) -> int:
        """Ready replicas of a release; 0 while it is not known."""
        return self._catalogue.candidate(release)[0] if release in self._catalogue.known else 0

    def client(self, release: str, timeout_s: float) -> ReplicaClient:
        """How a release is asked; raises what keeps it from being read."""
        return self._catalogue.client(release, timeout_s)

    def seat_of(self, service: str) -> Seat:
        """Where a service's champion is asked; raises Unavailable."""
        row = self._kept.services.get(service)
        if row is None or row.champion not in self._catalogue.known:
            raise Unavailable(f"the judge's service {service} has no champion")
        return self._catalogue.seat(row.champion)
