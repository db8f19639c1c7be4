"""Do those who judge requests and probes over time find what is made for them, and nothing else?

The slow watch, which says that a champion fails more than its limit allows, and the probes, which
say that a provider answers otherwise.
"""

from __future__ import annotations

import random

from fairlead.probing.course import answered, begin, closed, digest_of_text
from fairlead.probing.model import Given, ProbeRule
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from fairlead.rollout.slow import Day, Limit, new_kept

_LIMIT = Limit(0.05, "self-test")
_REQUESTS = 2_000
_CASES = ("a", "b", "c", "d")
_ROUNDS = 40


def limits() -> str:
    """Requests that fail as often as they may, and others that fail six times as often."""
    if not _exceeds(6 * _LIMIT.rate):
        return "a release that fails six times as often as it may was not found"
    return "a limit that is kept was told as exceeded" if _exceeds(0.8 * _LIMIT.rate) else ""


def provider() -> str:
    """A provider that answers as ever, and one whose answers become other ones."""
    if not _has_changed(changes=True):
        return "a provider that answers otherwise was not found"
    return "a provider that had not changed was told" if _has_changed(changes=False) else ""


def _exceeds(rate: float) -> bool:
    plan, dice = Plan(failures_at_most=_LIMIT.rate), random.Random(11)  # noqa: S311
    day = Day(new_kept(_LIMIT, plan, 0.0), _LIMIT, plan)
    day.add(
        Observation(f"{n:06d}", f"u{n}", True, 0.5, 1, dice.random() < rate, float(n))
        for n in range(_REQUESTS)
    )
    day.settle(_REQUESTS + 2.0 * plan.settle_s)
    return day.is_exceeded


def _has_changed(*, changes: bool) -> bool:
    rule, dice = ProbeRule("sha256:self-test", cases=len(_CASES)), random.Random(13)  # noqa: S311
    probing = begin("self-test", "sha256:self-test", "", 0.0)
    for number in range(_ROUNDS):
        now = probing.due_at
        is_other = changes and number >= rule.reference_rounds
        for case in _CASES:
            # Now and then one answers in other words, as providers do.
            text = f"{case} {'otherwise' if is_other else 'as ever'}{' so' * (dice.random() < 0.1)}"
            given = Given(digest_of_text(text), text, len(text))
            probing = answered(probing, case, given, now)
        probing = closed(probing, rule, _CASES, now)
    return probing.change is not None
