"""Reads what a service's monitors see: each request once, in order, with the load that it met.

Only what began before the watermark is read, since all of it is recorded then. Where a reader is
stands in `Positions`; kept together with what was made of the records, nothing is seen twice.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fairlead.control import sample_views
from fairlead.domain.decoding import decode_json
from fairlead.domain.outcomes import failed_by_server
from fairlead.monitoring.burning import MINUTE_S
from fairlead.monitoring.monitors.interface import Seen, SeenFeedback, SeenText
from fairlead.monitoring.objectives import ObjectiveKind
from fairlead.store.rows import GivenRow, RequestRow, TextRow
from fairlead.store.watching import Position, WatchStore

PAGE = 1_000
TEXTS = 200
LOAD_S = 10.0
"""Load is how many requests came to a replica within so many seconds."""

LOAD_MAX = 10_000
"""More are not told apart."""

BEGIN_S = 86_400.0
"""A service that was not watched before is read from so long ago on."""
PASSED_OVER_S = 600.0
"""Feedback is recorded at once, long before so much time has passed."""


class Positions(msgspec.Struct):
    """How far a service was read.

    Attributes:
        heir: Digest of the champion that has what is not about a release (`Inherits`); or empty.
        lately: By replica, when its last requests came, in order: Unix times within `LOAD_S`.
        ends: By replica, when those of its requests ended that may be open yet: a heap.
    """

    requests: Position = (0.0, "")
    feedback: Position = (0.0, "")
    judged: Position = (0.0, "")
    texts: Position = (0.0, "")
    heir: str = ""
    lately: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}

    @classmethod
    def since(cls, at: float) -> Positions:
        """Everything from this Unix time on is to be read."""
        return cls(requests=(at, ""), feedback=(at, ""), judged=(at, ""), texts=(at, ""))

    @classmethod
    def first(cls, store: WatchStore, service: str, now: float) -> Positions:
        """Where a service is read from that is watched anew: a day ago.

        One that was watched before, taken away and shipped again was counted until then: its
        requests and verdicts are read from where that ended, so that none counts twice (but what
        had a date still to come, of a clock that was ahead).
        """
        since = now - BEGIN_S
        requests = judged = since
        for row in store.minutes(service, since):
            end = min(float(row.minute + MINUTE_S), now)
            if row.promise == ObjectiveKind.QUALITY.value:
                judged = max(judged, end)
            else:
                requests = max(requests, end)
        made = cls.since(since)
        made.requests, made.judged = (requests, ""), (judged, "")
        return made


class Portion(NamedTuple):
    """What was read.

    Attributes:
        after: Where to go on.
        is_whole: Whether there is no more for now.
    """

    seen: list[Seen]
    feedback: list[SeenFeedback]
    texts: list[SeenText]
    after: Positions
    is_whole: bool


def read(store: WatchStore, service: str, positions: Positions, until: float) -> Portion:
    """Read on, a bounded number of records; raises FairleadError when the store does."""
    rows = store.requests_after(service, positions.requests, until=until, limit=PAGE)
    # Of what began later nothing is said yet: feedback and texts wait for their requests.
    upto = until if len(rows) < PAGE else rows[-1].started_at
    given = store.feedback_after(service, positions.feedback, until=upto, limit=PAGE)
    judged = store.judged_after(service, positions.judged, until=upto, limit=PAGE)
    texts = store.texts_after(service, positions.texts, until=upto, limit=TEXTS)
    lately = {replica: deque(times) for replica, times in positions.lately.items()}
    ends = {replica: list(times) for replica, times in positions.ends.items()}
    seen = [Seen(row, _open(row, ends), _load(row, lately), _failed(row)) for row in rows]
    after = Positions(
        requests=(rows[-1].started_at, rows[-1].id) if rows else positions.requests,
        feedback=_on(positions.feedback, given, upto),
        judged=(judged[-1].at, judged[-1].id) if judged else positions.judged,
        texts=_asked(texts[-1]) if texts else positions.texts,
        heir=positions.heir,
        lately={replica: list(times) for replica, times in lately.items()},
        ends=ends,
    )
    return Portion(
        seen=seen,
        feedback=[
            SeenFeedback(one.request, one.name, one.value, one.at, one.rollout)
            for one in (*given, *judged)
        ],
        texts=[_text(row) for row in texts],
        after=after,
        is_whole=max(len(rows), len(given), len(judged)) < PAGE and len(texts) < TEXTS,
    )


def _on(before: Position, given: Sequence[GivenRow], upto: float) -> Position:
    """Where to go on with feedback.

    Where a service gets none, what others get is not gone through each time: what is long read is
    passed over.
    """
    last = (given[-1].at, given[-1].id) if given else before
    return last if len(given) == PAGE else max(last, (upto - PASSED_OVER_S, ""))


def _asked(row: TextRow) -> Position:
    return row.at, row.request.id


def _failed(row: RequestRow) -> bool:
    return failed_by_server(row.status, row.error)


def _load(row: RequestRow, lately: dict[str, deque[float]]) -> float:
    """How many requests came to its replica in the seconds before it.

    By this replicas are compared with each other: one that has become slower has more requests open
    by that alone, and soon more than anybody knows the times of.
    """
    if not row.replica:
        return 0.0
    times = lately.setdefault(row.replica, deque())
    while times and times[0] <= row.started_at - LOAD_S:
        times.popleft()
    load = float(len(times))
    if len(times) < LOAD_MAX:
        times.append(row.started_at)
    return load


def _open(row: RequestRow, ends: dict[str, list[float]]) -> float:
    """How many requests its replica had open when it came."""
    if not row.replica:
        return 0.0
    times = ends.setdefault(row.replica, [])
    while times and times[0] <= row.started_at:
        heapq.heappop(times)
    is_open = float(len(times))
    if len(times) < LOAD_MAX:
        heapq.heappush(times, row.started_at + max(row.duration_ms, 0.0) / 1e3)
    return is_open


def let_go(positions: Positions, now: float) -> None:
    """Forget replicas to which nothing came for a while."""
    idle = [name for name, times in positions.lately.items() if not times or times[-1] < now - 60.0]
    for replica in idle:
        del positions.lately[replica]
    came = positions.requests[0]
    for replica in [name for name, times in positions.ends.items() if max(times) <= came]:
        del positions.ends[replica]


def _text(row: TextRow) -> SeenText:
    return SeenText(row.request, last_said(row.prompt), row.answer, row.is_cut)


def last_said(prompt: str) -> str:
    """The last words of a person in a prompt as it is kept; of a plain prompt all of it."""
    try:
        turns = decode_json(prompt.encode(), list[tuple[str, str]]) if prompt else []
    except msgspec.DecodeError:
        return ""
    return sample_views.last_said(turns)
