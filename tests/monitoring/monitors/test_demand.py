"""What is asked of each replica, now and at first."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from fairlead.monitoring.monitors.demand import HOUR_S, HOURS, REPLICAS_MAX, Demand
from fairlead.monitoring.monitors.exercise import Made


class Asked:
    """Requests at a rate, to these replicas in turn."""

    def __init__(self) -> None:
        self.demand, self.now, self.dice, self._count = Demand(), 1_000_000.0, random.Random(1), 0

    def ask(
        self,
        seconds: float,
        rate: float = 2.0,
        *,
        is_first: bool = False,
        replicas: Sequence[str] = "ab",
        prompt: int = 100,
        answer: int = 100,
    ) -> bool:
        """For so long; whether no more is asked than at first."""
        until = self.now + seconds
        while self.now < until:
            self.now += self.dice.expovariate(rate)
            self._count += 1
            name = replicas[self._count % len(replicas)]
            made = Made(started_at=self.now, replica=name, prompt_tokens=prompt)
            made = made._replace(completion_tokens=answer)
            self.demand.come(made, is_first=is_first)
        return self.demand.is_no_more


@pytest.fixture
def asked() -> Asked:
    """An hour that was learnt: two requests a second, to two replicas."""
    made = Asked()
    made.ask(HOUR_S, is_first=True)
    return made


def test_as_much_as_at_first_is_no_more(asked: Asked) -> None:
    assert asked.demand.first.requests == pytest.approx(1.0, rel=0.15)
    assert asked.demand.first.prompt_tokens == pytest.approx(100.0, rel=0.15)
    assert asked.ask(HOUR_S)
    assert asked.ask(HOUR_S, 1.0)


def test_more_requests_are_more_and_stay_so_for_some_hours(asked: Asked) -> None:
    assert not asked.ask(900.0, 3.0)
    assert not asked.ask((HOURS - 1) * HOUR_S)
    assert asked.ask(2 * HOUR_S)


def test_longer_prompts_are_more(asked: Asked) -> None:
    assert not asked.ask(900.0, prompt=200)


def test_longer_answers_are_more(asked: Asked) -> None:
    assert not asked.ask(900.0, answer=200)


def test_what_reaches_no_replica_is_not_asked_of_one(asked: Asked) -> None:
    """Such as what a guardrail blocks: neither more, nor one replica more to share the rest."""
    for _ in range(5_000):
        asked.demand.come(Made(started_at=asked.now, replica=""), is_first=False)
    assert asked.ask(HOUR_S)
    asked.demand.come(Made(started_at=asked.now, replica=""), is_first=False)
    assert not asked.ask(900.0, 3.0)


def test_fewer_replicas_are_more_for_each(asked: Asked) -> None:
    assert not asked.ask(HOUR_S, replicas="a")
    assert asked.demand.now.requests == pytest.approx(2.0, rel=0.2)


def test_nothing_is_known_of_a_moment() -> None:
    made = Asked()
    assert not made.demand.is_no_more
    made.ask(30.0, is_first=True)
    assert not made.ask(20.0)


def test_tokens_that_are_not_known_are_none(asked: Asked) -> None:
    assert asked.ask(HOUR_S, prompt=-1)


def test_no_more_replicas_are_told_apart_than_it_keeps(asked: Asked) -> None:
    asked.ask(600.0, 5.0, replicas=[f"r{n}" for n in range(2 * REPLICAS_MAX)])
    assert len(asked.demand.state()["seen"]) <= REPLICAS_MAX


def test_it_resumes_to_identical_floats(asked: Asked) -> None:
    other = Demand()
    other.restore(json.loads(json.dumps(asked.demand.state(), allow_nan=False)))
    for n in range(500):
        made = Made(started_at=asked.now + n, replica="ab"[n % 2])
        asked.demand.come(made, is_first=False)
        other.come(made, is_first=False)
    assert other.state() == asked.demand.state()
    empty = Demand()
    empty.restore(Demand().state())
    assert empty.state() == Demand().state()


@pytest.mark.parametrize(
    "damaged",
    [
        {"sums": [1.0, -1.0, 1.0, 0.0, 0.0]},
        {"sums": [1.0, 0.0]},
        {"seen": {"a": float("inf")}},
        {"rates": [[1.0, 1.0, 1.0], [1.0, 1.0, float("nan")]]},
        {"peaks": [[n, 1.0, 1.0, 1.0] for n in range(HOURS + 1)]},
    ],
)
def test_a_damaged_state_is_refused_and_leaves_nothing_behind(
    asked: Asked, damaged: dict[str, Any]
) -> None:
    before = asked.demand.state()
    with pytest.raises(ValueError, match=r"damaged|unpack"):
        asked.demand.restore({**before, **damaged})
    assert asked.demand.state() == before
