"""The monitor `cost`: keys and services that spend more, and requests that cost more."""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

import pytest

from fairlead.domain.outcomes import SHADOW
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.self_tests import cost_self_test, seen
from fairlead.monitoring.monitors.self_tests import made as made_request
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.stats.monitors.larger import LEARN

START = 1_699_920_000.0
"""A midnight."""
HOUR, DAY = 3_600.0, 86_400.0


def made(**more: Any) -> CostMonitor:
    names = {"k1": "app", "k2": "batch"}
    return CostMonitor("bank", "r1", name_of=lambda key: names.get(key, key), **more)


def told(monitor: Monitor, now: float) -> dict[tuple[str, str], Condition]:
    """What is told, by key and kind."""
    found = {}
    for condition in monitor.conditions(now):
        labels = dict(condition.labels)
        assert (labels["monitor"], labels["service"], labels["release"]) == ("cost", "bank", "r1")
        found[labels.get("key", ""), labels["kind"]] = condition
    return found


def hour(monitor: Monitor, at: float, dice: random.Random, factor: float, key: str) -> None:
    """One request that stands for an hour of them: a tenth by night and at weekends."""
    day, hour_of_day = divmod(int((at - START) // HOUR), 24)
    busy = 1.0 if 8 <= hour_of_day < 20 and day % 7 < 5 else 0.1
    tokens = round(1_000_000 * factor * busy * math.exp(dice.gauss(0.0, 0.25)))
    request = made_request(
        key=key, started_at=at, prompt_tokens=tokens, completion_tokens=10, cost_usd=tokens * 1e-5
    )
    monitor.see(seen(request))


def answer(dice: random.Random, at: float, tokens: int) -> Made:
    return made_request(
        started_at=at, completion_tokens=round(tokens * math.exp(dice.gauss(0, 0.7)))
    )


def weeks(monitor: Monitor, dice: random.Random, first: int, last: int, key: str = "k1") -> None:
    for number in range(first * 7 * 24, last * 7 * 24):
        hour(monitor, START + number * HOUR, dice, 1.0, key)


def test_an_outburst_of_a_key_is_told_while_its_hour_still_runs() -> None:
    monitor, dice = made(), random.Random(1)
    weeks(monitor, dice, 0, 4)
    now = START + 4 * 7 * DAY + 10 * HOUR
    assert told(monitor, now) == {}
    assert monitor.standing() == "learning: 672 of 2000 requests; 1 keys"
    for _ in range(8):
        hour(monitor, now, dice, 1.0, "k1")
    found = told(monitor, now)
    assert {("app", "outburst_hour"), ("", "outburst_hour")} <= set(found)
    condition = found["app", "outburst_hour"]
    assert "key app has spent" in condition.summary
    assert [figure.unit for figure in condition.evidence] == ["USD", "tokens"]
    assert condition.evidence[0].value == pytest.approx(80.0, rel=0.4)
    assert condition.evidence[0].limit == pytest.approx(10.0, rel=0.4)
    assert ("app", "outburst_hour") in told(monitor, now + HOUR)
    assert ("app", "outburst_hour") not in told(monitor, now + 3 * HOUR)


def test_four_honest_weeks_after_three_raise_nothing() -> None:
    monitor, dice = made(), random.Random(2)
    for number in range(7 * 7 * 24):
        at = START + number * HOUR
        hour(monitor, at, dice, 1.0, "k1")
        hour(monitor, at, dice, 0.5, "k2")
        # An hour's tokens in one request are a surge on the first morning.
        assert {kind for _, kind in told(monitor, at)} <= {"surge"}
        assert number < 24 or told(monitor, at) == {}


def test_a_rise_is_told_until_it_is_accepted() -> None:
    monitor, dice = made(keys_max=10), random.Random(3)
    weeks(monitor, dice, 0, 5)
    number = 5 * 7 * 24
    while not any(kind.startswith("rise") for _, kind in told(monitor, START + number * HOUR)):
        hour(monitor, START + number * HOUR, dice, 2.4, "k1")
        number += 1
        assert number < 9 * 7 * 24
    assert any(kind.startswith("rise") for _, kind in told(monitor, START + (number + 5) * HOUR))
    for (_, kind), rise in told(monitor, START + number * HOUR).items():
        if not kind.startswith("rise"):
            continue
        assert re.search(r"than it used to: [\d.]+ times what is usual, over \d+ ", rise.summary)
        assert rise.evidence[0].name.endswith(", times the usual")
        assert 1.3 < rise.evidence[0].value < 5.0
    before = monitor.standing()
    monitor.accept()
    assert told(monitor, START + number * HOUR) == {}
    assert monitor.standing() == before
    # What is spent now is usual, of each series that was told: none is told a second time.
    accepted: list[tuple[str, str, str]] = []
    for later in range(number, number + 4 * 7 * 24):
        hour(monitor, START + later * HOUR, dice, 2.4, "k1")
        if later % 6 == 0 and (found := told(monitor, START + later * HOUR)):
            accepted += [
                (who, kind, figure.name)
                for (who, kind), condition in found.items()
                for figure in condition.evidence
            ]
            monitor.accept()
    assert len(accepted) == len(set(accepted)), accepted


def test_accepting_one_key_keeps_what_was_learnt_of_the_others() -> None:
    """k2 is told at once in its own outburst after the one of k1 was accepted."""
    monitor, dice = made(), random.Random(11)
    for number in range(4 * 7 * 24):
        for key in ("k1", "k2"):
            hour(monitor, START + number * HOUR, dice, 1.0, key)
    now = START + 4 * 7 * DAY + 10 * HOUR
    for _ in range(8):
        hour(monitor, now, dice, 1.0, "k1")
    assert ("app", "outburst_hour") in told(monitor, now)
    subjects = dict(json.loads(json.dumps(monitor.state()["subjects"])))
    monitor.accept()
    assert told(monitor, now) == {}
    kept = dict(json.loads(json.dumps(monitor.state()["subjects"])))
    assert kept["k2"] == subjects["k2"]
    past = [kept["k1"]["meters"]["usd/hour"]["watch"]["past"] for kept in (kept, subjects)]
    assert past[0] == past[1]
    hour(monitor, now, dice, 1.0, "k1")
    for _ in range(8):
        hour(monitor, now, dice, 1.0, "k2")
    hourly = {who for who, kind in told(monitor, now) if kind == "outburst_hour"}
    assert "batch" in hourly
    assert "app" not in hourly  # it was accepted for this hour


def test_an_accepted_surge_is_usual_and_other_measures_are_not_learnt_anew() -> None:
    monitor, dice = made(), random.Random(12)
    at = START
    for _ in range(LEARN + 100):
        at += 3.0
        monitor.see(seen(answer(dice, at, 200)))
    while ("", "answer_tokens_per_request") not in told(monitor, at):
        at += 3.0
        monitor.see(seen(answer(dice, at, 600)))
    known = json.loads(json.dumps(monitor.state()["per_request"]))
    monitor.accept()
    kept = json.loads(json.dumps(monitor.state()["per_request"]))
    assert kept["answer_tokens"]["edge"] is None
    assert kept["usd"] == known["usd"]
    assert told(monitor, at) == {}

    for _ in range(3_000):
        at += dice.expovariate(1.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
    while not told(monitor, at):
        at += dice.expovariate(10.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
    assert set(told(monitor, at)) == {("batch", "surge")}
    for _ in range(600):
        at += dice.expovariate(10.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
    monitor.accept()
    for _ in range(2_000):
        at += dice.expovariate(10.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
        assert told(monitor, at) == {}


def test_answers_three_times_as_long_are_told_within_minutes_on_a_new_installation() -> None:
    monitor, dice = made(), random.Random(4)
    at = START
    for _ in range(LEARN + 100):
        at += 3.0
        monitor.see(seen(answer(dice, at, 200)))
    assert told(monitor, at) == {}
    since = at
    while not told(monitor, at):
        at += 3.0
        monitor.see(seen(answer(dice, at, 600)))
        assert at - since < 600.0
    assert ("", "answer_tokens_per_request") in told(monitor, at)


def test_a_key_with_ten_times_the_requests_is_told_within_minutes() -> None:
    monitor, dice = made(), random.Random(5)
    at = START
    while at < START + 2 * HOUR:
        at += dice.expovariate(1.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
    assert told(monitor, at) == {}
    since = at
    while not told(monitor, at):
        at += dice.expovariate(10.0 / 6.0)
        monitor.see(seen(made_request(key="k2", started_at=at)))
        assert at - since < 300.0
    found = told(monitor, at)
    assert set(found) == {("batch", "surge")}
    assert "requests a minute" in found["batch", "surge"].summary


def test_copies_of_requests_cost_money_and_are_no_keys_doing() -> None:
    monitor = made()
    for number in range(3_000):
        arm = SHADOW if number > 1_000 else "champion"
        at = START + number * (6.0 if number < 1_000 else 0.5)
        monitor.see(seen(made_request(key="k1", arm=arm, started_at=at)))
    assert told(monitor, at) == {}
    assert monitor.state()["subjects"][0][0] == "k1"


def test_keys_are_bounded_and_who_was_away_longest_is_forgotten() -> None:
    monitor = made(keys_max=3)
    for number in range(10):
        for key in ("busy", f"key{number}"):
            monitor.see(seen(made_request(key=key, started_at=START + number)))
    names = [name for name, _ in monitor.state()["subjects"]]
    assert sorted(names) == ["", "busy", "key8", "key9"]
    with pytest.raises(ValueError, match="keys_max"):
        made(keys_max=0)


def test_what_is_not_known_is_not_taken_for_nothing() -> None:
    monitor = made()
    for number in range(2_000):
        request = made_request(
            key="", started_at=START + number, prompt_tokens=-1, completion_tokens=-1, cost_usd=-1.0
        )
        monitor.see(seen(request, failed=True))
    assert monitor.standing() == "learning: 0 of 21 days, 0 of 2000 requests; 0 keys"


def test_it_resumes_exactly() -> None:
    monitor, dice = made(), random.Random(7)
    weeks(monitor, dice, 0, 4)
    state = json.loads(json.dumps(monitor.state()))
    other = made()
    other.restore(state)
    for number in range(4 * 7 * 24, 4 * 7 * 24 + 60):
        at = START + number * HOUR
        for each in (monitor, other):
            hour(each, at, random.Random(number), 1.0 if number % 7 else 9.0, "k1")
        assert other.conditions(at) == monitor.conditions(at)
    assert other.state() == monitor.state()
    assert json.loads(json.dumps(other.state()))


def test_what_is_damaged_is_refused_and_changes_nothing() -> None:
    monitor, dice = made(keys_max=5), random.Random(8)
    weeks(monitor, dice, 0, 1)
    state = json.loads(json.dumps(monitor.state()))

    def broken(**changes: Any) -> dict[str, Any]:
        return {**json.loads(json.dumps(state)), **changes}

    meter = broken()
    next(kept for _, kept in meter["subjects"])["meters"]["tokens/day"]["so_far"] = -1
    damaged: list[Any] = [
        {}, broken(at="x"), broken(subjects=[]), broken(subjects=7), broken(per_request={}),
        broken(subjects=[["", {}]]), broken(subjects=state["subjects"] * 2), meter,
    ]  # fmt: skip
    for each in damaged:
        other = made(keys_max=5)
        other.restore(state)
        with pytest.raises(ValueError, match=r"."):
            other.restore(each)
        assert json.loads(json.dumps(other.state())) == state


def test_the_next_release_inherits_who_spends_what_and_learns_what_requests_cost() -> None:
    monitor, dice = made(), random.Random(9)
    weeks(monitor, dice, 0, 4)
    heir = made()
    heir.inherit(json.loads(json.dumps(monitor.state())))
    now = START + 4 * 7 * DAY + 10 * HOUR
    for _ in range(8):
        hour(heir, now, dice, 1.0, "k1")
    assert ("app", "outburst_hour") in told(heir, now)
    assert heir.state()["per_request"]["usd"]["values"] != []
    with pytest.raises(ValueError, match="damaged"):
        heir.inherit({"subjects": 1})


def test_its_self_test_finds_the_fault_and_fails_in_a_monitor_that_does_not() -> None:
    assert made().self_test() == ""

    class Sleeping(CostMonitor):
        def conditions(self, now: float) -> list[Condition]:
            return []

    class Crying(CostMonitor):
        def conditions(self, now: float) -> list[Condition]:
            return [Condition((), severity=None, summary="wolf")]  # type: ignore[arg-type]

    class BlindToDays(CostMonitor):
        def conditions(self, now: float) -> list[Condition]:
            found = super().conditions(now)
            return [one for one in found if dict(one.labels)["kind"] != "outburst_day"]

    assert "ten times the usual" in cost_self_test(BlindToDays("s", "r"))
    assert "not found" in cost_self_test(Sleeping("s", "r"))
    assert "told of honest requests: wolf" in cost_self_test(Crying("s", "r"))


RARELY = (1e3, 1e6, 1e9)
"""Requests to a false alarm, as they can be set."""


def test_the_rarer_a_false_alarm_is_to_be_the_later_dear_requests_are_told() -> None:
    needed = []
    for rarely in RARELY:
        monitor, dice, at = made(requests_per_false_alarm=rarely), random.Random(21), START
        for _ in range(LEARN):
            at += 10.0
            monitor.see(seen(answer(dice, at, 100)))
        count = 0
        while ("", "answer_tokens_per_request") not in told(monitor, at):
            at += 10.0
            count += 1
            monitor.see(seen(answer(dice, at, 250)))
            assert count < 2_000
        needed.append(count)
    assert needed[0] < needed[1] < needed[2]


def test_the_rarer_a_false_alarm_is_to_be_the_later_a_rise_is_told() -> None:
    needed = []
    for rarely in (RARELY[0], RARELY[-1]):
        monitor, dice = made(keys_max=10, requests_per_false_alarm=rarely), random.Random(3)
        weeks(monitor, dice, 0, 5)
        number = 5 * 7 * 24
        while ("", "rise_hour") not in told(monitor, START + number * HOUR):
            hour(monitor, START + number * HOUR, dice, 2.4, "k1")
            number += 1
            assert number < 9 * 7 * 24
        needed.append(number)
    assert needed[0] < needed[1]


def test_with_another_setting_it_keeps_who_spends_what_and_learns_what_requests_cost() -> None:
    monitor, dice = made(), random.Random(9)
    weeks(monitor, dice, 0, 4)
    state = json.loads(json.dumps(monitor.state()))
    for rarely, is_kept in ((1e6, True), (1e9, False)):
        other = made(requests_per_false_alarm=rarely)
        other.restore(state)
        after = json.loads(json.dumps(other.state()))
        assert after["subjects"] == state["subjects"]
        assert (after["per_request"] == state["per_request"]) is is_kept
