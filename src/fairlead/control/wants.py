"""What a service wants at one moment: the link between its rollout and the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlead.control.routing import KnownRelease
from fairlead.control.spec import ServiceSpec
from fairlead.domain.quota import Price
from fairlead.rollout.machine import Desired


class ServiceWant(msgspec.Struct, frozen=True):
    """One service's desired state.

    Attributes:
        spec: The spec of the release that is champion, by which the service runs.
        rollout: Id of its active rollout.
        known: The releases that `desired` speaks of.
        replicas: Ready replicas wanted, by release digest.
        prices: What the releases cost, where that is known.
    """

    spec: ServiceSpec
    desired: Desired
    rollout: str | None
    known: Mapping[str, KnownRelease]
    replicas: Mapping[str, int]
    prices: Mapping[str, Price] = {}


def engine_counts(wants: Sequence[ServiceWant]) -> dict[str, tuple[str, int]]:
    """By engine digest: a release that has it, and how many replicas are wanted.

    Releases with the same engine digest share replicas, so the largest wish counts.
    """
    counts: dict[str, tuple[str, int]] = {}
    for want in wants:
        for digest, count in want.replicas.items():
            engine = want.known[digest].release.engine_digest
            release, before = counts.get(engine, (digest, 0))
            if count > 0:
                counts[engine] = (release, max(before, count))
    return counts
