"""What a look makes of samples: late scrapes, counters that end, arms without series."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.control.outside import looks
from fairlead.control.outside.counters import STALE_S
from fairlead.control.outside.looks import Looks
from fairlead.control.outside.prometheus import NoAnswer, Series
from fairlead.rollout.model import Rollout
from fairlead.rollout.plan import Plan
from fairlead.rollout.prometheus import Absent, Count, Guard, Prometheus
from fairlead.rollout.readings import CountReading, Memory, Readings, new_count
from rollout.stepping import PLAN, judging

COUNT = Count("bad", 'bad_total{arm="{{arm}}"}', every_s=10.0, lag_s=5.0)
GUARD = Guard("load", "load", at_most=1.0, every_s=10.0)
UNTIL = 1_000.0
AT = 1_060.0


class Store:
    """Each arm has had requests; records are known up to `known_until`."""

    def __init__(self) -> None:
        self.known_until = AT
        self.asked: list[tuple[float, float]] = []

    def watermark(self) -> float:
        return self.known_until

    def arm_requests(self, _rollout: str, *, after: float, until: float) -> dict[str, int]:
        self.asked.append((after, until))
        return {"sha256:a": 90, "sha256:b": 10}


class Catalogue:
    """Nothing runs."""

    def replicas(self, _digest: str) -> list[Any]:
        return []


class Reader:
    """Says what the test has it say."""

    def __init__(self, **arms: list[Series]) -> None:
        self.arms = arms
        self.values: list[float] | NoAnswer = [0.5]

    async def samples(self, selector: str, at: float, _seconds: int) -> list[Series]:
        arm = selector.removeprefix('bad_total{arm="').removesuffix('"}')
        kept = [tuple(one for one in s.samples if one[0] <= at) for s in self.arms[arm]]
        return [Series({}, samples) for samples in kept if samples]

    async def instant(self, _query: str, _at: float) -> list[float]:
        if isinstance(self.values, NoAnswer):
            raise self.values
        return self.values


def counter(last: float, *, events: int = 3, first: float = UNTIL - 20) -> Series:
    """Scraped every ten seconds; all its events are in the last sample."""
    times = [first + 10 * n for n in range(int((last - first) / 10) + 1)]
    return Series({}, tuple((at, 7.0 + events * (at == times[-1])) for at in times))


def rollout(*queries: Guard | Count) -> Rollout:
    asked = Prometheus(
        "http://p",
        guards=tuple(q for q in queries if isinstance(q, Guard)),
        counts=tuple(q for q in queries if isinstance(q, Count)),
    )
    plan: Plan = msgspec.structs.replace(PLAN, prometheus=asked)
    begun = judging(plan=plan)
    counts = {
        count.name: msgspec.structs.replace(new_count(count), phase=begun.phase, until=UNTIL)
        for count in asked.counts
    }
    return msgspec.structs.replace(begun, readings=Memory(counts=counts, at=UNTIL))


async def look(made: Rollout, reader: Reader, store: Store | None = None) -> Readings:
    looking: Any = Looks(
        store or Store(),  # type: ignore[arg-type]
        Catalogue(),  # type: ignore[arg-type]
        lambda: AT,
        lambda _asked: reader,  # type: ignore[arg-type, return-value]
    )
    found = None
    while found is None:
        found = await looking.readings(made)
    return found


async def counted(reader: Reader, count: Count = COUNT, store: Store | None = None) -> CountReading:
    (reading,) = (await look(rollout(count), reader, store)).counts
    return reading


async def test_both_arms_are_counted_up_to_the_same_moment() -> None:
    """The champion's newest scrape is late: what the canary had since waits, too."""
    store = Store()
    reader = Reader(canary=[counter(AT)], champion=[counter(AT - 20)])
    reading = await counted(reader, store=store)
    assert (reading.until, reading.canary, reading.champion) == (AT - 20, 0, 3)
    assert store.asked == [(UNTIL, AT - 20)]
    assert (reading.canary_requests, reading.champion_requests) == (10, 90)


async def test_nothing_is_counted_beyond_the_records_of_the_gateway() -> None:
    store = Store()
    store.known_until = UNTIL + 30
    reading = await counted(Reader(canary=[counter(AT)], champion=[counter(AT)]), store=store)
    assert (reading.until, reading.canary) == (UNTIL + 30, 0)
    store.known_until = UNTIL - 1
    reading = await counted(Reader(canary=[counter(AT)], champion=[counter(AT)]), store=store)
    assert reading.missing == "the gateway's newest records are not read yet"


async def test_a_counter_that_ended_leaves_its_time_out() -> None:
    gone = Series({}, ((AT - STALE_S - 1.0, 5.0),))
    reading = await counted(Reader(canary=[counter(AT)], champion=[counter(AT), gone]))
    assert reading.broken.startswith("1 counters of the champion have ended")
    assert (reading.until, reading.canary) == (AT, 0)


async def test_an_arm_without_series_is_no_data_unless_that_means_zero() -> None:
    reader = Reader(canary=[counter(AT, first=UNTIL + 20)], champion=[])
    reading = await counted(reader)
    assert reading.missing.startswith("no series of the champion")
    assert reading.until == UNTIL
    reading = await counted(reader, msgspec.structs.replace(COUNT, absent=Absent.ZERO))
    assert (reading.canary, reading.champion, reading.until) == (10, 0, AT)


async def test_a_phase_begins_with_nothing_after_the_lag() -> None:
    made = rollout(COUNT)
    fresh = msgspec.structs.replace(made, readings=Memory())
    (reading,) = (await look(fresh, Reader(canary=[], champion=[]))).counts
    assert (reading.until, reading.canary_requests, reading.missing) == (AT + 5.0, 0, "")


async def test_what_fails_is_a_problem_and_the_rest_is_read() -> None:
    reader = Reader(canary=[counter(AT)], champion=[counter(AT)])
    reader.values = NoAnswer("not reached")
    readings = await look(rollout(GUARD, COUNT), reader)
    assert readings.problem == "load: not reached"
    assert readings.guards == ()
    assert readings.counts[0].canary == 3


@pytest.mark.parametrize(("since", "is_due"), [(4.0, False), (6.0, True)])
def test_what_failed_is_asked_again_after_a_while(since: float, is_due: bool) -> None:
    memory = Memory(at=AT - since, failing_since=AT - since, problem="load: not reached")
    made = msgspec.structs.replace(rollout(GUARD), readings=memory)
    asked = made.plan.prometheus
    assert asked is not None
    assert bool(looks._due(made, asked, AT)) == is_due
