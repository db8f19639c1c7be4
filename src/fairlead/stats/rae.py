"""RAE: randomised-assignment e-processes. Roll back a worse canary, promote one that is not worse.

Each unit's outcome bets on which arm the unit went to, with the assignment probability that was
logged for it (one bet: `fairlead.stats.bets`). The evidence E is a weighted sum, over alternatives,
of products of bets. Under the null every bet has mean at most 1 given the past, so by Ville's
inequality the chance that E *ever* reaches 1/alpha is at most alpha: at any look, over any
horizon, under any drift of the base rate on both arms and any ramp of the share. What is asked of
the caller:

- units in the order of their enrolment, each once, with the probability by which it was assigned;
- one outcome per unit, however its requests depend on each other.

The rates that steer the bets are estimated from units that came before; a wrong estimate costs
speed, never validity. The same updates give the same floats: the state is exact and resumable.

Sources: Ville 1939; Howard, Ramdas, McAuliffe, Sekhon 2021; Turner, Ly, Grünwald 2024;
Grünwald, de Heide, Koolen, *Safe Testing*, 2024.
"""

from __future__ import annotations

import math
from typing import TypedDict

from fairlead.stats.bets import BetTable, bet
from fairlead.stats.special import bisect

RATE_MIN = 1e-4
REFRESH_EVERY = 200
_REFRESH_EARLY = frozenset((25, 50, 100))
_TABLES_MAX = 64

ALTERNATIVES = 10
_ALTERNATIVE_DECAY = 0.1
_BUDGET_CANARY_UNITS = 10_000
_TOP_RATE = 0.6

RESTART_EVERY = 5_000
RESTARTS_MAX = 8
_RESTART_WEIGHT = 0.2
"""Weight of all restarts together: it costs ln 1.25 at the start, and keeps a way to see a
regression that begins late after a long good time."""

Rates = tuple[float, float]


def refresh_due(units: int) -> bool:
    """Whether the estimated rates are taken anew after so many units."""
    return units % REFRESH_EVERY == 0 or units in _REFRESH_EARLY


def check_unit(rho: float, y: float) -> None:
    """Raises `ValueError` unless 0 < rho < 1 and 0 <= y <= 1."""
    if not (0.0 < rho < 1.0 and 0.0 <= y <= 1.0):
        raise ValueError(f"unit with rho={rho} and outcome y={y}: needs 0 < rho < 1, 0 <= y <= 1")


class RaeState(TypedDict):
    """What an e-process has to remember, in JSON's types.

    `logs` holds a row for each start of the process (the first and the restarts so far) with the
    logarithm of each alternative's weighted product; `rate` is the champion rate the bets use now.
    """

    units: int
    champion_units: int
    champion_bad: float
    rate: float
    logs: list[list[float]]
    log_e: float
    log_e_max: float


class _EProcess:
    """What the two e-processes share: plug-in rate, tables of bets, mixture, restarts."""

    worse: bool
    restart_weight: float

    def __init__(self, gap: float, prior_rate: float, prior_units: float) -> None:
        if not (0.0 <= gap < 1.0 and 0.0 <= prior_rate <= 1.0 and prior_units > 0.0):
            raise ValueError(
                f"gap={gap} must be in [0, 1), prior_rate={prior_rate} in [0, 1], "
                f"prior_units={prior_units} above 0"
            )
        self._gap = gap
        self._prior_rate = prior_rate
        self._prior_units = prior_units
        self._units = 0
        self._champion_units = 0
        self._champion_bad = 0.0
        self._set_rate(prior_rate)
        self._logs = [self._start(0)]
        self._log_e = 0.0
        self._log_e_max = 0.0

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._log_e

    @property
    def log_e_max(self) -> float:
        """Its highest value so far. The error guarantee is about this one."""
        return self._log_e_max

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcome in [0, 1]."""
        check_unit(rho, y)
        started = len(self._logs)
        if (
            self.restart_weight
            and self._units
            and self._units % RESTART_EVERY == 0
            and started <= RESTARTS_MAX
        ):
            self._logs.append(self._start(started))
        steps = (self._tables.get(rho) or self._table(rho)).logs(canary, y)
        self._logs = [
            [log + step for log, step in zip(row, steps, strict=True)] for row in self._logs
        ]
        self._log_e = self._combine()
        self._log_e_max = max(self._log_e_max, self._log_e)
        self._units += 1
        if not canary:
            self._champion_units += 1
            self._champion_bad += y
        if refresh_due(self._units):
            self._set_rate(
                (self._champion_bad + self._prior_units * self._prior_rate)
                / (self._champion_units + self._prior_units)
            )

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units (of both arms) until E reaches `threshold`, if these failure rates go on.

        By the growth of each alternative's product; None if none grows.
        """
        table = self._tables.get(rho) or self._table(rho)
        best: float | None = None
        for k in range(len(table.bets)):
            growth = rho * (
                canary_rate * table.canary_bad[k] + (1 - canary_rate) * table.canary_good[k]
            ) + (1 - rho) * (
                champion_rate * table.champion_bad[k] + (1 - champion_rate) * table.champion_good[k]
            )
            if growth <= 0:
                continue
            missing = math.log(threshold) - max(row[k] for row in self._logs)
            more = max(0.0, missing / growth)
            best = more if best is None else min(best, more)
        return best

    def state(self) -> RaeState:
        """Everything that `restore` needs to go on with identical results."""
        return RaeState(
            units=self._units,
            champion_units=self._champion_units,
            champion_bad=self._champion_bad,
            rate=self._rate,
            logs=[list(row) for row in self._logs],
            log_e=self._log_e,
            log_e_max=self._log_e_max,
        )

    def restore(self, state: RaeState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        if any(len(row) != len(self._weights()) for row in state["logs"]):
            raise ValueError("state of another kind of e-process: the alternatives do not match")
        self._units = state["units"]
        self._champion_units = state["champion_units"]
        self._champion_bad = state["champion_bad"]
        self._set_rate(state["rate"])
        self._logs = [list(row) for row in state["logs"]]
        self._log_e = state["log_e"]
        self._log_e_max = state["log_e_max"]

    def _alternatives(self, rate: float) -> list[Rates]:
        """The pairs (canary rate, champion rate) that are bet on while `rate` is the estimate."""
        raise NotImplementedError

    def _weights(self) -> list[float]:
        raise NotImplementedError

    def _start(self, number: int) -> list[float]:
        weight = self.restart_weight
        share = 1.0 - weight if number == 0 else weight / (number * (number + 1))
        return [math.log(share * w) for w in self._weights()]

    def _combine(self) -> float:
        waiting = self.restart_weight / len(self._logs)
        peak = max(max(row) for row in self._logs)
        if waiting:
            peak = max(peak, math.log(waiting))
        total = sum(math.exp(log - peak) for row in self._logs for log in row)
        if waiting:
            total += waiting * math.exp(-peak)
        return peak + math.log(total)

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        self._pairs = self._alternatives(rate)
        self._tables: dict[float, BetTable] = {}

    def _table(self, rho: float) -> BetTable:
        if len(self._tables) >= _TABLES_MAX:
            self._tables.clear()
        table = BetTable([bet(c, b, rho, self._gap, worse=self.worse) for c, b in self._pairs])
        self._tables[rho] = table
        return table


class BinaryRae(_EProcess):
    """Evidence against "the canary fails at most `tol` more often than the champion".

    Roll back when `exp(log_e_max) >= 1/alpha`: a canary that is no worse is rolled back with
    probability at most alpha. The alternatives lie `d` above the champion's rate plus `tol`, `d` on
    a geometric grid from the smallest that 10,000 canary units could show up to a gross failure.
    """

    worse = True
    restart_weight = _RESTART_WEIGHT

    def __init__(
        self, *, tol: float, alpha: float, prior_rate: float, prior_units: float = 100.0
    ) -> None:
        """`prior_rate`: the champion's expected failure rate, worth `prior_units` observations."""
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha={alpha} must be between 0 and 1")
        self._nats = math.log(1 / alpha)
        super().__init__(tol, prior_rate, prior_units)

    def _alternatives(self, rate: float) -> list[Rates]:
        champion = min(max(rate, RATE_MIN), 0.98 - self._gap)
        base = champion + self._gap
        top = max(_TOP_RATE, (1 + base) / 2) - base
        smallest = bisect(
            lambda d: kl(base + d, base) * _BUDGET_CANARY_UNITS - self._nats, 0.0, top / 2
        )
        ratio = (top / smallest) ** (1 / (ALTERNATIVES - 1))
        return [(base + smallest * ratio**k, champion) for k in range(ALTERNATIVES)]

    def _weights(self) -> list[float]:
        raw = [math.exp(-_ALTERNATIVE_DECAY * k) for k in range(ALTERNATIVES)]
        return [weight / sum(raw) for weight in raw]


class NonInferiorityRae(_EProcess):
    """Evidence against "the canary fails at least `margin` more often than the champion".

    Promote when `exp(log_e) >= 1/beta`: a canary that is worse by the margin or more is promoted
    with probability at most beta. The alternatives: as good as the champion, better by half a
    margin, better by two margins (this one lets a clearly better release through early).
    """

    worse = False
    restart_weight = 0.0

    def __init__(self, *, margin: float, prior_rate: float, prior_units: float = 100.0) -> None:
        """`prior_rate`: the champion's expected failure rate, worth `prior_units` observations."""
        if margin <= 0.0:
            raise ValueError(f"margin={margin} must be above 0")
        super().__init__(margin, prior_rate, prior_units)

    def _alternatives(self, rate: float) -> list[Rates]:
        champion = min(max(rate, RATE_MIN), 0.98 - self._gap)
        least = champion / 5
        return [(max(champion - below * self._gap, least), champion) for below in (0.0, 0.5, 2.0)]

    def _weights(self) -> list[float]:
        return [0.55, 0.2, 0.25]


def kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions, in nats; q in (0, 1)."""
    value = 0.0
    if p > 0:
        value += p * math.log(p / q)
    if p < 1:
        value += (1 - p) * math.log((1 - p) / (1 - q))
    return value
