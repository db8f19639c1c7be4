"""Faults made to be found, by the monitors of spending and of segments."""

from __future__ import annotations

import math
import random
from typing import Any

from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import Monitor, Seen
from fairlead.monitoring.monitors.meters import DAY_S
from fairlead.stats.monitors.larger import LEARN

NOW = 1_700_000_000.0


def made(**changes: Any) -> Made:
    """A plain request of one key, at `NOW` unless it is said otherwise."""
    plain = Made(id="made", key="made", endpoint="chat", stream=False, started_at=NOW)
    return plain._replace(**changes)


def seen(request: Made, *, failed: bool = False) -> Seen:
    """It with what is known of it besides."""
    return Seen(request, 0.0, 0.0, failed)


def cost_self_test(monitor: Monitor) -> str:
    """Empty if a new monitor of spending finds what there is, else what it did not."""
    dice = random.Random(7)  # noqa: S311  # The same each time.
    at = NOW
    for _ in range(LEARN + 200):
        at += 10.0
        monitor.see(seen(_spending(dice, at, 100.0)))
    if monitor.conditions(at):
        return f"told of honest requests: {monitor.conditions(at)[0].summary}"
    for _ in range(300):
        at += 0.5
        monitor.see(seen(_spending(dice, at, 400.0)))
    kinds = {dict(condition.labels).get("kind") for condition in monitor.conditions(at)}
    for kind in ("surge", "answer_tokens_per_request"):
        if kind not in kinds:
            return f"not found in requests that were made to have it: {kind}"
    return _outburst_test(monitor, at)


def _outburst_test(monitor: Monitor, at: float) -> str:
    """After a month of days that are alike comes one with ten times the tokens."""
    for day in range(1, 32):
        tokens = 3_000_000 if day == 31 else 300_000 + 1_000 * (day % 7)
        monitor.see(seen(made(started_at=at + day * DAY_S, completion_tokens=tokens)))
        now = at + day * DAY_S
        kinds = {dict(condition.labels).get("kind") for condition in monitor.conditions(now)}
        if ("outburst_day" in kinds) != (day == 31):
            return f"a day with ten times the usual tokens: not found as it came, on day {day}"
    return ""


def bias_self_test(monitor: Monitor) -> str:
    """Empty if a new monitor of the segment `made` finds its failures, else what went wrong."""
    dice = random.Random(7)  # noqa: S311  # The same each time.
    for number in range(4_000):
        is_member = number % 3 == 0
        request = made(
            id=f"{number}", key="member" if is_member else "other", started_at=NOW + number
        )
        bad = 0.05 if number < 1_500 or not is_member else 0.3
        monitor.see(seen(request, failed=dice.random() < bad))
        if number == 1_500 and monitor.conditions(NOW):
            return f"told of honest requests: {monitor.conditions(NOW)[0].summary}"
    if not monitor.conditions(NOW):
        return "a segment that fails six times as often as the others was not found"
    return ""


def _spending(dice: random.Random, at: float, tokens: float) -> Made:
    answer = round(tokens * math.exp(dice.gauss(0.0, 0.5)))
    return made(started_at=at, completion_tokens=answer)
