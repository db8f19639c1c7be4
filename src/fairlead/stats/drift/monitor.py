"""Watches requests for drift by their vectors: both channels on one e-detector.

The evidence is one weighted average over the bets of both channels. The mean number of honest
requests to a false alarm is at least the threshold, for both together, as long as requests are
independent and within the reference's limits; where they depend on each other it is approximate
(`fairlead.stats.drift.dependence`). The channel that
contributes more at the alarm is its cause; but where a cluster has grown by requests that are less
usual than those that were in it, new content is. The same vectors in the same batches give the same
alarms, also where the monitor was stored and went on from its state in between. In other batches
scores may differ in their last digits (matrix products sum in another order), so that now and then
a request takes the next rank among the calibration prompts, or the other of two equally near cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.cause import (
    Cause,
    Channel,
    Recent,
    grown,
    is_unlike,
    new_share,
    novel,
)
from fairlead.stats.drift.clustering import nearest
from fairlead.stats.drift.detector import DetectorState, EDetector, Floats, numbers
from fairlead.stats.drift.mix import (
    CELL_TOLERANCE,
    WITNESS_STAKES,
    Cells,
    Witness,
    WitnessState,
)
from fairlead.stats.drift.mix import STAKES as CELL_STAKES
from fairlead.stats.drift.novelty import KINDS, TOLERANCE, Novelty
from fairlead.stats.drift.novelty import STAKES as NOVELTY_STAKES
from fairlead.stats.drift.reference import Reference, Vectors, unit_rows
from fairlead.stats.drift.usual import Joined, Usual, UsualState
from fairlead.stats.ending import Ending

THRESHOLD = 1e6
WEIGHTS = (0.5, 0.38, 0.12)
"""Of novelty, cells and witness."""
RECENT_MAX = 2_000
"""The cause is looked for among so many requests."""
NOVEL_LEVEL = 0.02


@dataclass(frozen=True)
class Sensitivity:
    """What is an alarm.

    `requests_per_false_alarm`: mean number of honest requests to a false alarm, at least (about, if
    they depend on each other). `novelty_tolerance`: so many times as many unlike requests are no
    change. `mix_tolerance`: so many times the share of a cluster is no change.
    """

    requests_per_false_alarm: float = THRESHOLD
    novelty_tolerance: float = TOLERANCE
    mix_tolerance: float = CELL_TOLERANCE


class Alarm(TypedDict):
    """That requests have changed: at which request (from 0), log(R + 1) then, and why."""

    at: int
    log_evidence: float
    cause: Cause


class OpenState(TypedDict):
    """An alarm that is not over: its number, since when, the bet by which it will be over.

    `against`: evidence so far that it is over. `beside`: clusters beside whose old requests the
    new content lies.
    """

    channel: Channel
    at: int
    changed_at: int
    bet: int
    against: float
    beside: list[int]


@dataclass
class _Open:
    at: int
    changed_at: int
    bet: int
    ending: Ending
    beside: frozenset[int] = frozenset()


class MonitorState(TypedDict):
    """What a `DriftMonitor` has to remember, in JSON's types.

    `of`: which reference and sensitivity it was made with. `p_values` (by kind) and `cells` are of
    the last requests, the newest last. `open`: alarms that are not over.
    """

    of: str
    usual: UsualState
    detector: DetectorState
    witness: WitnessState
    p_values: list[list[float]]
    cells: list[int]
    open: list[OpenState]


class DriftMonitor:
    """Takes vectors of requests, in order, and says when they have changed from the reference.

    Attributes:
        joined: What the last update made of requests that had waited to join what is usual.
    """

    def __init__(self, reference: Reference, sensitivity: Sensitivity | None = None) -> None:
        chosen = sensitivity or Sensitivity()
        self._reference = reference
        self._of = hashlib.sha256(f"{reference.digest} {chosen!r}".encode()).hexdigest()[:16]
        self._novelty = Novelty(reference, chosen.novelty_tolerance)
        self._cells = Cells(reference, chosen.mix_tolerance)
        self._witness = Witness(reference)
        parts = (self._novelty.weights, self._cells.weights, self._witness.weights)
        weights = [share * part for share, part in zip(WEIGHTS, parts, strict=True)]
        self._novelty_bets = slice(0, weights[0].size)
        self._mix_bets = slice(weights[0].size, None)
        self._gentler = _gentler(
            (part.size, len(stakes))
            for part, stakes in zip(
                parts, (NOVELTY_STAKES, CELL_STAKES, WITNESS_STAKES), strict=True
            )
        )
        self._detector = EDetector(np.concatenate(weights), chosen.requests_per_false_alarm)
        self._usual = Usual(reference, self._novelty.allowed)
        self._p_values = np.zeros((KINDS, 0))
        self._recent_cells = np.zeros(0, np.int64)
        self._open: dict[Channel, _Open] = {}
        self.joined = Joined()

    @property
    def open(self) -> dict[Channel, int]:
        """Channels with an alarm that is not over, and the request since which they changed.

        It is over when the requests since tell against it (`fairlead.stats.ending`), by a bet that
        is gentler than the one that raised it: that one fits what came by chance as well, and would
        take a change that goes on for over.
        """
        return {channel: each.changed_at for channel, each in self._open.items()}

    @property
    def seen(self) -> int:
        """Requests taken in so far."""
        return self._detector.seen

    @property
    def log_evidence(self) -> float:
        """log(R + 1) of both channels together; an alarm at log(requests per false alarm + 1)."""
        return self._detector.log_evidence

    @property
    def waiting(self) -> int:
        """How many of the last requests may join what is usual, and have not yet."""
        return self._usual.waiting

    def update(self, vectors: Vectors) -> list[Alarm]:
        """Take in requests, a row each; the alarms that they raise. Each begins anew after it.

        Raises ValueError, and takes in none of them, if a vector is not finite, zero, or not as
        long as the reference's.
        """
        rows = unit_rows(vectors, self._reference.dimension)
        if not len(rows):
            return []
        scores = self._reference.novelty_scores(rows)
        p_values = self._novelty.p_values(scores)
        cells, _ = nearest(rows, self._reference.cells)
        positions = self._reference.witness_positions(rows).astype(np.float64)
        e = np.hstack([
            self._novelty.e(self._novelty.hits(p_values)),
            self._cells.e(cells),
            self._witness.e(positions),
        ])  # fmt: skip
        p_values = np.hstack([self._p_values, p_values])
        recent = np.concatenate([self._recent_cells, cells])
        before, at = self._recent_cells.size, 0
        alarms = []
        while at < len(e):
            found = self._detector.take(e[at:])
            upto = len(e) if found is None else at + found + 1
            self._end(e[at:upto])
            if found is not None:
                self._keep(p_values[:, : before + upto], recent[: before + upto])
                alarms.append(self._alarm(self.seen - 1))
                self._detector.reset()
            at = upto
        self._keep(p_values, recent)
        self.joined = Joined()
        if self._open or alarms:
            self._usual.drop()
        else:
            self.joined = self._usual.see(scores, cells)
            if self.joined.taken:
                self._learn()
        return alarms

    def _learn(self) -> None:
        self._novelty.learn(self._usual.scores)
        self._cells.learn(self._usual.counts)

    def _keep(self, p_values: Floats, cells: NDArray[np.int64]) -> None:
        self._p_values, self._recent_cells = p_values[:, -RECENT_MAX:], cells[-RECENT_MAX:]

    def _end(self, e: Floats) -> None:
        """Let go of alarms that are over."""
        for channel, each in tuple(self._open.items()):
            if any(each.ending.update(value) for value in np.log(e[:, each.bet]).tolist()):
                del self._open[channel]

    def _alarm(self, at: int) -> Alarm:
        detector = self._detector
        by_novelty = detector.evidence_of(self._novelty_bets)
        is_novel = by_novelty >= detector.evidence_of(self._mix_bets)
        leading = detector.leading(self._novelty_bets if is_novel else self._mix_bets)
        changed_at = detector.changed_at(leading)
        beside = frozenset[int]() if is_novel else self._beside(changed_at)
        channel: Channel = "novelty" if is_novel or beside else "mix"
        since, bet, before = changed_at, self._gentler[leading], self._open.get(channel)
        if before is not None:
            since = before.changed_at
            beside |= before.beside
            if channel == "novelty" and not is_novel:
                bet = before.bet  # What grows beside the old may end, and what is new go on.
        self._open[channel] = _Open(at, since, bet, Ending(), beside)
        cause = self.cause(channel, changed_at)
        return Alarm(at=at, log_evidence=self.log_evidence, cause=cause)

    def cause(self, channel: Channel, changed_at: int) -> Cause:
        """What the requests since `changed_at` say by now, of the last 2,000.

        Asked again some hundred requests after an alarm, with the channel and the change of that
        alarm, it is more certain.
        """
        _, recent = self._parted(changed_at)
        kept = self._recent_cells.size
        return Cause(
            channel=channel,
            changed_at=recent.first,
            requests=recent.cells.size,
            new_share=new_share(
                recent.p_values,
                self._novelty.levels.tolist(),
                self._novelty.honest.tolist(),
                max(kept, 1),
            ),
            grown=grown(recent, self._cells.shares),
            novel=novel(recent, NOVEL_LEVEL),
        )

    def _parted(self, changed_at: int) -> tuple[Recent, Recent]:
        """The recent requests before a change, and those since."""
        oldest = self.seen - self._recent_cells.size
        since = min(max(changed_at - oldest, 0), self._recent_cells.size)
        return (
            Recent(oldest, self._p_values[:, :since], self._recent_cells[:since]),
            Recent(oldest + since, self._p_values[:, since:], self._recent_cells[since:]),
        )

    def _beside(self, changed_at: int) -> frozenset[int]:
        """Clusters that grew by new content beside the old, if that which grew most is one.

        While an alarm is open its requests come before a further one: the old are those before it.
        What came just before counts as well, where the alarm is about something else.
        """
        opened = self._open.values()
        old, _ = self._parted(min([changed_at, *(each.changed_at for each in opened)]))
        latest, recent = self._parted(changed_at)
        cells = [each.cell for each in grown(recent, self._cells.shares)]
        known = frozenset[int]().union(*(each.beside for each in opened))
        found = [
            cell
            for cell in cells
            if cell in known or any(is_unlike(each, recent, cell) for each in (old, latest))
        ]
        return frozenset(found) if found and found[0] == cells[0] else frozenset()

    @property
    def has_moved(self) -> bool:
        """Whether a topic has a larger share of what joined than the reference tolerates.

        Too slowly to be an alarm, perhaps: it is not to become usual with the next reference.
        """
        return self._cells.have_moved(self._usual.joined)

    def state(self) -> MonitorState:
        """Everything that `restore` needs to go on with identical results."""
        return MonitorState(
            of=self._of,
            usual=self._usual.state(),
            detector=self._detector.state(),
            witness=self._witness.state(),
            p_values=self._p_values.tolist(),
            cells=self._recent_cells.tolist(),
            open=[
                OpenState(
                    channel=channel,
                    at=each.at,
                    changed_at=each.changed_at,
                    bet=each.bet,
                    against=each.ending.against,
                    beside=sorted(each.beside),
                )
                for channel, each in self._open.items()
            ],
        )

    def restore(self, state: MonitorState) -> None:
        """Go on from the state of a monitor with the same reference and sensitivity.

        Raises ValueError, and changes nothing, if it is damaged, or of a monitor with another
        reference or sensitivity.
        """
        if state.get("of") != self._of:
            raise ValueError(
                "state of a monitor with another reference or sensitivity: begin anew with this one"
            )
        kept = len(state["cells"])
        if kept > RECENT_MAX or len(state["p_values"]) != KINDS:
            raise ValueError(f"state of a monitor: {kept} recent requests; at most {RECENT_MAX}")
        cells = numbers(state["cells"], kept, "cells")
        p_values = np.stack([numbers(row, kept, "p_values") for row in state["p_values"]])
        if kept and not (cells.min() >= 0 and cells.max() < len(self._reference.cells)):
            raise ValueError("state of a monitor: a recent request lies in no cluster")
        if kept and not (p_values.min() > 0 and p_values.max() <= 1):
            raise ValueError("state of a monitor: a p-value is not between 0 and 1")
        opened = self._opened(state["open"])
        detector, witness, usual = copy(self._detector), copy(self._witness), copy(self._usual)
        detector.restore(state["detector"])
        witness.restore(state["witness"])
        usual.restore(state["usual"])
        self._detector, self._witness, self._open = detector, witness, opened
        self._p_values, self._recent_cells = p_values, cells.astype(np.int64)
        self._usual = usual
        self._learn()

    def _opened(self, states: list[OpenState]) -> dict[Channel, _Open]:
        bets = {"novelty": slice(None), "mix": self._mix_bets}
        made: dict[Channel, _Open] = {}
        for each in states:
            channel, bet = each["channel"], each["bet"]
            whole = all(isinstance(number, int) for number in (bet, each["at"], each["changed_at"]))
            known = whole and channel in bets and bet in range(len(self._gentler))[bets[channel]]
            if not (known and 0 <= each["changed_at"] <= each["at"]):
                raise ValueError(f"state of a monitor: an open alarm of {channel!r} is damaged")
            beside = frozenset(each.get("beside", ()))  # Older states have none.
            if not beside <= set(range(len(self._reference.cells))):
                raise ValueError("state of a monitor: an open alarm is of clusters that are none")
            ending = Ending(each["against"])
            made[channel] = _Open(each["at"], each["changed_at"], bet, ending, beside)
        return made


def _gentler(parts: Iterable[tuple[int, int]]) -> list[int]:
    """For each bet the same one with the next smaller stake, if there is one.

    `parts`: of the bets, how many there are and with how many stakes, which change fastest.
    """
    made: list[int] = []
    for count, stakes in parts:
        first = len(made)
        made += [first + at - (at % stakes > 0) for at in range(count)]
    return made
