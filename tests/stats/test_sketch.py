"""A sketch keeps a distribution in few counts, and goes on where the sample ends."""

import itertools
import math
import random

import pytest

from fairlead.stats.sketch import Sketch


def test_quantiles_are_those_of_the_values() -> None:
    """Within a few percent, in the middle as in the tail."""
    dice = random.Random(1)
    values = sorted(dice.lognormvariate(0, 0.8) for _ in range(20_000))
    made = Sketch(values).distribution()
    for p in (0.05, 0.25, 0.5, 0.9, 0.99):
        assert made.quantile(p) == pytest.approx(values[int(p * len(values))], rel=0.06)
        assert made.below(made.quantile(p)) == pytest.approx(p, abs=0.01)


def test_the_tail_goes_on_beyond_the_largest_value() -> None:
    """Less likely the further, never impossible."""
    dice = random.Random(2)
    values = [dice.paretovariate(2.0) for _ in range(5_000)]
    made = Sketch(values).distribution()
    beyond = [1 - made.below(max(values) * k) for k in (1, 3, 10)]
    assert beyond == sorted(beyond, reverse=True)
    assert beyond[-1] > 0
    assert 1 - made.below(20.0) == pytest.approx(1 / 400, rel=0.5)


def test_the_distribution_never_falls() -> None:
    dice = random.Random(3)
    made = Sketch(dice.expovariate(1.0) for _ in range(700)).distribution()
    steps = [made.below(k / 50) for k in range(600)]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(steps))


def test_keeps_its_state_and_is_bounded() -> None:
    """Zero, infinity and a hundred thousand values: still at most some thousand counts."""
    dice = random.Random(4)
    sketch = Sketch([0.0, math.inf, 1e-300, 1e300])
    sketch.add(dice.lognormvariate(0, 5) for _ in range(20_000))
    again = Sketch()
    again.restore(sketch.state())
    assert again.state() == sketch.state()
    assert len(sketch) == 20_004
    assert len(sketch.state()) <= 4_001
    with pytest.raises(ValueError, match="number"):
        sketch.add([math.nan])
    with pytest.raises(ValueError, match="no values"):
        Sketch().distribution()
