"""What a rollout is judged by besides its own records: queries of a Prometheus.

- A *guard* is a query with a threshold, looked at again and again; crossed so many looks in a row
  it rolls back. It is a threshold check and no more: it carries no statistical promise.
- A *count* selects counters of bad events of both arms. On which arm the events fall is judged by
  `fairlead.stats.events`, at every look, with an error rate that holds.
"""

from __future__ import annotations

import enum
import math
import re
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput

QUERIES_MAX = 20
QUERY_MAX = 2_000
EVERY_S_MAX = 3_600.0
PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]*)\s*\}\}")
GUARD_PLACEHOLDERS = (
    "service", "rollout", "canary", "champion", "canary_replicas", "champion_replicas",
    "canary_instances", "champion_instances",
)  # fmt: skip
ARM_PLACEHOLDERS = ("release", "arm", "replicas", "instances")
COUNT_PLACEHOLDERS = ("service", "rollout", *ARM_PLACEHOLDERS)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class NoData(enum.StrEnum):
    """What a look without data does: it holds steps and promotion, or counts as crossed."""

    HOLD = "hold"
    FAIL = "fail"


class Absent(enum.StrEnum):
    """What an arm without any series means: nothing is known, or it has had no event."""

    NO_DATA = "no_data"
    ZERO = "zero"


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instant query that has to stay within a threshold.

    Attributes:
        query: PromQL with `{{placeholders}}`. Of several series each has to stay within it.
        at_most, at_least: The threshold; None for no such side.
        every_s: Seconds between two looks.
        failures: Looks in a row outside of it that roll the canary back.
        no_data: What a look without a number (no series, NaN) does. It never counts as passed.
    """

    name: str
    query: str
    at_most: float | None = None
    at_least: float | None = None
    every_s: float = 30.0
    failures: int = 3
    no_data: NoData = NoData.HOLD

    @property
    def limit(self) -> str:
        """The threshold in words."""
        sides = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {side:g}" for words, side in sides if side is not None)

    def is_crossed(self, value: float) -> bool:
        """Whether a value is outside of the threshold."""
        above = self.at_most is not None and value > self.at_most
        return above or (self.at_least is not None and value < self.at_least)

    def worst(self, values: list[float]) -> float | None:
        """The one that decides, of several series; None when there is no number that does.

        A NaN beside numbers leaves the look without data, unless one of them is outside.
        """
        numbers = [value for value in values if not math.isnan(value)]
        outside = [value for value in numbers if self.is_crossed(value)]
        if not outside and (not numbers or len(numbers) < len(values)):
            return None
        among = outside or numbers
        return max(among) if self.at_most is not None else min(among)


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counters of bad events, of each arm.

    Attributes:
        query: A selector of counters with `{{placeholders}}`, which is asked for each arm.
        tolerance: By which ratio the canary's rate may be higher (0.2 is 20 % more).
        margin: By which ratio it must be shown not to be higher to be promoted; None when only
            readings of both arms are asked for.
        design_factor: Events that come together from one cause; 1 for one-offs.
        every_s: Seconds between two looks.
        lag_s: Seconds from the beginning of a request until an event of it is surely scraped.
        absent: What an arm without any series means.
    """

    name: str
    query: str
    tolerance: float = 0.2
    margin: float | None = None
    design_factor: float = 1.0
    every_s: float = 30.0
    lag_s: float = 60.0
    absent: Absent = Absent.NO_DATA


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Prometheus, and what it is asked.

    Attributes:
        url: Its address, with the path before `/api/v1` if there is one.
        token_env, token_file: Where the bearer token is; it is never stored.
        ca_file: The certificates that are trusted for it, in place of the system's.
        link_local: Whether it may have a link-local address.
        timeout_s: How long an answer may take.
        unreachable_s: For how long it may fail before the rollout ends.
    """

    url: str
    token_env: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    link_local: bool = False
    timeout_s: float = 10.0
    unreachable_s: float = 300.0
    guards: tuple[Guard, ...] = ()
    counts: tuple[Count, ...] = ()

    @property
    def host(self) -> str:
        """What is shown of its address."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def check_prometheus(given: Prometheus) -> None:
    """Raises InvalidInput when it does not make sense."""
    parts = urlsplit(given.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InvalidInput("prometheus.url: must be an http or https address without a user in it")
    if given.token_env and given.token_file:
        raise InvalidInput("prometheus: both token_env and token_file are given")
    check_between("prometheus.timeout_s", given.timeout_s, 0.1, 300.0)
    check_between("prometheus.unreachable_s", given.unreachable_s, 1.0, 86_400.0)
    queries: list[Guard | Count] = [*given.guards, *given.counts]
    if not 0 < len(queries) <= QUERIES_MAX:
        raise InvalidInput(f"prometheus: {len(queries)} queries; from 1 to {QUERIES_MAX}")
    if len({query.name for query in queries}) < len(queries):
        raise InvalidInput("prometheus: two queries have the same name")
    for guard in given.guards:
        _check_guard(guard)
    for count in given.counts:
        _check_count(count)


def unknown_placeholder(query: str, known: tuple[str, ...]) -> str | None:
    """A placeholder of the query that there is not."""
    found: list[str] = PLACEHOLDER.findall(query)
    return next((name for name in found if name not in known), None)


def tells_arms_apart(query: str) -> bool:
    """Whether it asks something else of each arm."""
    return not set(ARM_PLACEHOLDERS).isdisjoint(PLACEHOLDER.findall(query))


def _check_guard(guard: Guard) -> None:
    where = _check_query(guard.name, guard.query, GUARD_PLACEHOLDERS)
    sides = [side for side in (guard.at_least, guard.at_most) if side is not None]
    if not sides or not all(map(math.isfinite, sides)) or sides != sorted(sides):
        raise InvalidInput(f"{where}: needs at_most or at_least, and the one above the other")
    check_between(f"{where}.every_s", guard.every_s, 0.5, EVERY_S_MAX)
    check_between(f"{where}.failures", guard.failures, 1, 1_000)


def _check_count(count: Count) -> None:
    where = _check_query(count.name, count.query, COUNT_PLACEHOLDERS)
    if not tells_arms_apart(count.query):
        raise InvalidInput(
            f"{where}.query: asks the same of both arms",
            hint='tell them apart by a placeholder, such as {release="{{release}}"}',
        )
    check_between(f"{where}.tolerance", count.tolerance, 0.0, 100.0)
    if count.margin is not None and not count.tolerance < count.margin <= 100.0:
        raise InvalidInput(f"{where}.margin: {count.margin:g} is not above the tolerance")
    check_between(f"{where}.design_factor", count.design_factor, 1.0, 1_000.0)
    check_between(f"{where}.every_s", count.every_s, 0.5, EVERY_S_MAX)
    check_between(f"{where}.lag_s", count.lag_s, 0.0, EVERY_S_MAX)


def _check_query(name: str, query: str, known: tuple[str, ...]) -> str:
    where = f"prometheus {name[:80]!r}"
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{where}: is no name of letters, digits, '-', '_' and '.'")
    if not 0 < len(query) <= QUERY_MAX:
        raise InvalidInput(f"{where}.query: must have 1 to {QUERY_MAX:,} characters")
    unknown = unknown_placeholder(query, known)
    if unknown is not None:
        raise InvalidInput(
            f"{where}.query: there is no placeholder {unknown!r}", hint=f"known: {', '.join(known)}"
        )
    return where
