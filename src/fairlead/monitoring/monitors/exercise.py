"""Requests made for self-tests: a fault that must be found, and honest data with none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from fairlead.monitoring.monitors.interface import Monitor, Seen

M = TypeVar("M", bound=Monitor)


class Made(NamedTuple):
    """A request as it might have been recorded."""

    id: str = ""
    service: str = "self-test"
    release: str = "self-test"
    arm: str = "champion"
    replica: str = "a"
    key: str = ""
    unit: str = ""
    endpoint: str = "chat.completions"
    stream: bool = True
    status: int = 200
    error: str = ""
    started_at: float = 0.0
    ttft_ms: float = 100.0
    itl_ms: float = 20.0
    duration_ms: float = 2_000.0
    prompt_tokens: int = 100
    completion_tokens: int = 100
    attempts: int = 1
    cost_usd: float = -1.0
    refused: int = -1
    malformed: int = -1
    guardrail_hits: int = -1


def tested(
    monitor: M,
    honest: int,
    faulty: int,
    feed: Callable[[M, random.Random, bool, int], None],
) -> str:
    """What is wrong with a monitor that is new; empty if it says nothing of honest data, then all.

    Args:
        honest, faulty: How many observations of each kind it is given; fewer faulty ones if it
            finds the fault earlier.
        feed: Gives it an observation: the monitor, dice, whether it is faulty, its number.
    """
    dice = random.Random(1)  # noqa: S311 - no secret, and the same each time
    for number in range(honest):
        feed(monitor, dice, False, number)
    if monitor.conditions(float(honest)):
        return f"said something of {honest} honest observations"
    for number in range(honest, honest + faulty):
        feed(monitor, dice, True, number)
        if number % 10 == 9 and monitor.conditions(float(number)):
            return ""
    return f"did not find the fault within {faulty} observations"


def see(monitor: Monitor, made: Made, *, load: float = 1.0, failed: bool = False) -> None:
    """Give a monitor a request: so many are open, and as many came lately."""
    monitor.see(Seen(made, load, load, failed))
