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


class Keys:
    """Those who ask, and how many times as long their answers take, always and at a new load."""

    def __init__(self, shares: dict[str, float], seed: int = 1) -> None:
        self.usual, self.dice, self.shares = Usual(), random.Random(seed), shares

    def ask(self, load: float, paces: dict[str, float], who: str = "") -> float | None:
        (drawn,) = self.dice.choices(list(self.shares), list(self.shares.values()))
        of = who or drawn
        time = paces.get(of, 1.0) * math.exp(self.dice.gauss(0.0, 0.2))
        return self.usual.relative(time, load, "g", Lengths(100, 0), of)

    def learn(self, load: float, paces: dict[str, float], n: int) -> None:
        for _ in range(n):
            self.ask(load, paces)

    def slowness(self, who: str, load: float, paces: dict[str, float]) -> float:
        """On average, over 300 requests."""
        logs = [self.ask(load, paces, who) for _ in range(300)]
        assert None not in logs
        return math.fsum(log or 0.0 for log in logs) / len(logs)


@pytest.mark.parametrize(
    "shares",
    [
        {"slow": 0.2, "a": 0.8},
        {"slow": 0.6, "a": 0.4},
        {"slow": 0.4, "a": 0.3, "b": 0.3},
        {"slow": 0.5} | {f"one of many {number}": 0.025 for number in range(20)},
    ],
)
def test_who_is_slow_is_not_what_is_usual_at_the_loads_that_this_brings_about(
    shares: dict[str, float],
) -> None:
    keys = Keys(shares)
    keys.learn(2.0, {}, 1_500)
    slow = {"slow": 4.0}
    keys.learn(40.0, slow, 50)
    assert keys.slowness("slow", 40.0, slow) == pytest.approx(math.log(4.0), abs=0.25)
    assert keys.slowness(list(shares)[1], 40.0, slow) == pytest.approx(0.0, abs=0.25)


@pytest.mark.parametrize("fast", [0.25, 0.5])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_who_has_always_been_fast_or_slow_is_as_fast_at_a_further_load(
    fast: float, share: float, seed: int
) -> None:
    paces = {"fast": fast}
    keys = Keys({"fast": share, "app": 1.0 - share}, seed)
    keys.learn(2.0, paces, 2_000)
    before = [keys.slowness(who, 2.0, paces) for who in ("fast", "app")]
    twice = {"fast": 2.0 * fast, "app": 2.0}  # As all are where there is more to do.
    keys.learn(40.0, twice, 60)
    after = [keys.slowness(who, 40.0, twice) for who in ("fast", "app")]
    assert after == pytest.approx(before, abs=0.25)


def test_a_load_that_an_older_build_has_half_learnt_is_learnt_on() -> None:
    usual = Usual()
    for _ in range(SLOPES_OF):
        usual.relative(1.0, 0.0, "g", Lengths(100, 0), "a")
    kept = usual.state()
    kept["g"].append([0.0, 30.0, 0.0])
    usual.restore(kept)
    while (log := usual.relative(2.0, 0.0, "g", Lengths(100, 0), "a")) is None:
        pass
    assert log == pytest.approx(0.6 * math.log(2.0)), "of 50 times 20 were twice as long"


def test_nothing_that_cannot_be_is_taken_for_those_who_ask() -> None:
    keys = Keys({"a": 0.5, "b": 0.5})
    keys.learn(2.0, {}, 1_000)
    keys.learn(40.0, {}, 30)
    kept = keys.usual.state()
    head, done, learning, levels = kept["g"]
    assert len(done) == 3
    assert len(learning) == len(levels) + 2 == 9
    for rows in (
        [[*done, 1.0, 2.0, 0.0], learning, levels],
        [done, learning[:-1], levels],
        [done, [*learning[:3], 1.5, *learning[4:]], levels],
        [done, [*learning[:6], learning[3], *learning[7:]], levels],
        [done, [*learning[:4], 31.0, *learning[5:]], levels],
        [done, learning, [*levels[:2], 31.0, *levels[3:]]],
        [done, learning, [*levels[:3], math.inf, *levels[4:]]],
        [done, learning, [-1.0, *(number for who in range(21) for number in (who, 1.0, 0.0))]],
    ):
        with pytest.raises(ValueError, match="damaged state of usual times"):
            Usual().restore({"g": [head, *rows]})
    again = Usual()
    again.restore(kept)
    assert again.state() == kept


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
    fitted, dice = Usual(), random.Random(1)
    for number in range(40_000):
        load, who = math.exp(dice.uniform(0.0, 12.0)), f"key {number % 100}"
        fitted.relative(math.exp(dice.gauss(0.0, 1.0)), load, "g", Lengths(100, 0), who)
    (rows,) = fitted.state().values()
    assert len(rows) <= 62
    assert max(map(len, rows)) <= 3 + 3 * 21
