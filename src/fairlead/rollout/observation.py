"""One live request, as the judge sees it."""

from __future__ import annotations

import msgspec

from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.outcomes import CLIENT_ERRORS, GIVEN_UP


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """One request under a split, with how it was assigned and what became of it.

    Attributes:
        unit: The unit by which it was assigned.
        canary: Whether the unit was assigned to the canary.
        rho: Probability of that assignment, as logged when it was made.
        failed_by_error: The server failed it (status 500 and above, or an error of ours); what the
            client caused (4xx, leaving early) is no failure.
        started_at: Unix time in seconds.
        feedback: (name, value, time) of each feedback on it.
        status, stream, ttft_ms, itl_ms, duration_ms, prompt_tokens, completion_tokens, cost_usd,
        refused, malformed, guardrail_hits, stratum: As `fairlead.wire.record.RequestRecord` has
            them; -1 for not known.
    """

    id: str
    unit: str
    canary: bool
    rho: float
    phase: int
    failed_by_error: bool
    started_at: float
    feedback: tuple[tuple[str, float, float], ...] = ()
    status: int = 200
    stream: bool = False
    ttft_ms: float = -1.0
    itl_ms: float = -1.0
    duration_ms: float = -1.0
    prompt_tokens: int = -1
    completion_tokens: int = -1
    cost_usd: float = -1.0
    refused: int = -1
    malformed: int = -1
    guardrail_hits: int = -1
    stratum: int = -1

    @property
    def left(self) -> bool:
        """Whether its client left before it had an outcome."""
        return not self.failed_by_error and self.status == GIVEN_UP

    @property
    def answered(self) -> bool:
        """Whether its client has the answer that the release gave."""
        return not self.failed_by_error and self.status < CLIENT_ERRORS

    @property
    def sampled(self) -> bool:
        """Whether a judge model was to grade it."""
        return any(said in (JUDGED, UNJUDGED) for said, _, _ in self.feedback)

    def said(self, name: str, until: float) -> float | None:
        """The last feedback of this name up to a time; None if nobody said anything."""
        given = [(at, value) for said, value, at in self.feedback if said == name and at <= until]
        return max(given)[1] if given else None
