"""The trend of a figure, by which a soak says whether memory grows."""

from __future__ import annotations

import random

from support.models import ALPHABET, recited
from support.trend import trend


def noisy(per_hour: float, jump: float = 0.0) -> tuple[list[float], list[float]]:
    """An hour of samples that follow each other closely, as those of a process do."""
    dice = random.Random(3)
    times = [5.0 * number for number in range(720)]
    values, drift = [], 0.0
    for at in times:
        drift = 0.9 * drift + dice.gauss(0.0, 40.0)
        values.append(50_000.0 + jump * (at > 1800) + per_hour * at / 3600 + drift)
    return times, values


def test_what_grows_is_found_and_what_wavers_is_not() -> None:
    leaking = trend(*noisy(8000.0))
    assert leaking is not None
    assert leaking.low < 8000 < leaking.high
    assert leaking.grows(2048.0)
    flat = trend(*noisy(0.0))
    assert flat is not None
    assert flat.low < 0 < flat.high
    assert not flat.grows(0.0)
    # Growth is seen by what it came to, not by how sure it is.
    little = trend(*noisy(1500.0))
    assert little is not None
    assert little.low > 0
    assert not little.grows(2048.0)


def test_a_step_counts_as_growth() -> None:
    stepped = trend(*noisy(0.0, jump=9000.0))
    assert stepped is not None
    assert stepped.grows(2048.0)


def test_too_few_samples_have_no_trend() -> None:
    assert trend([], []) is None
    assert trend([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None


def test_a_recited_answer_holds_nothing_twice() -> None:
    text = recited(f"how do i {ALPHABET[-2]}", 500)
    assert text[:2] == ALPHABET[-1] + ALPHABET[0]
    assert len(set(text)) == len(text) == 500
