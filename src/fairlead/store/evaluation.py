"""Results of cases and verdicts of gates: what is kept, and the interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from fairlead.domain.verdicts import GateOutcome

ANSWER_BYTES_MAX = 4096


class CaseResultRow(msgspec.Struct, frozen=True):
    """How one release did on one case by one scorer.

    Attributes:
        score: None when there is an error instead.
        answer: Cut to `ANSWER_BYTES_MAX` bytes of UTF-8 when it is stored.
    """

    release: str
    case_id: str
    scorer: str
    score: float | None
    error: str | None
    answer: str
    latency_ms: float
    at: float


class GateResultRow(msgspec.Struct, frozen=True):
    """A gate's verdict. `id` is given by the store; 0 before that."""

    rollout: str
    release: str
    gate: str
    outcome: GateOutcome
    document: bytes
    at: float
    id: int = 0


class EvaluationStore(Protocol):
    """Results of cases and verdicts of gates."""

    def put_case_results(self, results: Sequence[CaseResultRow]) -> None:
        """Keep them; the newer one replaces an older one of the same release, case, scorer."""
        ...

    def case_results(
        self, release: str, scorer: str, case_ids: Sequence[str] | None = None
    ) -> list[CaseResultRow]:
        """By case id; all of them when no cases are named."""
        ...

    def delete_case_results(self, releases: Sequence[str], scorer_prefix: str) -> None:
        """Delete those of these releases by scorers whose names begin so."""
        ...

    def put_gate_results(self, results: Sequence[GateResultRow]) -> None: ...

    def gate_results(
        self, *, rollout: str | None = None, release: str | None = None, limit: int = 100
    ) -> list[GateResultRow]:
        """In the order in which they were given; the last `limit`."""
        ...
