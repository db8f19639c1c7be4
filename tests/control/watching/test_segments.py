"""Segments of a service are compared by what clients say, too, where a rollout goes by that."""

from __future__ import annotations

import random

import pytest

from control.simulated_world import World
from fairlead.control.watching.monitors import MonitorMaker
from fairlead.control.watching.platform import _feedback
from fairlead.control.watching.served import Served
from fairlead.domain.capture import Capture
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.monitors.interface import Monitor, SeenFeedback
from fairlead.monitoring.monitors.made_texts import made_text
from fairlead.monitoring.monitors.segments import SegmentMonitor, alpha_of
from fairlead.monitoring.monitors.self_tests import made
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.monitoring.monitors.texts import TextRates
from fairlead.probing.bias_model import Segment
from fairlead.rollout.declared import FeedbackRule
from fairlead.store.keys import KeyRow

START = 1_700_000_000.0
SEGMENTS = (Segment("partners", ("partner-app",)),)


class Keys:
    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        return [KeyRow(f"k{n}", name, "", 0.0) for n, name in enumerate(("partner-app", "web"))]


def monitor(rule: FeedbackRule | None) -> Monitor:
    served = Served("bank", "sha256:a", Declared(), segments=SEGMENTS, feedback=_feedback(rule))
    (found,) = (one for one in MonitorMaker(Keys())(served, "sha256:a") if one.name == "segments")
    return found


def rated(monitor: Monitor, name: str = "stars") -> list[str]:
    """What is told when partners give two stars in a third of their answers, others in a tenth."""
    dice = random.Random(5)
    for number in range(4_000):
        key = dice.choice(("k0", "k1"))
        request = made(
            id=f"{number}", key=key, unit=f"session {number}", started_at=START + number,
            prompt_tokens=100,
        )  # fmt: skip
        value = 2.0 if dice.random() < (0.33 if key == "k0" else 0.1) else 4.0
        monitor.see_feedback(SeenFeedback(request, name, value, START + number))
    return [dict(one.labels)["outcome"] for one in monitor.conditions(START)]


def test_a_segment_whose_users_are_less_content_is_told() -> None:
    assert rated(monitor(FeedbackRule("stars", good_at_least=3.0))) == ["feedback/stars"]


@pytest.mark.parametrize(
    "rule",
    [None, FeedbackRule("stars", good_at_least=1.0), FeedbackRule("stars", 3.0, sampled=True)],
)
def test_what_is_not_declared_or_good_enough_or_a_judges_is_not_compared(
    rule: FeedbackRule | None,
) -> None:
    assert rated(monitor(rule)) == []


def test_the_drift_of_a_segment_is_watched_by_itself() -> None:
    pytest.importorskip("numpy")
    served = Served("bank", "sha256:a", Declared(), capture=Capture(1.0), segments=SEGMENTS)
    (drift,) = (one for one in MonitorMaker(Keys())(served, "sha256:a") if one.name == "drift")
    for number in range(3):
        drift.see_text(made_text(f"where is card {number}", key=f"k{number % 2}", id=f"{number}"))
    assert drift.standing() == (
        "learning, 3 of 1,500 prompts; partners: learning, 2 of 1,500 prompts"
    )


async def test_a_service_is_watched_by_the_feedback_of_its_rollouts(world: World) -> None:
    await world.first_champion()
    (served,) = world.plane.watching._platform.services()
    assert served.feedback == (("success", 0.5),)


@pytest.mark.parametrize("rarely", [1e3, 1e6, 1e9])
def test_monitors_of_spending_and_segments_go_by_what_is_declared(rarely: float) -> None:
    declared = Declared(monitors=MonitorSettings(requests_per_false_alarm=rarely))
    served = Served("bank", "sha256:a", declared, segments=SEGMENTS)
    made_ones = {one.name: one for one in MonitorMaker(Keys())(served, "sha256:a")}
    cost, segments = made_ones["cost"], made_ones["segments"]
    assert isinstance(cost, CostMonitor)
    assert isinstance(segments, SegmentMonitor)
    assert cost.state()["run_length"] == rarely
    assert segments.alpha == alpha_of(rarely)


def test_keys_are_called_by_their_names_wherever_one_is_named() -> None:
    capture = Capture(1.0)
    served = Served("bank", "sha256:a", Declared(), capture=capture)
    (found,) = (one for one in MonitorMaker(Keys())(served, "a") if one.name == "injection")
    assert isinstance(found, TextRates)
    assert found._name_of("k0") == "partner-app"
