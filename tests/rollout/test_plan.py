"""A plan that makes no sense is refused with the name of what is wrong."""

from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.plan import FeedbackRule, Hook, Plan, Step


def test_default_plan_is_valid_and_survives_json() -> None:
    """What is stored is what was meant."""
    plan = Plan(feedback=FeedbackRule("correct", required=True))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": (Step(0.5), Step(0.1))}, r"steps\[1\].share: 0.1 is not larger"),
        ({"steps": (Step(0.5), Step(0.5))}, r"steps\[1\].share"),
        ({"steps": (Step(0.0),)}, r"steps\[0\].share"),
        ({"steps": (Step(1.0),)}, "promotion itself moves all traffic"),
        ({"steps": (Step(float("nan")),)}, r"steps\[0\].share"),
        ({"steps": (Step(0.5, units=0),)}, r"steps\[0\].units"),
        ({"steps": (Step(0.5, seconds=-1.0),)}, r"steps\[0\].seconds"),
        ({"steps": tuple(Step(k / 100) for k in range(1, 40))}, "steps: 39 of them"),
        ({"settle_s": -1.0}, "settle_s"),
        ({"settle_s": float("inf")}, "settle_s"),
        ({"tolerance": 0.9}, "tolerance"),
        ({"margin": 0.0}, "margin"),
        ({"tolerance": 0.1, "margin": 0.05}, "margin: 0.05 is not above the tolerance, 0.1"),
        ({"tolerance": 0.1, "margin": 0.1}, "margin: 0.1 is not above the tolerance, 0.1"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1e-10}, "alpha: 1e-10 is not between 1e-09 and 0.5"),
        ({"beta": 1.0}, "beta"),
        ({"expected_failure_rate": 1.5}, "expected_failure_rate"),
        ({"champion_replicas": 0}, "champion_replicas"),
        ({"canary_replicas": 0}, "canary_replicas"),
        ({"deadline_s": 5.0}, "deadline_s: 5 s is not enough"),
        ({"steps": (Step(0.5, seconds=60.0),), "deadline_s": 60.0}, "deadline_s"),
        ({"feedback": FeedbackRule("")}, "feedback.name"),
    ],
)
def test_nonsense_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    """The message names the field, and what is wrong with it."""
    with pytest.raises(InvalidInput, match=named) as refused:
        Plan(**changes)
    assert str(refused.value)


def test_no_steps_is_a_plan() -> None:
    """Without steps there is no canary, for instance to go back to an earlier release at once."""
    assert Plan(steps=(), deadline_s=1.0).steps == ()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "http://u:p@x",
        "http://:p@x",
        "http:///path",
        "https://",
        "http://[x",
        "http://x:y",
    ],
)
def test_a_hook_has_a_host_and_no_user(url: str) -> None:
    """Also in a plan that no manifest was read for."""
    with pytest.raises(InvalidInput, match=r"hooks\[1\]\.url: must be an http or https address"):
        Plan(hooks=(Hook("https://x:8443/hook"), Hook(url)))
