"""Faults made to be found, by the monitors of spending and of segments."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from fairlead.monitoring.monitors.interface import Monitor, Seen
from fairlead.monitoring.monitors.meters import DAY_S, Meter
from fairlead.stats.monitors.larger import LEARN

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class MadeRequest:
    """A request that nobody made."""

    id: str = "made"
    service: str = "self-test"
    release: str = "self-test"
    arm: str = "champion"
    replica: str = "made"
    key: str = "made"
    unit: str = ""
    endpoint: str = "chat"
    stream: bool = False
    status: int = 200
    error: str = ""
    started_at: float = NOW
    ttft_ms: float = -1.0
    itl_ms: float = -1.0
    duration_ms: float = 100.0
    prompt_tokens: int = 100
    completion_tokens: int = 100
    attempts: int = 1
    cost_usd: float = -1.0
    refused: int = -1
    malformed: int = -1


def seen(request: MadeRequest, *, failed: bool = False) -> Seen:
    """It with what is known of it besides."""
    return Seen(request, 0.0, failed)


def cost_self_test(monitor: Monitor) -> str:
    """Empty if a new monitor of spending finds what there is, else what it did not."""
    if not _finds_outburst():
        return "a day with ten times the usual tokens was not found"
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
    return ""


def bias_self_test(monitor: Monitor) -> str:
    """Empty if a new monitor of the segment `made` finds its failures, else what went wrong."""
    dice = random.Random(7)  # noqa: S311  # The same each time.
    for number in range(4_000):
        is_member = number % 3 == 0
        request = MadeRequest(
            id=f"{number}", key="member" if is_member else "other", started_at=NOW + number
        )
        bad = 0.05 if number < 1_500 or not is_member else 0.3
        monitor.see(seen(request, failed=dice.random() < bad))
        if number == 1_500 and monitor.conditions(NOW):
            return f"told of honest requests: {monitor.conditions(NOW)[0].summary}"
    if not monitor.conditions(NOW):
        return "a segment that fails six times as often as the others was not found"
    return ""


def _spending(dice: random.Random, at: float, tokens: float) -> MadeRequest:
    answer = round(tokens * math.exp(dice.gauss(0.0, 0.5)))
    return MadeRequest(started_at=at, completion_tokens=answer)


def _finds_outburst() -> bool:
    meter = Meter("tokens", "day", 1)
    for day in range(30):
        meter.add(day * DAY_S, 300_000.0 + 1_000.0 * (day % 7))
        if list(meter.findings(day * DAY_S)):
            return False
    meter.add(30 * DAY_S, 3_000_000.0)
    return bool(list(meter.findings(30.0 * DAY_S)))
