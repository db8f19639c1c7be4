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
    with pytest.raises(ValueError, match="stratum_units"):
        RiskRae(alpha=0.01, prior_rates=STRATA, stratum_units=0.0)


def test_no_bet_on_a_stratum_gains_while_the_canary_is_no_worse_by_the_tolerance() -> None:
    """Mean factor at most 1 along the border of the null, in each stratum and at each share."""
    test = RiskRae(alpha=0.01, prior_rates=STRATA, tol=0.03)
    for rho in (0.05, 0.5):
        for stratum in range(3):
            for made in test.table(rho, stratum).bets:
                for champion in (0.0, 0.01, 0.08, 0.3, 0.9):
                    assert made.mean(rho, champion + 0.03, champion) <= 1.0 + 1e-12
                    assert made.mean(rho, champion, champion) <= 1.0 + 1e-12


def test_rates_that_nobody_knew_beforehand_are_learned() -> None:
    """With one expected rate for all strata, the champion's units show each stratum's own."""
    dice = random.Random(3)
    test = RiskRae(alpha=0.01, prior_rates=[0.05] * 4, prior_units=100, stratum_units=20)
    for _ in range(3_000):
        canary, y, stratum = requests(dice)
        test.update(canary, 0.3, y, stratum)
    for rate, told in zip(STRATA, test.rates, strict=False):
        assert told == pytest.approx(rate, rel=0.4)
    mean = sum(p * share for p, share in zip(STRATA, MIX, strict=True))
    assert test.rates[3] == pytest.approx(mean, rel=0.2), "of nobody's stratum: that of all"


def test_a_canary_that_is_worse_in_one_stratum_alone_is_found_though_it_is_better_elsewhere() -> (
    None
):
    """On the whole it fails no more often than the champion: without strata nothing is wrong."""
    found = 0
    for seed in range(5):
        dice = random.Random(seed)
        test = RiskRae(alpha=0.01, prior_rates=[0.05] * 8, stratum_units=20)
        blind = BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.05)
        for _ in range(6_000):
            stratum = dice.choices((0, 1, 2), MIX)[0]
            canary = dice.random() < 0.3
            y = float(dice.random() < ((0.05, 0.05, 0.3)[stratum] if canary else 0.08))
            test.update(canary, 0.3, y, stratum)
            blind.update(canary, 0.3, y)
        found += test.log_e_max >= math.log(100) > blind.log_e_max
    assert found >= 4
    assert sum(test.weights) == pytest.approx(1.0)
    assert len(test.state()["logs"]) == 9 * len(blind.weights)


def mean_units(strata: list[float], tells: bool, rollouts: int = 16) -> tuple[float, float]:
    """Mean units until a canary with twice the odds is found: blind, and told the strata."""
    blind = sighted = 0
    for seed in range(rollouts):
        dice = random.Random(seed)
        with_risk = RiskRae(alpha=0.01, prior_rates=[0.05] * 8, stratum_units=20)
        without = BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.05)
        is_blind = is_sighted = True
        while is_blind or is_sighted:
            for _ in range(50):
                stratum = dice.choices((0, 1, 2), MIX)[0]
                canary, p = dice.random() < 0.3, strata[stratum]
                p = 2 * p / (1 - p + 2 * p) if canary else p
                y = float(dice.random() < p)
                without.update(canary, 0.3, y)
                with_risk.update(canary, 0.3, y, stratum if tells else dice.randrange(8))
            blind += 50 * is_blind
            sighted += 50 * is_sighted
            is_blind = is_blind and without.log_e_max < math.log(100)
            is_sighted = is_sighted and with_risk.log_e_max < math.log(100)
    return blind / rollouts, sighted / rollouts


def test_strata_gain_where_risk_varies_and_cost_little_where_it_does_not() -> None:
    """Nothing is known of the strata beforehand in either case."""
    blind, sighted = mean_units([0.01, 0.08, 0.3], tells=True)
    assert sighted < 0.95 * blind
    blind, sighted = mean_units([0.08, 0.08, 0.08], tells=False)
    assert sighted < 1.15 * blind


def test_a_block_of_each_stratum_is_bet_as_its_units_would_be() -> None:
    """Counts of several strata between two looks give the same floats as unit by unit."""
    one_by_one, at_once = risk(), risk()
    for stratum, (canary_bad, canary, champion_bad, champion) in enumerate(
        [(1, 3, 0, 12), (1, 4, 1, 11), (2, 6, 4, 14)]
    ):
        at_once.update_counts(0.3, canary, canary_bad, champion, champion_bad, stratum)
        for number in range(canary):
            one_by_one.update(True, 0.3, float(number < canary_bad), stratum)
        for number in range(champion):
            one_by_one.update(False, 0.3, float(number < champion_bad), stratum)
    assert one_by_one.units == at_once.units == 50
    assert one_by_one.state() == at_once.state()


def test_shares_of_a_unit_are_bet_on_in_its_stratum() -> None:
    """Half of a session failed: the evidence of a stratum with few failures grows more."""
    easy, hard = risk(), risk()
    easy.update(True, 0.3, 0.5, 0)
    hard.update(True, 0.3, 0.5, 2)
    assert easy.log_e > hard.log_e
    again = risk()
    again.restore(json.loads(json.dumps(easy.state())))
    assert again.state() == easy.state()
    with pytest.raises(ValueError, match="other strata"):
        RiskRae(alpha=0.01, prior_rates=STRATA[:2]).restore(easy.state())


def test_bets_are_made_anew_only_where_a_rate_has_moved() -> None:
    """A stratum whose champion's rate has moved gets its bets anew, and the others keep theirs."""
    test = RiskRae(alpha=0.01, prior_rates=[0.1, 0.1], prior_units=100, stratum_units=100.0)
    kept = [test.table(0.5, stratum) for stratum in (0, 1)]
    test.update_counts(0.5, 1_000, 100, 900, 90, 0)
    test.update_counts(0.5, 95, 0, 5, 0, 1)
    assert [test.table(0.5, stratum) is kept[stratum] for stratum in (0, 1)] == [True, False]
    assert test.rates[0] == 0.1 != test.rates[1]
    test.update_counts(0.5, 100, 10, 1_000, 900, 0)
    assert test.alternatives[0][1] > 0.3, "the rate of all has moved, and with it the odds ratios"
    assert test.table(0.5, 0) is not kept[0]
    again = RiskRae(alpha=0.01, prior_rates=[0.1, 0.1], prior_units=100, stratum_units=100.0)
    again.restore(json.loads(json.dumps(test.state())))
    for one in (test, again):
        one.update_counts(0.5, 10, 3, 10, 1, 1)
    assert again.state() == test.state()
    assert again.log_e == test.log_e


def test_how_many_units_are_expected_follows_from_the_mix_and_the_rates_of_strata() -> None:
    """About as many as it takes, where the rates of all together say twice as many."""
    strata, mix = (0.002, 0.02, 0.6), (0.5, 0.3, 0.2)
    odds = [2.5 * p / (1 - p + 2.5 * p) for p in strata]
    champion, canary = (
        sum(p * share for p, share in zip(rates, mix, strict=True)) for rates in (strata, odds)
    )
    needed, guesses, blind = 0, 0.0, 0.0
    for seed in range(10):
        dice, test = random.Random(seed), RiskRae(alpha=0.01, prior_rates=strata, prior_units=2_000)
        units = 0
        while test.log_e < math.log(1e4):
            for _ in range(10):
                stratum, arm = dice.choices((0, 1, 2), mix)[0], dice.random() < 0.3
                y = float(dice.random() < (odds if arm else strata)[stratum])
                test.update(arm, 0.3, y, stratum)
            units += 10
            if units == 400:
                guesses += test.expected_more(canary, champion, 0.3, 1e4) or 0.0
                blind += BinaryRae.expected_more(test, canary, champion, 0.3, 1e4) or 0.0
        needed += units - 400
    assert guesses == pytest.approx(needed, rel=0.25)
    assert blind > 1.6 * needed
    assert risk().expected_more(0.05, 0.05, 0.3, 100.0) is None, "equal releases: no bet grows"


def test_a_stratum_that_is_all_of_the_traffic_is_expected_to_show_by_itself() -> None:
    """Its own product may get there before that of all strata together."""
    test = risk()
    state = test.state()
    state["logs"] = [-50.0] * 12 + [4.0] * 12 + [-50.0] * 24
    test.restore(state)
    alone = test.expected_more(0.2, 0.1, 0.5, 100.0)
    state["logs"] = [-50.0] * 48
    test.restore(state)
    without = test.expected_more(0.2, 0.1, 0.5, 100.0)
    assert alone is not None
    assert without is not None
    assert alone < without / 3
