"""What readings of Prometheus do to a rollout: guards, counts, missing data, and no answer."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.endings import Ending
from fairlead.rollout.machine import Rollout
from fairlead.rollout.plan import Plan, Step
from fairlead.rollout.prometheus import Count, Guard, NoData, Prometheus
from fairlead.rollout.readings import RETRY_S, CountReading, GuardReading, Readings
from fairlead.rollout.remaining import missing
from fairlead.rollout.standing import count_threshold, lines, promises
from fairlead.rollout.states import State
from rollout.stepping import PLAN, judging, seen, step

GUARD = Guard("load", "max(load)", at_most=0.9, failures=3)
COUNT = Count("violations", 'violations_total{release="{{release}}"}', tolerance=0.2)
READY = {"candidate_ready": 2, "workers_phase": 1}


def asking(*queries: Guard | Count, **changes: Any) -> Plan:
    guards = tuple(query for query in queries if isinstance(query, Guard))
    counts = tuple(query for query in queries if isinstance(query, Count))
    asked = Prometheus(
        "http://127.0.0.1:9090", guards=guards, counts=counts, unreachable_s=60.0, **changes
    )
    return msgspec.structs.replace(PLAN, prometheus=asked)


def looked(rollout: Rollout, now: float, *values: float | None, problem: str = "") -> Rollout:
    """After looks at the guard `load`, a second apart."""
    for index, value in enumerate(values):
        at = now + index
        readings = Readings(at, (GuardReading("load", value),), problem=problem)
        rollout = step(rollout, now=at, readings=readings, **READY)
    return rollout


def counted(
    rollout: Rollout, now: float, canary: float, champion: float, requests: int = 1_000, **more: Any
) -> Rollout:
    share = rollout.plan.steps[0].share
    mine = round(requests * share)
    reading = CountReading(
        "violations", rollout.phase, share, now, canary, champion, mine, requests - mine, **more
    )
    return step(rollout, now=now, readings=Readings(now, counts=(reading,)), **READY)


def test_a_guard_outside_for_so_many_looks_rolls_back_by_its_name() -> None:
    rollout = looked(judging(plan=asking(GUARD)), 3.0, 0.95, 0.5, 0.95, 0.95)
    assert rollout.state is State.JUDGING
    rollout = looked(rollout, 8.0, 1.5)
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.GUARD_CROSSED)
    assert rollout.reason == "guard load: 1.5 is not at most 0.9, at 3 looks in a row"


def test_the_same_readings_count_once() -> None:
    rollout = judging(plan=asking(GUARD))
    readings = Readings(3.0, (GuardReading("load", 2.0),))
    for now in (3.0, 4.0, 5.0, 6.0):
        rollout = step(rollout, now=now, readings=readings, **READY)
    assert rollout.readings.guards["load"].outside == 1


def test_infinity_is_outside_and_is_kept() -> None:
    rollout = looked(judging(plan=asking(GUARD)), 3.0, math.inf, math.inf, math.inf)
    assert rollout.ending is Ending.GUARD_CROSSED
    assert "infinite is not at most 0.9" in rollout.reason


@pytest.mark.parametrize("value", [None, 0.95])
def test_no_step_is_taken_without_data_or_while_a_guard_is_outside(value: float | None) -> None:
    rollout = judging(plan=asking(GUARD))
    enough = {"now": 14.0, **READY, **seen(2, 1, 3.0, 0.1)}
    held = step(rollout, **enough)
    assert held.state is State.JUDGING
    assert missing(held, 14.0, 2) == "guard load: not looked at yet"
    held = looked(rollout, 3.0, value)
    held = step(held, **enough)
    assert held.state is State.JUDGING
    assert missing(held, 14.0, 2).startswith("guard load: ")
    goes_on = looked(held, 15.0, 0.5)
    assert (goes_on.state, goes_on.step) == (State.SHIFTING, 1)


def test_missing_data_is_never_a_pass_and_ends_at_the_deadline() -> None:
    rollout = looked(judging(plan=asking(GUARD)), 3.0, *([None] * 20))
    rollout = step(rollout, now=1_100.0, **READY, **seen(2, 1, 3.0, 0.1))
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.INCONCLUSIVE)
    assert "guard load: no data" in rollout.reason


def test_missing_data_counts_as_outside_where_that_is_declared() -> None:
    strict = msgspec.structs.replace(GUARD, no_data=NoData.FAIL)
    rollout = looked(judging(plan=asking(strict)), 3.0, None, None, None)
    assert rollout.ending is Ending.GUARD_WITHOUT_DATA
    assert rollout.reason == "guard load: no data at 3 looks in a row"


@pytest.mark.parametrize(
    ("values", "worst"),
    [
        ([], None),
        ([math.nan], None),
        ([0.5, math.nan], None),
        ([0.95, math.nan], 0.95),
        ([0.5, 0.95, 0.2], 0.95),
        ([0.5, 0.2], 0.5),
        ([-math.inf], -math.inf),
    ],
)
def test_of_several_series_each_has_to_stay_within(
    values: list[float], worst: float | None
) -> None:
    assert GUARD.worst(values) == worst


def test_no_answer_holds_and_then_ends_in_a_name() -> None:
    rollout = looked(judging(plan=asking(GUARD)), 3.0, 0.5)
    rollout = looked(rollout, 10.0, 0.5, problem="load: not reached")
    held = step(rollout, now=14.0, **READY, **seen(2, 1, 3.0, 0.1))
    assert held.state is State.JUDGING
    assert missing(held, 14.0, 2) == "Prometheus at http://127.0.0.1:9090: load: not reached"
    answered = looked(held, 20.0, 0.5)
    assert answered.state is State.SHIFTING
    rollout = failing(held, 69.9)
    assert rollout.state is State.JUDGING
    rollout = failing(rollout, 70.0)
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.PROMETHEUS_UNREACHABLE)


def failing(rollout: Rollout, until: float) -> Rollout:
    """Looked at again and again without an answer, each look with the time that it takes."""
    while rollout.readings.at < until:
        at = min(until, rollout.readings.at + RETRY_S + 10.0)
        rollout = looked(rollout, at, None, problem="load: not reached")
    return rollout


def test_time_in_which_nobody_has_looked_is_none_without_an_answer() -> None:
    """Control was down: Prometheus is asked again, for as long as ever, before the rollout ends."""
    rollout = looked(judging(plan=asking(GUARD)), 10.0, None, problem="load: not reached")
    later = step(rollout, now=900.0, **READY)
    assert later.state is State.JUDGING
    again = looked(later, 901.0, None, problem="load: not reached")
    assert again.state is State.JUDGING
    assert failing(again, 960.0).state is State.JUDGING
    assert failing(again, 961.0).ending is Ending.PROMETHEUS_UNREACHABLE


def test_events_that_fall_to_the_canary_roll_back_by_the_count_s_name() -> None:
    rollout = judging(plan=asking(COUNT))
    rollout = counted(rollout, 3.0, 999, 0, missing="")
    assert rollout.readings.counts["violations"].judged.canary == 0, "the phase begins there"
    rollout = counted(rollout, 4.0, 2, 9)
    assert rollout.state is State.JUDGING
    rollout = counted(rollout, 5.0, 12, 9)
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.WORSE)
    assert rollout.reason.startswith(
        "count violations: canary 14 in 200 requests, champion 18 in 1,800; evidence "
    )
    assert count_threshold(rollout) == 200.0, "half of alpha is the judge's"
    assert rollout.plan.judge_alpha == rollout.plan.alpha / 2


def test_events_in_proportion_to_the_work_hold_nothing_up() -> None:
    rollout = counted(judging(plan=asking(COUNT)), 3.0, 0, 0)
    for index in range(8):
        rollout = counted(rollout, 4.0 + index, 10, 90)
    rollout = step(rollout, now=14.0, **READY, **seen(2, 1, 3.0, 0.1))
    assert (rollout.state, rollout.step) == (State.SHIFTING, 1)


def test_a_few_requests_are_judged_together_with_the_next_ones() -> None:
    rollout = counted(judging(plan=asking(COUNT)), 3.0, 0, 0)
    rollout = counted(rollout, 4.0, 3, 1, requests=100)
    (line,) = lines(rollout)
    assert line.state.startswith("too few requests yet: 10 of the canary, 90 of the champion")
    rollout = counted(rollout, 5.0, 0, 8, requests=100)
    judged = rollout.readings.counts["violations"].judged
    assert (judged.canary, judged.champion, judged.canary_requests) == (3, 9, 20)


def test_what_is_not_judged_when_the_share_changes_or_a_counter_ends_is_left_out() -> None:
    rollout = counted(judging(plan=asking(COUNT)), 3.0, 0, 0)
    rollout = counted(rollout, 4.0, 9, 0, requests=100)
    rollout = counted(rollout, 5.0, 9, 0, broken="1 counters of the canary have ended")
    state = rollout.readings.counts["violations"]
    assert (state.open.canary, state.judged.canary, state.until) == (0, 0, 5.0)
    held = step(rollout, now=14.0, **READY, **seen(2, 1, 3.0, 0.1))
    assert missing(held, 14.0, 2) == "count violations: 1 counters of the canary have ended"


def test_a_margin_has_to_be_shown_before_a_promotion() -> None:
    margin = msgspec.structs.replace(COUNT, margin=1.0)
    plan = msgspec.structs.replace(asking(margin), steps=(Step(0.5, 3, 5.0),), margin=0.5)
    rollout = counted(judging(plan=plan), 3.0, 0, 0)
    rollout = counted(rollout, 4.0, 0, 1)
    rollout = step(rollout, now=20.0, **READY, **seen(200, 1, 3.0, 0.5))
    assert rollout.verdict is not None
    assert rollout.verdict.outcome.value == "promote"
    assert rollout.state is State.JUDGING
    for index in range(8):
        rollout = counted(rollout, 21.0 + index, 25, 25)
    assert rollout.state is State.PROMOTING


def test_documents_without_readings_still_load() -> None:
    document = msgspec.to_builtins(judging())
    del document["readings"], document["plan"]["prometheus"]
    assert msgspec.convert(document, Rollout) == judging()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guards": (msgspec.structs.replace(GUARD, at_most=None),)}, "at_most or at_least"),
        ({"guards": (msgspec.structs.replace(GUARD, at_most=math.nan),)}, "at_most or at_least"),
        ({"guards": (msgspec.structs.replace(GUARD, query="{{canarry}}"),)}, "canarry"),
        ({"guards": (GUARD, GUARD)}, "same name"),
        ({"counts": (msgspec.structs.replace(COUNT, query="x_total"),)}, "asks the same"),
        ({"counts": (msgspec.structs.replace(COUNT, margin=0.1),)}, "not above the tolerance"),
        ({"counts": (msgspec.structs.replace(COUNT, tolerance=math.nan),)}, "tolerance"),
        ({"guards": ()}, "0 queries"),
        ({"url": "http://user:secret@host"}, "without a user"),
        ({"unreachable_s": math.inf}, "unreachable_s"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    asked = msgspec.structs.replace(Prometheus("http://p:9090", guards=(GUARD,)), **change)
    with pytest.raises(InvalidInput, match=words) as raised:
        msgspec.structs.replace(PLAN, prometheus=asked)
    assert "secret" not in str(raised.value)


def test_what_is_asked_is_said_beforehand() -> None:
    guard, count = promises(Prometheus("http://p", guards=(GUARD,), counts=(COUNT,)))
    assert "at most 0.9" in guard
    assert "no statistical promise" in guard
    assert "over 20% more bad events" in count
