"""What a few cases can say: a gate on new cases, alone or in its suite, does not fail or pass a
release by chance. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.domain.verdicts import NEW_CASES_MIN, GateOutcome, GateVerdict
from fairlead.evaluation.gates import GateRule, decide_gate
from fairlead.evaluation.runner import CaseResult
from fairlead.stats.intervals import clopper_pearson


def decide_few(rule: GateRule, results: Sequence[CaseResult]) -> GateVerdict:
    """Decide a gate with a minimum and no comparison, on cases whose scores are 0 or 1.

    It fails where even the upper end of the share's interval, cases without a score taken for
    right, is below the minimum. It passes where the share itself is not, on `NEW_CASES_MIN` cases.
    """
    verdict = decide_gate(rule, results, None)
    assert rule.minimum is not None
    if verdict.outcome is GateOutcome.FAIL:
        right = sum(1 if result.score is None else round(result.score) for result in results)
        _, upper = clopper_pearson(right, len(results), rule.confidence)
        if upper >= rule.minimum:
            return _undecided(verdict, "so few cases can say so by chance")
    elif verdict.outcome is GateOutcome.PASS and len(results) < NEW_CASES_MIN:
        return _undecided(verdict, f"to pass takes {NEW_CASES_MIN} cases")
    return verdict


def _undecided(verdict: GateVerdict, why: str) -> GateVerdict:
    return msgspec.structs.replace(
        verdict, outcome=GateOutcome.INCONCLUSIVE, reason=f"{verdict.reason}; {why}"
    )
