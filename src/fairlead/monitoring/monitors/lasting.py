"""How long an alarm about rates or times lasts: until what it was about is over.

Evidence that something has changed does not go away when it changes back. So an alarm is followed
by the same watch begun anew, against the same reference. Each time that it shows the fault again,
it begins anew once more; the alarm is over when it has taken in `patience` observations in a row
without. That is three times as many as lay between the likeliest beginning of the fault and the
alarm, so that the fault, were it still there, would have been shown; within bounds. To be quick,
the second watch needs less evidence than the first: where the fault is over, it still shows it by
mistake in one of `SURE` such stretches, at most, and then the alarm lasts for one more.

Without observations nothing ends. A fault that has become much smaller, but is not over, may end
the alarm; the first watch, begun anew as well, then finds it as a new one.

(Drift ends by the bets of its own detector, `fairlead.stats.ending`: its observations are vectors,
and a second detector of them would cost as much again.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import isfinite
from typing import Any, Generic, Protocol, TypedDict, TypeVar

from fairlead.stats.monitors.rates import RateWatch, Reference

SURE = 10
PATIENCE_MIN, PATIENCE_MAX = 300, 100_000
_TIMES = 3
GRAVEST = 2
"""What is graver than anything else that a watch can say."""

_MARK_EVERY = 16
_MARKS_MAX = 64

X_contra = TypeVar("X_contra", contravariant=True)
X = TypeVar("X")


class Watch(Protocol[X_contra]):
    """What the watches of `fairlead.stats.monitors` have in common."""

    def update(self, observation: X_contra, /) -> object: ...
    def reset(self) -> None: ...
    def state(self) -> Any: ...
    def restore(self, state: Any, /) -> None: ...


W = TypeVar("W", bound=Watch[Any])


def patience_of(took: int, least: int = PATIENCE_MIN, most: int = PATIENCE_MAX) -> int:
    """Observations without the fault that end an alarm which took so many to be shown."""
    return min(max(_TIMES * took, least), most)


@contextmanager
def restoring(name: str) -> Iterator[None]:
    """Turns whatever a damaged state leads to into a `ValueError` that names the monitor."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"damaged state of the monitor {name}: {error!r}") from error


class Marks:
    """When observations came, the more coarsely the longer ago."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, float]] = []

    def add(self, number: int, at: float) -> None:
        """The observation with this number, from 1 on, came at this Unix time."""
        if number % _MARK_EVERY == 1 and (not self._marks or number > self._marks[-1][0]):
            self._marks.append((number, at))
            if len(self._marks) > _MARKS_MAX:
                del self._marks[self._spare()]

    def _spare(self) -> int:
        """The mark whose neighbours are nearest to each other, for how long ago it is."""
        marks, newest = self._marks, self._marks[-1][0]
        return min(
            range(1, len(marks) - 1),
            key=lambda i: (marks[i + 1][0] - marks[i - 1][0]) / (newest - marks[i][0]),
        )

    def at(self, number: int) -> float | None:
        """About when this one came; None before the first."""
        before = [at for known, at in self._marks if known <= number]
        return before[-1] if before else (self._marks[0][1] if self._marks else None)

    def state(self) -> list[list[float]]:
        """All of it."""
        return [[number, at] for number, at in self._marks]

    def restore(self, state: list[list[float]]) -> None:
        """Go on from a state; `ValueError` on a damaged one."""
        marks = [(int(number), float(at)) for number, at in state]
        is_in_order = all(one[0] < other[0] for one, other in pairwise(marks))
        if (
            len(marks) > _MARKS_MAX
            or not is_in_order
            or not all(map(isfinite, dict(marks).values()))
        ):
            raise ValueError("damaged state of a monitor: times of its observations")
        self._marks = marks


class LastingState(TypedDict):
    """What a `Lasting` has to remember, in JSON's types; `again`: of the second watch, if any."""

    watch: Any
    marks: list[list[float]]
    patience: int
    again: Any


class Lasting(Generic[W, X]):
    """A watch, and whether what it has shown still holds."""

    def __init__(
        self,
        make: Callable[[float], W],
        run_length: float,
        *,
        grave: Callable[[W], int],
        took: Callable[[W], int],
        counted: Callable[[W], int],
    ) -> None:
        """
        Args:
            make: Makes a watch with this run length.
            grave: How grave what a watch shows is: 0 for nothing, up to `GRAVEST`.
            took: At an alarm: how many observations ago the fault is likely to have begun.
            counted: Observations of a watch that could show a fault; `took` counts these.
        """
        self._make, self._run_length = make, run_length
        self._grave, self._took, self._counted = grave, took, counted
        self._watch, self._marks = make(run_length), Marks()
        self._patience = 0
        self._again: W | None = None

    @property
    def watch(self) -> W:
        """The watch that shows the fault. It stays as it was when the gravest was shown."""
        return self._watch

    @property
    def gravity(self) -> int:
        """How grave what holds now is; 0 for nothing."""
        return 0 if self._again is None else self._grave(self._watch)

    @property
    def counted(self) -> int:
        """Another number after each observation that could show a fault."""
        again = 0 if self._again is None else self._counted(self._again)
        return self._counted(self._watch) + again

    def began_at(self, ago: int) -> float | None:
        """About when the observation came that was so long ago when the watch took in its last."""
        return self._marks.at(self._counted(self._watch) - ago)

    def take(self, observation: X, at: float) -> bool:
        """Take in an observation, and its Unix time; true at the beginning of an alarm.

        And when it becomes graver.
        """
        if self._again is None:
            self._take(observation, at)
            is_shown = self._grave(self._watch) > 0
            if is_shown:
                self._follow()
            return is_shown
        return self._look_again(self._again, observation, at)

    def _look_again(self, again: W, observation: X, at: float) -> bool:
        before = self._grave(self._watch)
        if before < GRAVEST:
            self._take(observation, at)
            if self._grave(self._watch) > before:
                self._follow()
                return True
        again.update(observation)
        if self._grave(again) >= before:
            again.reset()
        elif self._counted(again) >= self._patience:
            self._begin_anew()
        return False

    def state(self) -> LastingState:
        """Everything that `restore` needs."""
        return LastingState(
            watch=self._watch.state(),
            marks=self._marks.state(),
            patience=self._patience,
            again=None if self._again is None else self._again.state(),
        )

    def restore(self, state: LastingState) -> None:
        """Go on from a state; `ValueError`, and nothing changes, if it is damaged."""
        watch, marks, patience = self._make(self._run_length), Marks(), state["patience"]
        watch.restore(state["watch"])
        marks.restore(state["marks"])
        if not isinstance(patience, int) or not 0 <= patience <= PATIENCE_MAX:
            raise ValueError(f"damaged state of a monitor: patience {patience}")
        again = None if state["again"] is None else self._make(float(SURE * patience))
        if again is not None:
            again.restore(state["again"])
        if (again is not None) != (self._grave(watch) > 0):
            raise ValueError("damaged state of a monitor: an alarm without what shows it")
        self._watch, self._marks = watch, marks
        self._patience, self._again = patience, again

    def _begin_anew(self) -> None:
        self._watch, self._marks = self._make(self._run_length), Marks()
        self._patience, self._again = 0, None

    def _take(self, observation: X, at: float) -> None:
        self._watch.update(observation)
        self._marks.add(self._counted(self._watch), at)

    def _follow(self) -> None:
        """The alarm has begun: watch anew."""
        self._patience = patience_of(self._took(self._watch))
        self._again = self._make(float(SURE * self._patience))


def lasting_rate(
    reference: Reference, run_length: float, design_effect: float
) -> Lasting[RateWatch, float]:
    """A watch on a rate; see `RateWatch`."""

    def make(run_length: float) -> RateWatch:
        return RateWatch(reference, run_length=run_length, design_effect=design_effect)

    return Lasting(make, run_length, grave=_gravity, took=_took, counted=lambda watch: watch.seen)


def _gravity(watch: RateWatch) -> int:
    return 0 if watch.alarmed_at is None else GRAVEST


def _took(watch: RateWatch) -> int:
    change = watch.change()
    return watch.seen if change is None else change.ago
