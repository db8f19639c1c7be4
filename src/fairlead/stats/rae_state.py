"""What randomised-assignment e-processes have to remember, in JSON's types."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class StratumState(TypedDict):
    """Of a stratum of risk: its champion units, how many failed, the rate that is bet on."""

    champion_units: int
    champion_bad: float
    rate: float


class RaeState(TypedDict):
    """Of one e-process.

    `logs` holds the logarithm of each alternative's weighted product over all starts of the process
    up to the last look; `block` what came since: failures and successes of the canary, then of the
    champion, and so for each stratum if there are `strata`. `rate` is the champion rate that the
    bets use now.
    """

    units: int
    champion_units: int
    champion_bad: float
    rate: float
    starts: int
    logs: list[float]
    block: list[int]
    rho: float
    log_e_max: float
    strata: NotRequired[list[StratumState]]
