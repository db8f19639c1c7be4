"""Spending per key: weekends and outliers are usual, outbursts and rises are not."""

import json
import math
import random
from statistics import median
from typing import Any

import pytest

from fairlead.stats.monitors import spending
from fairlead.stats.monitors.spending import _BETS, LEARN, SpendWatch, _around, _steps


def spent(dice: random.Random, day: int, factor: float = 1.0) -> float:
    """Heavy-tailed, a third at weekends, three times as much on one day in fifty."""
    odd = 3.0 if dice.random() < 0.02 else 1.0
    return factor * 20.0 * (0.3 if day % 7 > 4 else 1.0) * math.exp(dice.gauss(0, 0.4)) * odd


def verdicts(seed: int, days: int, factor: float = 1.0, since: int = 60) -> list[str]:
    dice, watch = random.Random(seed), SpendWatch(least=0.1)
    return [
        watch.update(day % 7, spent(dice, day, factor if day >= since else 1.0))
        for day in range(days)
    ]


def test_a_year_of_usual_spending_raises_nothing() -> None:
    for seed in range(8):
        assert set(verdicts(seed, 365)) == {"learning", "usual"}


def test_nights_are_no_reason_for_an_alarm_in_the_morning() -> None:
    """Hours of the week: a hundred times as much by day, learnt in three weeks."""
    for seed in range(3):
        dice, watch = random.Random(seed), SpendWatch(least=0.001, slots=168)
        told = set()
        for hour in range(168 * 6):
            by_day = 8 <= hour % 24 < 20
            amount = (5.0 if by_day else 0.05) * math.exp(dice.gauss(0, 0.5))
            verdict = watch.update(hour % 168, amount)
            told.add(verdict)
            assert verdict == "learning" or hour >= 168 * 3
        assert told == {"learning", "usual"}
        more = [
            watch.update(hour % 168, 20.0 * math.exp(dice.gauss(0, 0.5))) for hour in range(8, 20)
        ]
        assert "rise" in more


def test_a_lasting_rise_is_found() -> None:
    needed = []
    for seed in range(11):
        told = verdicts(seed, 110, factor=3.0)
        needed.append(told.index("rise") - 59 if "rise" in told else 999)
    assert median(needed) <= 12


def test_an_outburst_is_told_at_once_also_before_its_interval_ends() -> None:
    dice, watch = random.Random(1), SpendWatch(least=0.1)
    for day in range(60):
        watch.update(day % 7, spent(dice, day))
    assert watch.look(4, 25.0) == "usual"
    assert watch.look(4, 2_000.0) == "outburst"
    usual = watch.usual(4)
    assert watch.update(4, 2_000.0) == "outburst"
    assert watch.usual(4) == usual  # It did not become the past.
    assert usual == pytest.approx(20.0, rel=0.5)


def test_outbursts_now_and_then_are_no_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The past has none of them: bet on, they would double the small p-values and more."""
    hits, bets = 0, 0

    def counted(rank: int, n: int) -> list[float]:
        nonlocal hits, bets
        hits, bets = hits + (rank <= int(0.02 * n)), bets + (n >= 50)
        return _steps(rank, n)

    monkeypatch.setattr(spending, "_steps", counted)
    told = []
    for seed in range(4):
        dice, watch = random.Random(seed), SpendWatch(least=0.1, slots=1)
        for _ in range(500):
            odd = 3.5 if dice.random() < 0.04 else 1.0
            told.append(watch.update(0, 20.0 * math.exp(dice.gauss(0.0, 0.05)) * odd))
    assert told.count("outburst") >= 20
    assert "rise" not in told
    assert bets > 1_500
    assert hits <= 0.02 * bets


def test_an_accepted_rise_is_the_usual_and_the_week_keeps_its_shape() -> None:
    """At once, in every slot; and what doubles again after that is found again."""
    for seed in range(5):
        dice, watch = random.Random(seed), SpendWatch(least=0.1)
        for day in range(60):
            watch.update(day % 7, spent(dice, day))
        before = [watch.usual(slot) for slot in range(7)]
        day, verdict = 60, "usual"
        while verdict != "rise":
            verdict = watch.update(day % 7, spent(dice, day, 2.5))
            day += 1
        for _ in range(4):
            watch.update(day % 7, spent(dice, day, 2.5))
            day += 1
        watch.accept()
        lifted = [(watch.usual(slot) or 0.0) / (was or 1.0) for slot, was in enumerate(before)]
        assert median(lifted) == pytest.approx(2.5, rel=0.6)  # from some ten days
        assert max(lifted) / min(lifted) < 3.0  # weekends are a third still
        after = [watch.update(at % 7, spent(dice, at, 2.5)) for at in range(day, day + 60)]
        assert "rise" not in after
        assert after.count("learning") == 0
        again = [watch.update(at % 7, spent(dice, at, 9.0)) for at in range(day + 60, day + 100)]
        assert "rise" in again or again.count("outburst") > 20


def test_what_was_high_before_the_alarm_is_not_lifted_twice() -> None:
    watch = SpendWatch(least=0.1, slots=1)
    for _ in range(40):
        watch.update(0, 10.0)
    verdicts = [watch.update(0, 20.0) for _ in range(60)]
    assert "rise" in verdicts[1:]
    assert verdicts.index("rise") > 1
    watch.accept()
    assert watch.usual(0) == pytest.approx(20.0, rel=0.1)
    assert watch.outburst_from(0) == pytest.approx(60.0, rel=0.1)


def test_one_accepted_outburst_lifts_nothing_and_several_in_a_row_do() -> None:
    once, twice = SpendWatch(least=0.1, slots=1), SpendWatch(least=0.1, slots=1)
    for watch in (once, twice):
        for _ in range(LEARN):
            assert watch.update(0, 1.0) == "learning"
        assert watch.update(0, 100.0) == "outburst"
    assert twice.update(0, 100.0) == "outburst"
    for watch in (once, twice):
        watch.accept()
    assert once.usual(0) == pytest.approx(1.0)
    assert once.update(0, 100.0) == "outburst"
    assert twice.usual(0) == pytest.approx(100.0, rel=0.2)
    assert twice.update(0, 100.0) == "usual"


def test_nothing_that_alarms_now_is_nothing_to_accept() -> None:
    watch = SpendWatch(least=0.1, slots=1)
    for _ in range(40):
        watch.update(0, 1.0)
    assert watch.update(0, 100.0) == "outburst"
    watch.update(0, 1.0)
    state = watch.state()
    watch.accept()
    assert watch.state()["past"] == state["past"]
    watch.forget()
    assert watch.usual(0) is None


def test_a_key_that_spends_next_to_nothing_is_left_alone() -> None:
    """From nothing to less than the least."""
    watch = SpendWatch(least=1.0, slots=1)
    for _ in range(40):
        watch.update(0, 0.0)
    assert watch.look(0, 0.9) == "usual"


@pytest.mark.parametrize("n", [5, 22, 60, 61])
def test_each_bet_has_a_mean_of_at_most_one(n: int) -> None:
    steps = [_steps(rank, n) for rank in range(1, n + 1)]
    for k in range(len(_BETS)):
        assert sum(math.exp(step[k]) for step in steps) / n <= 1.0 + 1e-9


@pytest.mark.parametrize("n", [2, 5, 8])
def test_each_is_held_against_the_median_of_the_others(n: int) -> None:
    dice = random.Random(n)
    logs = [dice.choice([0.0, 1.0, dice.random()]) for _ in range(n)]
    expected = [each - median(logs[:i] + logs[i + 1 :]) for i, each in enumerate(logs)]
    assert _around(logs) == pytest.approx(expected)


def test_it_resumes_to_identical_floats() -> None:
    dice, whole, part = random.Random(1), SpendWatch(least=0.1), SpendWatch(least=0.1)
    for day in range(90):
        if day == 44:
            kept = json.loads(json.dumps(part.state(), allow_nan=False))
            part = SpendWatch(least=0.1)
            part.restore(kept)
        amount = spent(dice, day)
        assert whole.update(day % 7, amount) == part.update(day % 7, amount)
    assert part.state() == whole.state()


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_an_amount_that_is_none_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="amount"):
        SpendWatch(least=0.1).update(0, amount)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="slot 7"):
        SpendWatch(least=0.1).update(7, 1.0)
    for least, slots in ((0.0, 7), (1.0, 0), (float("nan"), 7)):
        with pytest.raises(ValueError, match="least"):
            SpendWatch(least=least, slots=slots)


@pytest.mark.parametrize(
    "damaged", [{"past": [(9, 1.0)]}, {"past": [(1, math.nan)]}, {"evidence": []}]
)
def test_a_damaged_state_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match="damaged"):
        SpendWatch(least=0.1).restore({**SpendWatch(least=0.1).state(), **damaged})
