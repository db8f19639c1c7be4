"""Has a sequence changed? Evidence by ranks, valid at every look over any horizon.

Each number says how far one round is from a fixed reference (0 is nearest). While nothing changes,
rounds are exchangeable: the rank of the newest among all so far is uniform, independently of the
ranks before it, whatever the distribution is (Vovk, Gammerman, Shafer 2005, *Algorithmic Learning
in a Random World*). A bet "the change came with round j" says that the newest round is further off
than all rounds before j: that its rank is among the m + 1 furthest of n + 1, m being the rounds
since j. It wins q / ((m + 1) / (n + 1)) if so, else (1 - q) over the rest; the mean under no change
is 1. Equal numbers rank as if the newest were nearest, which can only lose.

The evidence is the average of the bets over j and q, with weights that sum to 1; those still to
begin count 1. It reaches 1/alpha with a probability of at most alpha, ever (Ville's inequality). A
bet that has nearly lost its capital is let go of, which loses that and no more; one for which
nearly all ranks would win bets nothing any more, and its capital is put aside.

Numbers are kept as counts on a grid: what has to be remembered stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TypedDict

GRID = 0.002
"""Step to which numbers are rounded."""
LARGEST = 4.0
"""Numbers beyond count as this one."""
HOPES = (0.6, 0.8, 0.95)
"""How sure a bet is that the newest round is one of the furthest (q)."""
SPREAD = 24.0
"""The change is as likely to come within the first so many rounds as after them."""
LOST = 1e-4
"""A bet with less than this share of its first capital is let go of."""
BETS_MAX = 400
PLAUSIBLE = 0.03
"""A round may be that of the change while the bet on it has this share of what the best one has."""


class ChangeState(TypedDict):
    """What a `ChangeTest` has to remember, in JSON's types.

    `counts`: how many rounds had each number, in grid steps. `bets`: by the round with which the
    change came, the capital under each hope, the weight of the bet included; `aside`: what those
    have that bet no more.
    """

    rounds: int
    counts: dict[str, int]
    bets: dict[str, list[float]]
    aside: float
    e_max: float


def empty_state() -> ChangeState:
    """Of a test that has seen nothing."""
    return ChangeState(rounds=0, counts={}, bets={}, aside=0.0, e_max=1.0)


def is_state(state: ChangeState) -> bool:
    """Whether a test can go on from this, which was kept by whoever."""
    capital = [each for bet in state["bets"].values() for each in bet]
    keys = [*state["counts"], *state["bets"]]
    return (
        all(key.isdecimal() and len(key) < 10 for key in keys)
        and all(count > 0 for count in state["counts"].values())
        and sum(state["counts"].values()) == state["rounds"]
        and all(len(bet) == len(HOPES) for bet in state["bets"].values())
        and all(
            math.isfinite(each) and each >= 0 for each in [*capital, state["aside"], state["e_max"]]
        )
    )


class ChangeTest:
    """Evidence that the numbers have come to be larger."""

    def __init__(self, state: ChangeState | None = None) -> None:
        kept = empty_state() if state is None else state
        self._rounds = kept["rounds"]
        self._counts = {int(step): count for step, count in kept["counts"].items()}
        self._bets = {int(begun): list(capital) for begun, capital in kept["bets"].items()}
        self._aside = kept["aside"]
        self._e_max = kept["e_max"]

    @property
    def rounds(self) -> int:
        """Rounds seen so far."""
        return self._rounds

    @property
    def e(self) -> float:
        """The evidence now."""
        to_begin = SPREAD / (SPREAD + self._rounds)
        return sum(map(sum, self._bets.values())) + self._aside + to_begin

    @property
    def e_max(self) -> float:
        """The highest evidence so far."""
        return self._e_max

    @property
    def beginnings(self) -> dict[int, float]:
        """The capital of the bets, by the round (from 0) with which each says the change came."""
        return {begun: sum(capital) for begun, capital in self._bets.items()}

    def update(self, distance: float) -> None:
        """Take in a round: how far it is from the reference, 0 or more."""
        if not distance >= 0.0:
            raise ValueError(f"distance {distance}: must be 0 or more")
        step = round(min(distance, LARGEST) / GRID)
        before = self._rounds
        rank = 1 + sum(count for at, count in self._counts.items() if at >= step)
        self._bets[before] = [_weight(before) / len(HOPES)] * len(HOPES)
        for begun, capital in list(self._bets.items()):
            self._bets[begun] = _settled(capital, rank, before - begun + 1, before + 1)
        self._let_go()
        self._counts[step] = self._counts.get(step, 0) + 1
        self._rounds += 1
        self._e_max = max(self._e_max, self.e)

    def _let_go(self) -> None:
        rounds = self._rounds + 1
        bets = {}
        for begun, capital in self._bets.items():
            if rounds - begun >= max(HOPES) * rounds:
                self._aside += sum(capital)
            elif sum(capital) >= LOST * _weight(begun):
                bets[begun] = capital
        if len(bets) > BETS_MAX:
            kept = sorted(bets, key=lambda begun: sum(bets[begun]), reverse=True)[:BETS_MAX]
            bets = {begun: bets[begun] for begun in sorted(kept)}
        self._bets = bets

    def state(self) -> ChangeState:
        """Everything that a test goes on from with identical results."""
        return ChangeState(
            rounds=self._rounds,
            counts={str(step): count for step, count in sorted(self._counts.items())},
            bets={str(begun): list(capital) for begun, capital in self._bets.items()},
            aside=self._aside,
            e_max=self._e_max,
        )


def rounds_changed(tests: Collection[ChangeTest]) -> int:
    """How many of the last rounds may well have come after the change, by tests of the same rounds.

    The bet on the round with which the change came wins more than any other. Of the rounds whose
    bets, over all tests, have a good part of what the best one has, the earliest counts.
    """
    capital: dict[int, float] = {}
    for test in tests:
        for begun, each in test.beginnings.items():
            capital[begun] = capital.get(begun, 0.0) + each
    rounds = max(test.rounds for test in tests)
    least = PLAUSIBLE * max(capital.values(), default=0.0)
    return rounds - min((begun for begun, each in capital.items() if each >= least), default=0)


def _weight(begun: int) -> float:
    """Of the bet that the change came with this round."""
    return SPREAD / ((SPREAD + begun) * (SPREAD + begun + 1.0))


def _settled(capital: list[float], rank: int, furthest: int, rounds: int) -> list[float]:
    """What the bets have after the newest round's rank; `furthest` of all `rounds` win."""
    share = furthest / rounds
    if share >= 1.0:  # All ranks are among the furthest: there is nothing to bet on.
        return capital
    if rank <= furthest:
        return [each * max(hope, share) / share for each, hope in zip(capital, HOPES, strict=True)]
    return [
        each * (1.0 - max(hope, share)) / (1.0 - share)
        for each, hope in zip(capital, HOPES, strict=True)
    ]
