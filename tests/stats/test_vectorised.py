"""The benchmark's arrays of rollouts do to each rollout what the judge does."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from fairlead.stats.rae import BinaryRae, NonInferiorityRae  # noqa: E402
from fairlead.stats.rare import BudgetRae  # noqa: E402
from fairlead.stats.slower import BINS, NotSlowerRae, SlowerRae  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.rollout.vector import Blocks, ValueBlocks  # noqa: E402

PRIORS = (0.02, 0.1, 0.3)
Maker = Callable[[float], BinaryRae | NonInferiorityRae]

MAKERS: dict[str, Maker] = {
    "roll back": lambda p: BinaryRae(tol=0.0, alpha=0.01, prior_rate=p, prior_units=500),
    "tolerance": lambda p: BinaryRae(tol=0.02, alpha=0.01, prior_rate=p, prior_units=500),
    "promote": lambda p: NonInferiorityRae(margin=0.03, prior_rate=p, prior_units=500),
    "budget": lambda p: BudgetRae(limit=0.1, alpha=0.01),
}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_many_rollouts_at_once_are_the_same_as_one_by_one(kind: str) -> None:
    """7,000 requests in blocks of 50 through a ramp: the same evidence after each, restarts too."""
    make = MAKERS[kind]
    single = [make(prior) for prior in PRIORS]
    many = Blocks(make(0.1), np.array(PRIORS), 500)
    dice = random.Random(4)
    for block in range(140):
        rho = 0.1 if block < 70 else 0.5
        canary = sum(dice.random() < rho for _ in range(50))
        counts = np.array(
            [
                [bad := sum(dice.random() < 0.12 for _ in range(canary)), canary - bad,
                 other := sum(dice.random() < 0.1 for _ in range(50 - canary)),
                 50 - canary - other]
                for _ in PRIORS
            ]
        ).T  # fmt: skip
        many.update(rho, list(counts))
        for k, one in enumerate(single):
            one.update_counts(rho, canary, counts[0, k], 50 - canary, counts[2, k])
        assert many.log_e == pytest.approx([one.log_e for one in single], abs=1e-7)
    assert many.log_e_max == pytest.approx([one.log_e_max for one in single], abs=1e-7)


def test_outcomes_between_0_and_1_are_the_same_too() -> None:
    """Units with a share of failures, one by one in both."""
    single = [MAKERS["roll back"](prior) for prior in PRIORS]
    many = Blocks(MAKERS["roll back"](0.1), np.array(PRIORS), 500)
    dice = np.random.default_rng(5)
    for number in range(450):
        canary, y = dice.random(3) < 0.3, np.round(dice.random(3) * 4) / 4
        many.update_units(0.3, canary, y, number % 50 == 49)
        for k, one in enumerate(single):
            one.update(bool(canary[k]), 0.3, float(y[k]))
    assert many.log_e == pytest.approx([one.log_e for one in single], abs=1e-7)


@pytest.mark.parametrize("kind", [SlowerRae, NotSlowerRae])
def test_values_of_many_rollouts_are_the_same_as_of_one(
    kind: type[SlowerRae] | type[NotSlowerRae],
) -> None:
    """With tables from two histories; before the table is made anew."""
    dice = np.random.default_rng(6)
    histories = [np.exp(0.8 * dice.standard_normal(2_000)).tolist() for _ in range(2)]

    def make(history: list[float]) -> SlowerRae | NotSlowerRae:
        return (
            SlowerRae(history=history)
            if kind is SlowerRae
            else NotSlowerRae(margin=0.1, history=history)
        )

    single = [make(history) for history in histories]
    many = ValueBlocks(make([]), histories)
    scale = 1.0 if kind is SlowerRae else 1.1
    for _ in range(130):
        arms = dice.random(50) < 0.2
        values = np.exp(0.8 * dice.standard_normal(50)) * np.where(arms, 1.05, 1.0)
        binned = np.zeros((2, 2, BINS), dtype=np.int64)
        for k, one in enumerate(single):
            for canary, value in zip(arms.tolist(), values.tolist(), strict=True):
                one.update(canary, 0.2, value)
                place = int(np.searchsorted(many.edges[k], value / scale if canary else value))
                binned[int(canary), k, place] += 1
        many.update(0.2, binned[1], binned[0])
        assert many.log_e == pytest.approx([one.log_e for one in single], abs=1e-7)
    assert single[0].units > 6_000
