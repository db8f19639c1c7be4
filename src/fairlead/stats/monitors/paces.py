"""What a time is to what is usual at its load and length, learnt as requests come.

To compare those who ask for different things. In each group of requests (a kind, a class of
lengths) the logarithm of the time goes with those of one more than the tokens of prompt and answer:
both slopes are fitted to the group's first requests, around the means at each load (ordinary least
squares within classes of load; clipped to what can be). The first requests at a load say then what
is usual there. A request says nothing while that is learnt, nor far from the lengths by which the
slopes are known: nobody is called slow for prompts that were never seen before.

One who has become slow brings about loads that nobody knows, and would be what is usual at them.
So those who ask are told apart there, each by how slow it was at first: what is usual at a further
load is the lower median of their means, all that ask little taken together.

No time is kept, only sums: some numbers for each group and load.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from zlib import crc32

from fairlead.stats.monitors.timings import load_class

SLOPES_OF = 400
"""Requests of a group by which the slopes are fitted."""
USUAL_OF = 50
"""Requests of a group at a load that say what is usual there."""
LEVEL_OF = 30
"""First times of one who asks, at loads that are known, that say how slow it is."""
ASKED_MIN = 5
"""With so many of the requests at a load one who asks is told from the rest."""
WHO_MAX = 20
"""So many who ask are told apart in a group."""
GROUPS_MAX = 40
LOADS_MAX = 60
SPREADS = 2.5
"""Lengths are known up to so many standard deviations from the mean,"""
SLACK = 0.05
"""and so much further, on the scale of logarithms."""
SLOPE_OF_PROMPT = (0.0, 1.2)
SLOPE_OF_ANSWER = (-1.0, 1.0)
_SUMS = 9
"""Number, sums of both lengths and of the time, of squares and of products of these."""

UsualState = dict[str, list[list[float]]]
"""By group: sums or usual times at each load, each after its class, and what is fitted first.

Where it is still learnt what is usual at a load, the sums of each who asks follow, after a number
for its name. A row that begins with -1 has the same of how slow each was at first."""
_REST = -1
"""In place of the number of those who are not told apart."""
_LEVELS = -1.0


class Lengths(NamedTuple):
    """Tokens of a prompt and of an answer; 0 where they do not matter."""

    prompt: int
    answer: int


class _Fitted(NamedTuple):
    """Slopes, and the means and deviations of the lengths that they are fitted to."""

    prompt: float
    answer: float
    prompt_mean: float
    answer_mean: float
    prompt_spread: float
    answer_spread: float


class _Group:
    """Requests that are compared with each other."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: dict[int, list[float]] = {}
        self.fitted: _Fitted | None = None
        self.usual: dict[int, list[float]] = {}
        self.learning: dict[int, dict[int, list[float]]] = {}
        self.levels: dict[int, list[float]] = {}

    def relative(
        self, log: float, load: int, prompt: float, answer: float, who: int
    ) -> float | None:
        if self.fitted is None:
            self._learn(log, load, prompt, answer)
            return None
        fit = self.fitted
        apart = prompt - fit.prompt_mean, answer - fit.answer_mean
        if abs(apart[0]) > SPREADS * fit.prompt_spread + SLACK:
            return None
        if abs(apart[1]) > SPREADS * fit.answer_spread + SLACK:
            return None
        adjusted = log - fit.prompt * apart[0] - fit.answer * apart[1]
        known = self.usual.get(load)
        if known is None:
            if len(self.usual) >= LOADS_MAX:
                return None
            known = self.usual[load] = [0.0, 0.0]
        if known[0] < USUAL_OF:
            self._learn_load(known, adjusted, load, who)
            return None
        found = adjusted - known[1] / known[0]
        self._learn_level(found, who)
        return found

    def _learn_level(self, log: float, who: int) -> None:
        level = self.levels.get(who)
        if level is None:
            if len(self.levels) >= WHO_MAX:
                return
            level = self.levels[who] = [0.0, 0.0]
        if level[0] < LEVEL_OF:
            _add(level, log)

    def _learn_load(self, known: list[float], adjusted: float, load: int, who: int) -> None:
        by_whom = self.learning.setdefault(load, {})
        level = self.levels.get(who)
        if level is None or level[0] < LEVEL_OF:
            _add(by_whom.setdefault(_REST, [0.0, 0.0]), adjusted)
        else:
            _add(by_whom.setdefault(who, [0.0, 0.0]), adjusted - level[1] / level[0])
        _add(known, adjusted)
        if known[0] >= USUAL_OF:
            del self.learning[load]
            means = _means(by_whom)
            if means:
                known[1] = known[0] * means[(len(means) - 1) // 2]

    def _learn(self, log: float, load: int, prompt: float, answer: float) -> None:
        sums = self.sums.get(load)
        if sums is None:
            if len(self.sums) >= LOADS_MAX:
                return
            sums = self.sums[load] = [0.0] * _SUMS
        added = (
            1.0, prompt, answer, log, prompt * prompt, prompt * answer, answer * answer,
            prompt * log, answer * log,
        )  # fmt: skip
        for place, value in enumerate(added):
            sums[place] += value
        self.n += 1
        if self.n >= SLOPES_OF:
            self.fitted = _fitted(list(self.sums.values()))
            self.sums = {}


class Usual:
    """What is usual, by group, load and length."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    @property
    def is_known(self) -> bool:
        """Whether it is of any group."""
        return any(group.fitted is not None for group in self._groups.values())

    @property
    def learnt(self) -> int:
        """Requests of the group of which most is known, at most `SLOPES_OF`."""
        return max((group.n for group in self._groups.values()), default=0)

    def relative(
        self, value: float, load: float, group: str, lengths: Lengths, who: str = ""
    ) -> float | None:
        """The logarithm of a time over the usual one; None while that is not known.

        Learns from it as long as it is not.

        Args:
            who: Whose request it is.
        """
        if not 0.0 < value < math.inf:
            raise ValueError(f"time {value}: must be a number above 0")
        known = self._groups.get(group)
        if known is None:
            if len(self._groups) >= GROUPS_MAX:
                return None
            known = self._groups[group] = _Group()
        prompt, answer = (math.log1p(max(0, tokens)) for tokens in lengths)
        of = crc32(who.encode())
        return known.relative(math.log(value), load_class(load), prompt, answer, of)

    def state(self) -> UsualState:
        """Everything that `restore` needs to go on with identical results."""
        found: UsualState = {}
        for name, group in self._groups.items():
            if group.fitted is None:
                rows = [[float(load), *sums] for load, sums in group.sums.items()]
                found[name] = [[float(group.n)], *rows]
            else:
                rows = [
                    [float(load), *usual, *_flat(group.learning.get(load, {}))]
                    for load, usual in group.usual.items()
                ]
                if group.levels:
                    rows.append([_LEVELS, *_flat(group.levels)])
                found[name] = [[float(group.n), *group.fitted], *rows]
        return found

    def restore(self, state: UsualState) -> None:
        """Go on from a state; raises `ValueError`, and changes nothing, if it is damaged."""
        groups: dict[str, _Group] = {}
        if len(state) > GROUPS_MAX:
            raise ValueError(f"damaged state of usual times: {len(state)} groups")
        for name, (head, *rows) in state.items():
            groups[name] = _restored(name, head, rows)
        self._groups = groups


def _add(sums: list[float], value: float) -> None:
    sums[0] += 1.0
    sums[1] += value


def _means(by_whom: dict[int, list[float]]) -> list[float]:
    """Of each who asks enough, and of the rest, in order; none if nobody is told apart."""
    means, rest = [], [0.0, 0.0]
    for who, (n, total) in by_whom.items():
        if who != _REST and n >= ASKED_MIN:
            means.append(total / n)
        else:
            rest = [rest[0] + n, rest[1] + total]
    if means and rest[0] >= ASKED_MIN:
        means.append(rest[1] / rest[0])
    return sorted(means)


def _flat(by_whom: dict[int, list[float]]) -> list[float]:
    return [number for who, sums in by_whom.items() for number in (float(who), *sums)]


def _restored(name: str, head: list[float], rows: list[list[float]]) -> _Group:
    made = _Group()
    made.n = int(head[0])
    is_fitted = len(head) == 1 + len(_Fitted._fields)
    if is_fitted and rows and rows[-1][:1] == [_LEVELS]:
        made.levels = _by_whom(rows[-1][1:], most=LEVEL_OF, at_least=0)
        rows = rows[:-1]
    numbers = [*head, *(number for row in rows for number in row)]
    fits = (
        (is_fitted or len(head) == 1)
        and 0 <= made.n <= SLOPES_OF
        and is_fitted == (made.n == SLOPES_OF)
        and len(rows) <= LOADS_MAX
        and len(made.levels) <= WHO_MAX
        and all(_is_row(row, is_fitted=is_fitted) for row in rows)
        and all(math.isfinite(number) for number in numbers)
    )
    if not fits:
        raise ValueError(f"damaged state of usual times: group {name!r}")
    width = 3 if is_fitted else 1 + _SUMS
    by_load = {int(row[0]): [float(number) for number in row[1:width]] for row in rows}
    if is_fitted:
        made.fitted, made.usual = _Fitted(*map(float, head[1:])), by_load
        made.learning = {
            int(row[0]): _by_whom(row[3:], most=row[1], at_least=_REST)
            for row in rows
            if row[1] < USUAL_OF
        }
    else:
        made.sums = by_load
    return made


def _is_row(row: list[float], *, is_fitted: bool) -> bool:
    if not is_fitted:
        return len(row) == 1 + _SUMS and row[1] >= 1.0
    return len(row) >= 3 and row[1] >= 1.0 and (len(row) == 3 or row[1] < USUAL_OF)


def _by_whom(flat: list[float], *, most: float, at_least: int) -> dict[int, list[float]]:
    """Sums by the number of who asked; raises `ValueError` if they cannot be."""
    of = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    fits = (
        len(flat) % 3 == 0
        and all(map(math.isfinite, flat))
        and all(at_least <= who == int(who) and 1.0 <= n <= most for who, n, _ in of)
        and len({who for who, *_ in of}) == len(of) <= WHO_MAX + 1
    )
    if not fits:
        raise ValueError("damaged state of usual times: of those who ask")
    return {int(who): [float(n), float(total)] for who, n, total in of}


def _fitted(by_load: list[list[float]]) -> _Fitted:
    """By the sums of each load: slopes within loads, means and deviations over all of them."""
    within = [0.0] * 5
    for n, s1, s2, sy, s11, s12, s22, s1y, s2y in by_load:
        centred = (
            s11 - s1 * s1 / n, s12 - s1 * s2 / n, s22 - s2 * s2 / n,
            s1y - s1 * sy / n, s2y - s2 * sy / n,
        )  # fmt: skip
        within = [total + each for total, each in zip(within, centred, strict=True)]
    first, second = _slopes(*within)
    n, s1, s2, _, s11, _, s22, *_ = (math.fsum(each) for each in zip(*by_load, strict=True))
    means = s1 / n, s2 / n
    spreads = [
        math.sqrt(max(0.0, squares / n - mean * mean))
        for squares, mean in zip((s11, s22), means, strict=True)
    ]
    return _Fitted(
        min(max(first, SLOPE_OF_PROMPT[0]), SLOPE_OF_PROMPT[1]),
        min(max(second, SLOPE_OF_ANSWER[0]), SLOPE_OF_ANSWER[1]),
        *means,
        *spreads,
    )


def _slopes(s11: float, s12: float, s22: float, s1y: float, s2y: float) -> tuple[float, float]:
    """Of the least squares; 0 for a length that does not vary, of two that vary alike the first."""
    least = 1e-6
    if s11 <= least:
        return 0.0, s2y / s22 if s22 > least else 0.0
    determinant = s11 * s22 - s12 * s12
    if s22 <= least or determinant <= 1e-6 * s11 * s22:
        return s1y / s11, 0.0
    return (s22 * s1y - s12 * s2y) / determinant, (s11 * s2y - s12 * s1y) / determinant
