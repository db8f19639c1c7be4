"""What a burning budget says to people."""

from __future__ import annotations

import pytest

from fairlead.monitoring.burning import Bucket, Severity, assess
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.promising import conditions_of


def test_the_condition_names_the_promise_and_its_numbers() -> None:
    buckets = [Bucket(60.0 * i, 10, 1) for i in range(1, 61)]
    objective = Objective(ObjectiveKind.TTFT, 0.995, 500.0)
    assessed = assess(objective, buckets, 3_600.0)
    found, ticket = conditions_of("bank", assessed)
    assert (ticket.severity, dict(ticket.labels)["burn"]) == (Severity.TICKET, "slow")
    assert (found.severity, found.monitor) == (Severity.PAGE, "slo")
    assert found.summary == (
        "bank: 10% of 600 requests had a late first token in 1 h: ttft burns its error budget 20 "
        "times as fast as 99.5% of requests: first token within 500 ms allows"
    )
    assert [figure.words for figure in found.evidence[:4]] == [
        "burn rate over 1 h: 20 (limit 14.4)", "burn rate over 5 min: 20 (limit 14.4)",
        "requests in that time: 600", "of them bad: 60",
    ]  # fmt: skip
    assert dict(found.labels) == {
        "monitor": "slo", "service": "bank", "slo": "ttft", "burn": "fast",
    }  # fmt: skip


def test_for_cost_it_says_what_was_spent() -> None:
    objective = Objective(ObjectiveKind.COST, threshold=0.01)
    buckets = [Bucket(60.0 * i, 10, 0.5) for i in range(1, 61)]
    found, *_ = conditions_of("bank", assess(objective, buckets, 3_600.0))
    assert found.summary.startswith("bank: 600 requests cost 0.05 USD on average in 1 h: cost")
    assert "spent on them: 30 USD" in [figure.words for figure in found.evidence]


@pytest.mark.parametrize("kind", [kind for kind in ObjectiveKind if kind is not ObjectiveKind.COST])
def test_the_share_and_of_how_many_come_first(kind: ObjectiveKind) -> None:
    objective = Objective(kind, 0.95, 500.0)
    buckets = [Bucket(60.0 * i, 200, 166) for i in range(1, 61)]
    found, *_ = conditions_of("bank", assess(objective, buckets, 3_600.0))
    assert found.summary.startswith("bank: 83% of 12,000 ")
    assert "requests in that time: 12,000" in [figure.words for figure in found.evidence]


def test_while_nothing_burns_there_is_none() -> None:
    objective = Objective(ObjectiveKind.AVAILABILITY, 0.995)
    assert conditions_of("bank", assess(objective, [Bucket(60.0, 100, 0)], 60.0)) == ()
