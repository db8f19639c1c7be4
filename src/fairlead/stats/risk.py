"""The bet with a risk covariate: some requests are harder than others, and that is known before.

What makes a request likely to fail (its length, its topic, the language, a classifier's guess) is
known before it is assigned and does not depend on the arm. Sorted by it into strata, each with the
champion's rate of its own, a failure among the easy tells more than one among the hard. The
alternatives are odds ratios, the same for all strata. The more the strata differ, the fewer
requests are needed.

A tenth of the capital is bet on each stratum by itself, in equal parts. It costs ln(1/0.9), a
fiftieth of what the evidence has to reach, and finds a canary that is worse in one stratum alone,
whatever it is in the others.

The null is stronger than without: "in *no* stratum does the canary fail more often than the
champion, by more than the tolerance". A canary that is worse on one kind of request and better on
another is found.

The rates steer the bets, and a wrong one costs speed alone. A stratum's rate is estimated from its
own champion units, and as long as these are few, from all: its expected rate, times how much more
the champion failed in all strata than was expected (indirect standardisation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fairlead.stats.bets import BetTable, bet
from fairlead.stats.rae import RATE_MIN, REFRESH_FROM, BinaryRae, check_unit
from fairlead.stats.rae_state import RaeState, StratumState

_LOG_MAX = 690.0
_LOG_ODDS_MAX, _HALVINGS = 16.0, 50
_RATE_MAX = 0.98
_TABLES_MAX = 1024
_OWN_WEIGHT = 0.1
"""Of the capital, what is bet on single strata."""


class RiskRae(BinaryRae):
    """Evidence against "in no stratum the canary fails over `tol` more often than the champion".

    Otherwise like `BinaryRae`: alternatives around the rate of all strata together, restarts, looks
    every 50 units. `weights` and the state's `logs` have the alternatives for all strata together,
    and then those for each stratum by itself.
    """

    def __init__(
        self,
        *,
        alpha: float,
        prior_rates: Sequence[float],
        prior_units: float = 100.0,
        stratum_units: float | None = None,
        tol: float = 0.0,
    ) -> None:
        """A test on as many strata as there are rates.

        Args:
            prior_rates: The champion's expected failure rate in each stratum.
            prior_units: How many observations these are worth, all strata together.
            stratum_units: How many the standardised rate is worth in each stratum; if not given, an
                equal part of `prior_units`.
        """
        if not prior_rates or not all(0.0 <= rate <= 1.0 for rate in prior_rates):
            raise ValueError(f"prior_rates={prior_rates} must be rates, at least one")
        if stratum_units is not None and not stratum_units > 0.0:
            raise ValueError(f"stratum_units={stratum_units} must be above 0")
        strata = len(prior_rates)
        self._prior_rates = [min(max(rate, RATE_MIN), _RATE_MAX) for rate in prior_rates]
        self._stratum_units = prior_units / strata if stratum_units is None else stratum_units
        self._strata_units = [0] * strata
        self._strata_bad = [0.0] * strata
        self._rates = list(self._prior_rates)
        super().__init__(
            tol=tol,
            alpha=alpha,
            prior_rate=sum(self._prior_rates) / strata,
            prior_units=prior_units,
        )
        self._block = [0, 0, 0, 0] * strata

    @property
    def rates(self) -> list[float]:
        """The champion's rate in each stratum, as it is bet on now."""
        return list(self._rates)

    @property
    def foremost(self) -> int | None:
        """The stratum whose own bets have gained most; None while none has gained anything."""
        logs, each = self._with_block(), len(self._pairs)
        own = [
            sum(math.exp(min(log, _LOG_MAX)) for log in logs[each * place : each * (place + 1)])
            for place in range(1, len(self._rates) + 1)
        ]
        most = max(own)
        return own.index(most) if most > _OWN_WEIGHT / len(own) else None

    def update(self, canary: bool, rho: float, y: float, stratum: int = 0) -> None:
        """Take in a unit: arm, probability of the canary arm, outcome in [0, 1], its stratum."""
        check_unit(rho, y)
        self._turn_to(stratum)
        if not canary:
            self._strata_units[stratum] += 1
            self._strata_bad[stratum] += y
        super().update(canary, rho, y)

    def update_counts(
        self,
        rho: float,
        canary: int,
        canary_bad: int,
        champion: int,
        champion_bad: int,
        stratum: int = 0,
    ) -> None:
        """Take in units of one share and one stratum at once, as `BinaryRae.update_counts`."""
        self._turn_to(stratum)
        if 0 <= champion_bad <= champion:
            self._strata_units[stratum] += champion
            self._strata_bad[stratum] += champion_bad
        super().update_counts(rho, canary, canary_bad, champion, champion_bad)

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units (of both arms) until E reaches `threshold`, if these failure rates go on.

        The mix of strata and the champion's rate in each are those of its units so far. How often
        the canary fails in each is not known of so few units: the odds ratio is taken to be the
        same in all, as the alternatives have it, and to be the one that makes the difference of
        these rates. None if no product grows.
        """
        logs, strata = self._with_block(), len(self._rates)
        units = sum(self._strata_units)
        mix = [own / units if units else 1 / strata for own in self._strata_units]
        champion = [_inside(rate) for rate in self._rates]
        canary = _with_excess(champion, mix, canary_rate - champion_rate)
        whole = [0.0] * len(self._pairs)
        growths = [whole]
        for stratum, (share, c, b) in enumerate(zip(mix, canary, champion, strict=True)):
            own = [share * each for each in self.table(rho, stratum).growths(rho, c, b)]
            growths.append(own)
            for place, each in enumerate(own):
                whole[place] += each
        growing = zip(logs, [each for own in growths for each in own], strict=True)
        needed = math.log(threshold)
        return min(
            (max(0.0, (needed - log) / growth) for log, growth in growing if growth > 0.0),
            default=None,
        )

    def state(self) -> RaeState:
        """Everything that `restore` needs to go on with identical results."""
        state = super().state()
        state["strata"] = [
            StratumState(champion_units=units, champion_bad=bad, rate=rate)
            for units, bad, rate in zip(
                self._strata_units, self._strata_bad, self._rates, strict=True
            )
        ]
        return state

    def restore(self, state: RaeState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        strata = state.get("strata", [])
        if len(strata) != len(self._prior_rates):
            raise ValueError("state of a process with other strata")
        super().restore(state)
        self._strata_units = [kept["champion_units"] for kept in strata]
        self._strata_bad = [kept["champion_bad"] for kept in strata]
        self._rates = [kept["rate"] for kept in strata]

    def table(self, rho: float, stratum: int) -> BetTable:
        """The bets on a unit of this stratum, as long as the rates are not taken anew."""
        known = self._strata_tables.get((rho, stratum))
        if known is not None:
            return known
        b = min(max(self._rates[stratum], RATE_MIN), _RATE_MAX - self._gap)
        base = b + self._gap
        bets = [
            bet(ratio * base / (1 - base + ratio * base), b, rho, self._gap, worse=True)
            for ratio in self._odds_ratios
        ]
        if len(self._strata_tables) >= _TABLES_MAX:
            self._strata_tables.clear()
        made = self._strata_tables[rho, stratum] = BetTable(bets)
        return made

    def _turn_to(self, stratum: int) -> None:
        if not 0 <= stratum < len(self._rates):
            raise ValueError(f"stratum {stratum}: there are {len(self._rates)}, from 0")
        self._at = 4 * stratum

    def _bets(self, rho: float) -> BetTable:
        return self.table(rho, self._at // 4)

    def _weights(self) -> list[float]:
        whole, strata = super()._weights(), len(self._prior_rates)
        own = [_OWN_WEIGHT / strata * weight for weight in whole]
        return [(1 - _OWN_WEIGHT) * weight for weight in whole] + own * strata

    def _grown(self, logs: list[float], gains: list[float]) -> list[float]:
        _grow(self._at // 4, logs, gains)
        return logs

    def _with_block(self) -> list[float]:
        """The products with the bets of the block, stratum by stratum."""
        block = self._block
        if not any(block):
            return self._logs
        logs = list(self._logs)
        for stratum in range(len(self._rates)):
            a, b, c, d = block[4 * stratum : 4 * stratum + 4]
            if a or b or c or d:
                rows = self.table(self._rho, stratum).rows
                gains = [
                    a * bad + b * good + c * their_bad + d * their_good
                    for bad, good, their_bad, their_good in rows
                ]
                _grow(stratum, logs, gains)
        return logs

    def _refresh(self, rate: float) -> None:
        """Bet by these rates from now on where they differ enough to matter.

        `rate` is that of all units together: the odds ratios come from it.
        """
        told, worth = self._prior_units * self._prior_rate, self._stratum_units
        expected = told + sum(
            units * prior
            for units, prior in zip(self._strata_units, self._prior_rates, strict=True)
        )
        ratio = (told + self._champion_bad) / expected
        moved = {
            stratum
            for stratum, (bad, units, prior) in enumerate(
                zip(self._strata_bad, self._strata_units, self._prior_rates, strict=True)
            )
            if self._moves(stratum, (bad + worth * min(prior * ratio, 1.0)) / (units + worth))
        }
        before = self._rate
        super()._refresh(rate)
        if self._rate == before:
            for stale in [at for at in self._strata_tables if at[1] in moved]:
                del self._strata_tables[stale]

    def _moves(self, stratum: int, rate: float) -> bool:
        """Take a stratum's rate anew if it differs enough; whether it does."""
        if abs(rate - self._rates[stratum]) <= REFRESH_FROM * self._rates[stratum]:
            return False
        self._rates[stratum] = rate
        return True

    def _set_rate(self, rate: float) -> None:
        super()._set_rate(rate)
        self._odds_ratios = [_odds(c) / _odds(b + self._gap) for c, b in self._pairs]
        self._strata_tables: dict[tuple[float, int], BetTable] = {}


def _grow(stratum: int, logs: list[float], gains: list[float]) -> None:
    """Add one bet more of each to the products of all strata, and to this one's by itself."""
    own = len(gains) * (stratum + 1)
    for place, gain in enumerate(gains):
        logs[place] += gain
        logs[own + place] += gain


def _with_excess(champion: list[float], mix: list[float], excess: float) -> list[float]:
    """The canary's rates, by one odds ratio in all strata, that are higher by this on the whole.

    The odds ratio of pooled rates is another one: it is nearer to 1 (it does not collapse).
    """
    low, high = -_LOG_ODDS_MAX, _LOG_ODDS_MAX
    found = champion
    for _ in range(_HALVINGS):
        ratio = math.exp((low + high) / 2)
        found = [ratio * b / (1 - b + ratio * b) for b in champion]
        more = sum(share * (c - b) for share, c, b in zip(mix, found, champion, strict=True))
        if more < excess:
            low = (low + high) / 2
        else:
            high = (low + high) / 2
    return found


def _inside(rate: float) -> float:
    return min(max(rate, RATE_MIN), _RATE_MAX)


def _odds(rate: float) -> float:
    return rate / (1 - rate)
