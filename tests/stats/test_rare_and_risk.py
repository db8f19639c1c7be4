"""An absolute budget for what must hardly ever happen, and strata of risk."""

import json
import math
import random

import pytest

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.rae import BinaryRae
from fairlead.stats.rare import BudgetRae, RareRae
from fairlead.stats.risk import RiskRae

STRATA = (0.01, 0.08, 0.3)
MIX = (0.6, 0.3, 0.1)


def rare() -> RareRae:
    return RareRae(
        BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.001, prior_units=2_000),
        BudgetRae(limit=0.002, alpha=0.01),
    )


def risk() -> RiskRae:
    return RiskRae(alpha=0.01, prior_rates=STRATA, prior_units=2_000)


def test_a_budget_is_fair_at_its_limit_and_says_nothing_of_the_champion() -> None:
    """Mean factor 1 at the limit, below it less; the champion's units change nothing."""
    test = BudgetRae(limit=0.002, alpha=0.01)
    for made in test._table(0.1).bets:
        assert made.factor(True, 0.002) == pytest.approx(1.0)
        assert made.factor(True, 0.001) < 1.0
        assert (made.champion_bad, made.champion_good) == (1.0, 1.0)
    for _ in range(120):
        test.update(False, 0.1, 1.0)
    assert test.log_e == pytest.approx(0.0, abs=1e-12)


def test_a_budget_is_found_broken_sooner_than_the_comparison_shows_it() -> None:
    """At half of the traffic, 0.05 % against 1 %: half the requests, the average of both."""
    alone, both = 0, 0
    for seed in range(10):
        dice = random.Random(seed)
        comparison = BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.0005, prior_units=2_000)
        test = RareRae(
            BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.0005, prior_units=2_000),
            BudgetRae(limit=0.001, alpha=0.01),
        )
        while comparison.log_e < math.log(100):
            canary = dice.random() < 0.5
            y = float(dice.random() < (0.01 if canary else 0.0005))
            both += test.log_e_max < math.log(100)
            test.update(canary, 0.5, y)
            comparison.update(canary, 0.5, y)
            alone += 1
    assert both < 0.8 * alone


def test_rare_resumes_and_forecasts() -> None:
    test, again = rare(), rare()
    for k in range(130):
        test.update(k % 2 == 0, 0.5, float(k % 40 == 0))
    again.restore(json.loads(json.dumps(test.state())))
    assert again.state() == test.state()
    assert (again.log_e, again.units) == (test.log_e, 130)
    assert test.expected_more(0.05, 0.001, 0.5, 1_000) is not None
    with pytest.raises(ValueError, match="limit"):
        BudgetRae(limit=0.6, alpha=0.01)


def requests(dice: random.Random, odds: float = 1.0) -> tuple[bool, float, int]:
    stratum = dice.choices((0, 1, 2), MIX)[0]
    canary = dice.random() < 0.3
    p = STRATA[stratum]
    p = odds * p / (1 - p + odds * p) if canary else p
    return canary, float(dice.random() < p), stratum


def test_risk_strata_need_fewer_requests() -> None:
    """Odds of failing doubled: at most nine tenths of what it takes without the strata."""
    blind, sighted = 0, 0
    for seed in range(30):
        dice = random.Random(seed)
        with_risk = risk()
        mean = sum(p * share for p, share in zip(STRATA, MIX, strict=True))
        without = BinaryRae(tol=0.0, alpha=0.01, prior_rate=mean, prior_units=2_000)
        while min(with_risk.log_e_max, without.log_e_max) < math.log(100):
            canary, y, stratum = requests(dice, 2.0)
            blind += without.log_e_max < math.log(100)
            sighted += with_risk.log_e_max < math.log(100)
            without.update(canary, 0.3, y)
            with_risk.update(canary, 0.3, y, stratum)
    assert sighted < 0.95 * blind


def test_risk_keeps_alpha_while_the_mix_drifts() -> None:
    wrong = 0
    for seed in range(60):
        dice, test = random.Random(seed), risk()
        for k in range(800):
            stratum = dice.choices((0, 1, 2), (MIX, MIX[::-1])[k > 400])[0]
            canary = dice.random() < 0.2
            test.update(canary, 0.2, float(dice.random() < STRATA[stratum]), stratum)
            if test.log_e >= math.log(20):
                wrong += 1
                break
    assert clopper_pearson(wrong, 60, 0.98)[0] <= 0.05


def test_risk_resumes_and_refuses() -> None:
    dice = random.Random(1)
    taken = [requests(dice) for _ in range(300)]
    whole, part = risk(), risk()
    for number, (canary, y, stratum) in enumerate(taken):
        if number == 130:
            kept = json.loads(json.dumps(part.state()))
            part = risk()
            part.restore(kept)
        whole.update(canary, 0.3, y, stratum)
        part.update(canary, 0.3, y, stratum)
    assert part.state() == whole.state()
    with pytest.raises(ValueError, match="stratum 3"):
        part.update(True, 0.3, 1.0, 3)
    with pytest.raises(ValueError, match="prior_rates"):
        RiskRae(alpha=0.01, prior_rates=())
