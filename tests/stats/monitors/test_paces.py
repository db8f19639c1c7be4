"""What is usual at a load and a length: learnt as it comes, and silent where it is not known."""

import json
import math
import random

import pytest

from fairlead.stats.monitors.paces import SLOPES_OF, Lengths, Usual


def learnt(seed: int = 1, spread: tuple[int, int] = (64, 255), n: int = 3_000) -> Usual:
    """Of prompts of these lengths: time grows with the prompt, and falls with the answer."""
    usual, dice = Usual(), random.Random(seed)
    for _ in range(n):
        prompt, answer = dice.randint(*spread), dice.randint(20, 200)
        time = prompt**0.8 * (answer / 100.0) ** -0.5 * math.exp(dice.gauss(0.0, 0.2))
        load = float(dice.choice((1, 5)))
        usual.relative(time * (1.0 + load / 10.0), load, "g", Lengths(prompt, answer))
    return usual


def test_a_time_is_told_from_what_its_lengths_and_load_make_of_it() -> None:
    usual = learnt()
    for prompt, answer, load in ((70, 30, 1.0), (250, 30, 5.0), (70, 190, 5.0), (250, 190, 1.0)):
        expected = prompt**0.8 * (answer / 100.0) ** -0.5 * (1.0 + load / 10.0)
        for factor in (1.0, 2.0):
            log = usual.relative(factor * expected, load, "g", Lengths(prompt, answer))
            assert log == pytest.approx(math.log(factor), abs=0.12)


def test_nothing_is_said_while_it_is_learnt_or_far_from_what_is_known() -> None:
    usual = Usual()
    for _ in range(SLOPES_OF):
        assert usual.relative(1.0, 0.0, "g", Lengths(100, 0)) is None
    assert usual.is_known
    for _ in range(50):
        assert usual.relative(1.0, 0.0, "g", Lengths(100, 0)) is None
    assert usual.relative(2.0, 0.0, "g", Lengths(100, 0)) == pytest.approx(math.log(2.0))
    assert usual.relative(2.0, 0.0, "g", Lengths(150, 0)) is None, "a length that nobody had"
    assert usual.relative(2.0, 90.0, "g", Lengths(100, 0)) is None, "a load that nobody had"
    assert usual.relative(2.0, 0.0, "other", Lengths(100, 0)) is None


def test_lengths_that_do_not_vary_or_vary_alike_have_a_slope_all_the_same() -> None:
    for answer_of in (lambda prompt: 50, lambda prompt: prompt):
        usual, dice = Usual(), random.Random(2)
        for _ in range(1_000):
            prompt = dice.randint(64, 255)
            lengths = Lengths(prompt, answer_of(prompt))
            usual.relative(float(prompt), 0.0, "g", lengths)
        log = usual.relative(200.0, 0.0, "g", Lengths(200, answer_of(200)))
        assert log == pytest.approx(0.0, abs=0.05)


def test_a_time_that_is_none_is_refused() -> None:
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="must be a number above 0"):
            Usual().relative(value, 0.0, "g", Lengths(1, 1))


@pytest.mark.parametrize("keys", [2, 3, 5])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_who_is_slow_is_not_what_is_usual_at_the_loads_that_this_brings_about(
    keys: int, share: float
) -> None:
    usual, dice = Usual(), random.Random(keys)

    def ask(who: str, load: float) -> float | None:
        time = math.exp(dice.gauss(0.0, 0.15)) * (4.0 if who == "slow" and load > 5.0 else 1.0)
        return usual.relative(time, load, "g", Lengths(100, 0), who)

    others = [f"key {number}" for number in range(keys - 1)]
    for _ in range(SLOPES_OF + 100):
        ask(dice.choice(others), 2.0)
    while ask("slow" if dice.random() < share else dice.choice(others), 40.0) is None:
        pass
    found = {who: [ask(who, 40.0) or 0.0 for _ in range(200)] for who in ("slow", *others)}
    for who, logs in found.items():
        wanted = math.log(4.0) if who == "slow" else 0.0
        assert math.fsum(logs) / len(logs) == pytest.approx(wanted, abs=0.15)


def test_a_load_that_was_half_learnt_before_those_who_ask_were_told_apart_is_learnt_on() -> None:
    usual = Usual()
    for _ in range(SLOPES_OF):
        usual.relative(1.0, 0.0, "g", Lengths(100, 0), "a")
    kept = usual.state()
    kept["g"].append([0.0, 30.0, 0.0])
    usual.restore(kept)
    while usual.relative(2.0, 0.0, "g", Lengths(100, 0), "a") is None:
        pass
    log = usual.relative(2.0, 0.0, "g", Lengths(100, 0), "a")
    assert log == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n", [100, 430, 2_000])
def test_it_resumes_to_identical_numbers_and_refuses_damage(n: int) -> None:
    one, other = learnt(n=n), Usual()
    kept = json.loads(json.dumps(one.state(), allow_nan=False))
    other.restore(kept)
    assert other.state() == one.state()
    dice = random.Random(3)
    for _ in range(500):
        lengths, who = Lengths(dice.randint(64, 255), 100), dice.choice("abc")
        asked = (dice.uniform(50, 90), dice.choice((1.0, 3.0)), "g", lengths, who)
        assert one.relative(*asked) == other.relative(*asked)
        if dice.random() < 0.05:
            again = Usual()
            again.restore(json.loads(json.dumps(other.state())))
            other = again
    assert other.state() == one.state()
    for damage in ({"g": [[1.0, 2.0]]}, {"g": [[-1.0]]}, {"g": [[400.0], [1.0, 1.0]]}):
        with pytest.raises(ValueError, match="damaged"):
            other.restore(damage)


def test_groups_and_loads_are_bounded() -> None:
    usual = Usual()
    for number in range(5_000):
        usual.relative(1.0, float(number), f"g{number % 100}", Lengths(100, 0))
    assert len(usual.state()) == 40
    assert len(json.dumps(usual.state())) < 400_000
