"""The trend of a figure, by which a soak says whether memory grows, and how its page says it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from support.models import ALPHABET, recited
from support.processes import Held
from support.soak import Plan, Soak
from support.trend import trend

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.soak import SAMPLE_EVERY_S
from benchmarks.soak_picture import svg
from benchmarks.soak_report import markdown


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


def soaked(restart_every_s: float, minutes: float = 60.0) -> Soak:
    """A soak in which two gateway workers grow by 6 MB in an hour until they are replaced."""
    plan = Plan(60.0 * minutes, restart_every_s=restart_every_s, sample_every_s=SAMPLE_EVERY_S)
    made, dice = Soak(plan), random.Random(4)
    for number in range(int(plan.seconds / SAMPLE_EVERY_S)):
        at = number * SAMPLE_EVERY_S
        life, age = divmod(at, restart_every_s or plan.seconds)
        kb = 33_000 + round(6 * 1024 * age / 3600 + dice.gauss(0.0, 2.0))
        pids = (2 * int(life), 2 * int(life) + 1)
        made.samples.append((at, [Held("gateway", pid, kb, kb, 20) for pid in pids]))
    return made


def test_as_it_is_by_default_a_soak_tells_of_growth_within_the_lives_of_workers() -> None:
    made = soaked(Plan(1.0).restart_every_s)
    page = " ".join(markdown(made, "make soak", 0.0, compiled=False).split())
    assert "Within the lives of the 60 gateway workers, after 45 s of each: +6." in page
    assert "not compiled" in page
    assert len(svg(made)) < 200_000, "a picture need not have every sample"


def test_a_short_soak_says_that_too_few_workers_lived_long_enough() -> None:
    page = markdown(soaked(120.0, minutes=3.0), "make soak", 0.0, compiled=True)
    assert "Only 2 of them lived long enough" in page
    assert "request path was compiled" in page


def test_without_restarts_the_page_says_that_workers_stayed_the_same() -> None:
    page = markdown(soaked(0.0), "make soak", 0.0, compiled=False)
    assert "The gateway was not restarted" in page
    assert "Within the lives" not in page
    assert "| restarts of the gateway | 0 |" in page
