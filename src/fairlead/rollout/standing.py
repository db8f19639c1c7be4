"""What a rollout's readings of Prometheus mean for it: an end, something missing, or nothing.

The error rate `alpha` is shared: the judge has its part (half of it, or a third where a judge model
is waited for and there is an early judge), the counts one together, in equal parts.
Guards have no error rate.
"""

from __future__ import annotations

import math

import msgspec

from fairlead.rollout.endings import Ending
from fairlead.rollout.evidence import evidence, evidence_shown
from fairlead.rollout.model import Rollout
from fairlead.rollout.prometheus import Count, Guard, NoData, Prometheus
from fairlead.rollout.query_lines import QueryLine as QueryLine
from fairlead.rollout.readings import (
    EXPOSURE_MIN,
    CountState,
    GuardState,
    new_count,
    not_worse_of,
)
from fairlead.rollout.states import State
from fairlead.rollout.suite_standing import (
    lacking_of_suites,
    lacking_of_suites_for_promotion,
    stopped_by_suites,
    suite_lines,
)

READ = (State.SHIFTING, State.JUDGING, State.PROMOTING, State.SWITCHING, State.WATCHING)
COUNTED = (State.JUDGING, State.PROMOTING, State.WATCHING)
"""All gateway workers run on the split of the phase."""

_BEFORE_THE_MOVE = (State.SHIFTING, State.JUDGING, State.PROMOTING)


def asked_of(rollout: Rollout) -> Prometheus | None:
    """The queries that are to be looked at now; None where there are none."""
    is_read = rollout.state in READ and rollout.phase > 0 and rollout.champion is not None
    return rollout.plan.prometheus if is_read else None


def count_threshold(rollout: Rollout) -> float:
    """The evidence from which on one of the counts rolls back."""
    assert rollout.plan.prometheus is not None
    return len(rollout.plan.prometheus.counts) / rollout.plan.judge_alpha


def stopped(rollout: Rollout) -> tuple[Ending, str] | None:
    """Why the canary is to be taken back, as far as it is for these readings, or for suites."""
    return _stopped(rollout) or stopped_by_suites(rollout)


def _stopped(rollout: Rollout) -> tuple[Ending, str] | None:
    asked = asked_of(rollout)
    if asked is None:
        return None
    for guard in asked.guards:
        state = rollout.readings.guards.get(guard.name, GuardState())
        if state.outside >= guard.failures:
            return _outside(guard, state)
    for count in asked.counts:
        counted = rollout.readings.counts.get(count.name)
        if counted is not None and _log_e(counted) >= math.log(count_threshold(rollout)):
            return Ending.WORSE, _worse(count, counted, rollout)
    memory = rollout.readings
    # By the looks that failed: time in which nobody looked is none without an answer.
    failed_s = 0.0 if memory.failing_since is None else memory.at - memory.failing_since
    if failed_s < asked.unreachable_s or rollout.state not in _BEFORE_THE_MOVE:
        return None
    return Ending.PROMETHEUS_UNREACHABLE, (
        f"Prometheus at {asked.host} did not answer what it was asked for "
        f"{asked.unreachable_s:g} s: {rollout.readings.problem}"
    )


def lacking(rollout: Rollout) -> str | None:
    """What it needs of its readings before a step or a promotion; nothing goes on without data."""
    return _lacking(rollout) or lacking_of_suites(rollout)


def _lacking(rollout: Rollout) -> str | None:
    asked = asked_of(rollout)
    if asked is None:
        return None
    if rollout.readings.failing_since is not None:
        return f"Prometheus at {asked.host}: {rollout.readings.problem}"
    for line in _query_lines(rollout):
        if line.is_bad:
            return f"{line.kind} {line.name}: {line.state}"
    return None


def lacking_for_promotion(rollout: Rollout) -> str | None:
    """What only a promotion needs: each count with a margin has to show that it is not worse."""
    asked = asked_of(rollout)
    for count in asked.counts if asked is not None else ():
        state = rollout.readings.counts.get(count.name)
        if count.margin is None or state is None or state.not_worse is None:
            continue
        bets = not_worse_of(count)
        bets.restore(state.not_worse)
        if bets.log_e < math.log(1 / rollout.plan.beta):
            return (
                f"count {count.name}: evidence {evidence_shown(bets.log_e)} of "
                f"{1 / rollout.plan.beta:g} that the canary has not {count.margin:.0%} more bad "
                f"events ({_counted(state)})"
            )
    return lacking_of_suites_for_promotion(rollout)


def lines(rollout: Rollout) -> list[QueryLine]:
    """All queries and suites of the rollout's plan, as they stand."""
    return _query_lines(rollout) + suite_lines(rollout)


def _query_lines(rollout: Rollout) -> list[QueryLine]:
    asked = rollout.plan.prometheus
    if asked is None:
        return []
    memory = rollout.readings
    guards = [_guard_line(guard, memory.guards.get(guard.name)) for guard in asked.guards]
    counts = [
        _count_line(count, memory.counts.get(count.name) or new_count(count), rollout)
        for count in asked.counts
    ]
    if memory.failing_since is None:
        return guards + counts
    state = f"Prometheus does not answer: {memory.problem}"
    return [msgspec.structs.replace(line, state=state, is_bad=True) for line in guards + counts]


def promises(asked: Prometheus) -> list[str]:
    """What each query is and does, before there are readings."""
    guards = [
        f"guard {guard.name}: {guard.limit}, looked at every {guard.every_s:g} s; "
        f"{guard.failures} looks in a row outside roll back (a threshold, with no statistical "
        f"promise)"
        for guard in asked.guards
    ]
    counts = [
        f"count {count.name}: rolls back by evidence that the canary has over {count.tolerance:.0%}"
        f" more bad events than the champion per request; looked at every {count.every_s:g} s"
        for count in asked.counts
    ]
    return guards + counts


def _guard_line(guard: Guard, state: GuardState | None) -> QueryLine:
    if state is None:
        return QueryLine(guard.name, "guard", None, guard.limit, "not looked at yet", True)
    row = f", {state.outside} of {guard.failures} looks in a row" if state.outside else ""
    if state.value is None:
        counts_as = "; counts as outside" if guard.no_data is NoData.FAIL else ""
        said = f"no data (no series, or NaN){counts_as}{row}"
        return QueryLine(guard.name, "guard", None, guard.limit, said, True)
    said = f"{_value(state.value)} is not {guard.limit}{row}" if state.outside else "within"
    return QueryLine(guard.name, "guard", state.value, guard.limit, said, bool(state.outside))


def _count_line(count: Count, state: CountState, rollout: Rollout) -> QueryLine:
    limit = f"evidence below {count_threshold(rollout):g}"
    missing = state.missing
    if not missing and not state.judged.canary_requests:
        seen = state.open
        missing = (
            f"too few requests yet: {seen.canary_requests} of the canary, {seen.champion_requests} "
            f"of the champion, {EXPOSURE_MIN} of each are needed"
        )
    said = missing or _counted(state)
    return QueryLine(count.name, "count", evidence(_log_e(state)), limit, said, bool(missing))


def _outside(guard: Guard, state: GuardState) -> tuple[Ending, str]:
    times = "at one look" if guard.failures == 1 else f"at {state.outside} looks in a row"
    if state.value is None:
        return Ending.GUARD_WITHOUT_DATA, f"guard {guard.name}: no data {times}"
    what = f"{_value(state.value)} is not {guard.limit}"
    return Ending.GUARD_CROSSED, f"guard {guard.name}: {what}, {times}"


def _worse(count: Count, state: CountState, rollout: Rollout) -> str:
    more = f" by more than {count.tolerance:.0%}" if count.tolerance else ""
    return (
        f"count {count.name}: {_counted(state)}; evidence {evidence_shown(_log_e(state))} against "
        f"a threshold of {count_threshold(rollout):g} that the canary has more of them per request"
        f"{more}"
    )


def _log_e(state: CountState) -> float:
    return state.worse["log_e_max"]


def _counted(state: CountState) -> str:
    seen = state.judged
    return (
        f"canary {seen.canary:,g} in {seen.canary_requests:,} requests, champion "
        f"{seen.champion:,g} in {seen.champion_requests:,}"
    )


def _value(value: float) -> str:
    return "infinite" if abs(value) > 1e300 else f"{value:.6g}"
