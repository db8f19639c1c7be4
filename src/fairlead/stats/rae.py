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
from typing import Literal

from fairlead.stats.bets import BetTable, bet
from fairlead.stats.rae_state import RaeState as RaeState
from fairlead.stats.special import smallest_effect, sum_of_logs

RATE_MIN = 1e-4
_LOG_MIN = -600.0
LOOK_EVERY = 50
"""Units between two looks that are remembered."""

REFRESH_EVERY = 200
REFRESH_FROM = 0.02
"""Relative change of the rate below which the bets stay as they are."""

_REFRESH_EARLY = (50, 100)
_TABLES_MAX = 64

ALTERNATIVES = 12
_WEIGHT_CENTRE, _WEIGHT_WIDTH, _WEIGHT_EVEN = 3.0, 2.0, 0.1
"""Nine tenths of the capital lie on effects some 1.5 to 7 times the smallest detectable one, in the
shape of a bell; a tenth evenly on all. Gross effects need no capital: they show within some dozen
requests anyway."""


RESTART_EVERY = 5_000
_RESTART_WEIGHT = 0.1
"""Weight of all restarts together: it costs ln 1.11 at the start, and keeps a way to see a
regression that begins late after a long good time."""

Rates = tuple[float, float]


def refresh_due(units: int, before: int | None = None) -> bool:
    """Whether the estimated rates are taken anew after so many units.

    `before` is where the last look was, one unit earlier if not given.
    """
    since = units - 1 if before is None else before
    if units // REFRESH_EVERY > since // REFRESH_EVERY:
        return True
    return since < _REFRESH_EARLY[-1] and any(since < early <= units for early in _REFRESH_EARLY)


def restart_due(units: int, starts: int) -> bool:
    """Whether the next start is due after so many units, when so many have been made."""
    return units >= starts * RESTART_EVERY


def check_unit(rho: float, y: float) -> None:
    """Raises `ValueError` unless 0 < rho < 1 and 0 <= y <= 1."""
    if not (0.0 < rho < 1.0 and 0.0 <= y <= 1.0):
        raise ValueError(f"unit with rho={rho} and outcome y={y}: needs 0 < rho < 1, 0 <= y <= 1")


class _EProcess:
    """What the two e-processes share: plug-in rate, tables of bets, mixture, restarts.

    Outcomes of 0 and 1 are counted, and the counts are bet at once at each look (every
    `LOOK_EVERY` units) and where the share changes: the products are the same, and 50 requests cost
    what one does. A restart puts its capital on the running products: a start that began later has
    made the same bets since.
    """

    family: Literal["parts"] = "parts"
    worse: bool
    restart_weight: float
    _at = 0
    """Where in the block a unit is counted."""

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
        self._log_weights = [math.log(weight) for weight in self._weights()]
        first = math.log(1.0 - self.restart_weight) if self.restart_weight else 0.0
        self._logs = [first + log for log in self._log_weights]
        self._starts = 1
        self._block = [0, 0, 0, 0]
        self._rho = 0.5
        self._log_e_max = 0.0

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._combine(self._with_block())

    @property
    def log_e_max(self) -> float:
        """The highest of all looks and of now. The error guarantee is about this one."""
        return max(self._log_e_max, self.log_e)

    @property
    def gap(self) -> float:
        """The tolerance or margin."""
        return self._gap

    @property
    def alternatives(self) -> list[Rates]:
        """The pairs (canary rate, champion rate) that are bet on now."""
        return list(self._pairs)

    @property
    def weights(self) -> list[float]:
        """The capital that each alternative begins with, of 1."""
        return self._weights()

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcome in [0, 1]."""
        check_unit(rho, y)
        if rho != self._rho:
            self._settle(rho)
        if y == 1.0 or y == 0.0:
            self._block[self._at + (0 if canary else 2) + (y == 0.0)] += 1
        else:
            self._logs = self._grown(self._logs, self._bets(rho).logs(canary, y))
        self._units += 1
        if not canary:
            self._champion_units += 1
            self._champion_bad += y
        if self._units % LOOK_EVERY == 0:
            self._look()

    def update_counts(
        self, rho: float, canary: int, canary_bad: int, champion: int, champion_bad: int
    ) -> None:
        """Take in units of one share at once: how many on each arm, and how many of them failed.

        The same as one by one, to the last bit, where the counts end no later than the next
        multiple of `LOOK_EVERY` units; longer ones are looked at once, at their end.
        """
        if not (0.0 < rho < 1.0 and 0 <= canary_bad <= canary and 0 <= champion_bad <= champion):
            raise ValueError(
                f"rho={rho}, {canary_bad} of {canary} and {champion_bad} of {champion} failed"
            )
        if rho != self._rho:
            self._settle(rho)
        block, at = self._block, self._at
        block[at] += canary_bad
        block[at + 1] += canary - canary_bad
        block[at + 2] += champion_bad
        block[at + 3] += champion - champion_bad
        before = self._units
        self._units = before + canary + champion
        self._champion_units += champion
        self._champion_bad += champion_bad
        if self._units // LOOK_EVERY > before // LOOK_EVERY:
            self._look(before)

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units (of both arms) until E reaches `threshold`, if these failure rates go on.

        By the growth of each alternative's product; None if none grows.
        """
        logs = self._with_block()
        best: float | None = None
        for k, growth in enumerate(self._table(rho).growths(rho, canary_rate, champion_rate)):
            if growth <= 0:
                continue
            more = max(0.0, (math.log(threshold) - logs[k]) / growth)
            best = more if best is None else min(best, more)
        return best

    def state(self) -> RaeState:
        """Everything that `restore` needs to go on with identical results."""
        return RaeState(
            units=self._units,
            champion_units=self._champion_units,
            champion_bad=self._champion_bad,
            rate=self._rate,
            starts=self._starts,
            logs=list(self._logs),
            block=list(self._block),
            rho=self._rho,
            log_e_max=self._log_e_max,
        )

    def restore(self, state: RaeState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        if len(state["logs"]) != len(self._logs) or len(state["block"]) != len(self._block):
            raise ValueError("state of another kind of e-process: the alternatives do not match")
        self._units = state["units"]
        self._champion_units = state["champion_units"]
        self._champion_bad = state["champion_bad"]
        self._set_rate(state["rate"])
        self._starts = state["starts"]
        self._logs = list(state["logs"])
        self._block = list(state["block"])
        self._rho = state["rho"]
        self._log_e_max = state["log_e_max"]

    def _alternatives(self, rate: float) -> list[Rates]:
        """The pairs (canary rate, champion rate) that are bet on while `rate` is the estimate."""
        raise NotImplementedError

    def _weights(self) -> list[float]:
        raise NotImplementedError

    def _with_block(self) -> list[float]:
        """The products with the bets of the block."""
        block = self._block
        if not any(block):
            return self._logs
        a, b, c, d = block
        return [
            log + (a * bad + b * good + c * their_bad + d * their_good)
            for log, (bad, good, their_bad, their_good) in zip(
                self._logs, self._table(self._rho).rows, strict=True
            )
        ]

    def _grown(self, logs: list[float], gains: list[float]) -> list[float]:
        """The products with one more bet of each alternative."""
        return [log + gain for log, gain in zip(logs, gains, strict=True)]

    def _settle(self, rho: float) -> None:
        """Put the block into the products; the next one is at this share."""
        self._logs = self._with_block()
        self._block = [0] * len(self._block)
        self._rho = rho

    def _look(self, before: int | None = None) -> None:
        """What is due after a block: the highest evidence, restarts, the rate taken anew."""
        self._settle(self._rho)
        self._log_e_max = max(self._log_e_max, self._combine(self._logs))
        while self.restart_weight and restart_due(self._units, self._starts):
            share = math.log(self.restart_weight / (self._starts * (self._starts + 1)))
            self._logs = [
                sum_of_logs(log, share + weight)
                for log, weight in zip(self._logs, self._log_weights, strict=True)
            ]
            self._starts += 1
        if refresh_due(self._units, before):
            rate = (self._champion_bad + self._prior_units * self._prior_rate) / (
                self._champion_units + self._prior_units
            )
            self._refresh(rate)

    def _refresh(self, rate: float) -> None:
        """Bet by this champion rate from now on, if it differs enough to matter."""
        if abs(rate - self._rate) > REFRESH_FROM * self._rate:
            self._set_rate(rate)

    def _combine(self, logs: list[float]) -> float:
        """The logarithm of the evidence: all products, and the capital of starts to come."""
        waiting = self.restart_weight / self._starts
        peak = max(logs)
        exp = math.exp
        total = sum([exp(log - peak) for log in logs])
        if not waiting:
            return peak + math.log(total)
        if peak > _LOG_MIN:
            return peak + math.log(total + waiting * exp(-peak))
        return sum_of_logs(peak + math.log(total), math.log(waiting))

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        self._pairs = self._alternatives(rate)
        self._tables: dict[float, BetTable] = {}

    def _bets(self, rho: float) -> BetTable:
        """The bets on the unit that is taken in."""
        return self._table(rho)

    def _table(self, rho: float) -> BetTable:
        known = self._tables.get(rho)
        if known is not None:
            return known
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

    BUDGET_CANARY_UNITS = 10_000
    TOP_RATE = 0.6
    worse = True
    restart_weight = _RESTART_WEIGHT

    def __init__(
        self, *, tol: float, alpha: float, prior_rate: float, prior_units: float = 100.0
    ) -> None:
        """`prior_rate`: the champion's expected failure rate, worth `prior_units` observations."""
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha={alpha} must be between 0 and 1")
        self.nats = math.log(1 / alpha)
        """What the evidence has to reach, as a logarithm."""
        super().__init__(tol, prior_rate, prior_units)

    def _alternatives(self, rate: float) -> list[Rates]:
        champion = min(max(rate, RATE_MIN), 0.98 - self._gap)
        base = champion + self._gap
        top = max(self.TOP_RATE, (1 + base) / 2) - base
        smallest = smallest_effect(base, self.nats / self.BUDGET_CANARY_UNITS, top / 2)
        ratio = (top / smallest) ** (1 / (ALTERNATIVES - 1))
        return [(base + smallest * ratio**k, champion) for k in range(ALTERNATIVES)]

    def _weights(self) -> list[float]:
        places = [(k - _WEIGHT_CENTRE) / _WEIGHT_WIDTH for k in range(ALTERNATIVES)]
        bell = [math.exp(-place * place / 2) for place in places]
        return [
            (1 - _WEIGHT_EVEN) * weight / sum(bell) + _WEIGHT_EVEN / ALTERNATIVES for weight in bell
        ]


class NonInferiorityRae(_EProcess):
    """Evidence against "the canary fails at least `margin` more often than the champion".

    Promote when `exp(log_e) >= 1/beta`: a canary that is worse by the margin or more is promoted
    with probability at most beta. The alternatives: as good as the champion, better by half a
    margin, better by two margins (this one lets a clearly better release through early).
    """

    BETTER_BY = (0.0, 0.5, 2.0)
    """How much better than the champion the alternatives are, in margins."""

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
        return [(max(champion - below * self._gap, least), champion) for below in self.BETTER_BY]

    def _weights(self) -> list[float]:
        return [0.55, 0.2, 0.25]
