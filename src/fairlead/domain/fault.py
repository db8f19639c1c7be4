"""A deliberate fault: what a drill's release does to the answers of the champion's engine.

A drill's release is the champion's with a fault. It is in no registry: its digest is made of the
two, so that nobody can ship it, and whoever meets the digest in a record can be told what it was.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.release import sha256_digest

FaultKind = Literal["wrong", "slow", "format", "refusal", "toxic", "error"]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
DELAY_MS_MAX = 600_000.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done to answers. Raises InvalidInput when it makes no sense.

    Attributes:
        kind: `slow` lets answers begin later, `error` puts a server error in their place; the
            others put another text in place of theirs: a wrong answer, broken JSON, a refusal, an
            insult.
        rate: Probability in (0, 1] with which an answer is met.
        delay_ms: How much later a slow one begins, in milliseconds.
    """

    kind: FaultKind
    rate: float = 1.0
    delay_ms: float = 2_000.0

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        check_between("fault.rate", self.rate, 0.0, 1.0, above=True)
        check_between("fault.delay_ms", self.delay_ms, 1.0, DELAY_MS_MAX)

    def digest_of(self, release: str) -> str:
        """The digest of this release with the fault."""
        return sha256_digest(msgspec.json.encode(["drill", release, self], order="sorted"))
