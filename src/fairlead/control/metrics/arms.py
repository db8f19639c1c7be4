"""Which releases a service uses now, and what for."""

from __future__ import annotations

from fairlead.control.world.wants import KnownRelease, ServiceWant


def arms_of(want: ServiceWant) -> dict[str, tuple[str, float]]:
    """By digest: its arm, and the share of users that it answers."""
    split = want.desired
    share = split.share if split.canary is not None else 0.0
    found = [
        (split.shadow, "shadow", 0.0),
        (split.canary, "canary", share),
        (split.champion, "champion", 1.0 - share),
    ]
    return {digest: (arm, part) for digest, arm, part in found if digest is not None}


def used_by(want: ServiceWant) -> dict[str, KnownRelease]:
    """By digest: those that have an arm, or replicas, as one has that is evaluated."""
    digests = {*arms_of(want), *want.replicas}
    return {digest: want.known[digest] for digest in sorted(digests) if digest in want.known}
