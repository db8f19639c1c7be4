"""The monitor `bias` over live traffic: segments that fare worse are told, others are not."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from fairlead.domain.outcomes import SHADOW
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.interface import Monitor, SeenFeedback
from fairlead.monitoring.monitors.segments import SegmentMonitor, alpha_of
from fairlead.monitoring.monitors.self_tests import bias_self_test, seen
from fairlead.monitoring.monitors.self_tests import made as made_request

START = 1_700_000_000.0


def unit_of(key: str) -> str:
    return f"unit of {key}"


def made(segments: dict[str, tuple[str, ...]] | None = None, **more: Any) -> SegmentMonitor:
    return SegmentMonitor(
        "bank",
        "r1",
        {"eu": ("k1", "k2")} if segments is None else segments,
        key_unit=unit_of,
        feedback={"thumbs": 0.5},
        **more,
    )


def stream(monitor: Monitor, count: int, bad: dict[str, float], **fields: Any) -> None:
    """Requests of three keys; `bad` is each key's rate of failures, 10 % if it is not there."""
    dice = random.Random(5)
    for number in range(count):
        key = dice.choice(("k1", "k2", "k3", "k3"))
        request = made_request(
            id=f"{number}",
            key=key,
            unit=f"session {number}",
            started_at=START + number,
            prompt_tokens=dice.choice((10, 100, 1_000)),
            **fields,
        )
        monitor.see(seen(request, failed=dice.random() < bad.get(key, 0.1)))


def labels(monitor: Monitor) -> list[dict[str, str]]:
    return [dict(condition.labels) for condition in monitor.conditions(START)]


def test_a_segment_that_fails_more_is_told_with_both_rates() -> None:
    monitor = made()
    stream(monitor, 4_000, {"k1": 0.25, "k2": 0.25})
    assert labels(monitor) == [
        {"monitor": "segments", "service": "bank", "release": "r1", "segment": "eu",
         "outcome": "failures"},
    ]  # fmt: skip
    [condition] = monitor.conditions(START)
    assert "segment eu has more failures than others" in condition.summary
    rates = [figure.value for figure in condition.evidence[:2]]
    assert rates == [pytest.approx(25.0, abs=3.0), pytest.approx(10.0, abs=2.0)]
    assert monitor.standing() == "watching, 4000 requests, 1 gaps"
    monitor.accept()
    assert labels(monitor) == []
    stream(monitor, 12_000, {"k1": 0.25, "k2": 0.25})
    assert labels(monitor) == []  # It is known, and was accepted.
    stream(monitor, 8_000, {"k1": 0.6, "k2": 0.6})
    assert [each["outcome"] for each in labels(monitor)] == ["failures"]


def test_accepting_one_gap_keeps_the_evidence_of_others_and_spends_less_of_alpha() -> None:
    monitor = made({"eu": ("k1",)})
    stream(monitor, 2_000, {"k1": 0.3}, refused=0)
    assert [each["outcome"] for each in labels(monitor)] == ["failures"]
    before = json.loads(json.dumps(monitor.state()))
    limits = []
    for rate in (0.6, 0.85, 0.96):
        [condition] = monitor.conditions(START)
        limits.append(condition.evidence[2].limit or 0.0)
        monitor.accept()
        assert monitor.state()["tests"]["eu/refusals"]["blocks"] > 40
        if len(limits) == 1:
            assert monitor.state()["tests"]["eu/refusals"] == before["tests"]["eu/refusals"]
        stream(monitor, 3_000, {"k1": rate}, refused=0)
    accepted = monitor.state()["accepted"]
    assert accepted == {
        "eu/failures": 3, "eu/refusals": 0, "eu/short answers": 0, "eu/feedback/thumbs": 0,
    }  # fmt: skip
    shares = [math.exp(-limit) for limit in limits]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) < 0.01 / 4  # four comparisons share alpha


def test_a_key_that_is_made_later_is_of_its_segment_from_its_first_request_on() -> None:
    """By its name, and what was seen before is evidence still."""
    names = {"k1": "app"}
    monitor = SegmentMonitor(
        "bank", "r1", {"eu": ("app",)}, key_unit=unit_of, name_of=lambda key: names.get(key, key)
    )
    stream(monitor, 800, {"k1": 0.3})
    names["k9"] = "app"
    for number in range(3_000):
        request = made_request(
            key="k9" if number % 2 else "k3", unit=f"s{number}", started_at=START + 9_000 + number
        )
        monitor.see(seen(request, failed=number % 4 == 1 or number % 20 == 0))
    assert [(each["segment"], each["outcome"]) for each in labels(monitor)] == [("eu", "failures")]
    [condition] = monitor.conditions(START)
    assert condition.evidence[0].value > 40.0


def answers(
    monitor: SegmentMonitor, count: int, factor: float, seed: int = 3, **more: Any
) -> SegmentMonitor:
    """Answers of which those to `k1` are so many times as long."""
    dice = random.Random(seed)
    for number in range(count):
        key = dice.choice(("k1", "k3", "k3"))
        length = math.exp(dice.gauss(4.0, 0.6)) * (factor if key == "k1" else 1.0)
        asked = dice.choice((10, 1_000))
        fields = {"completion_tokens": int(length * (1.0 + asked / 500.0)), **more}
        request = made_request(
            id=f"{number}", key=key, unit=f"session {number}", started_at=START + number,
            prompt_tokens=asked, **fields,
        )  # fmt: skip
        monitor.see(seen(request, failed=False))
    return monitor


@pytest.mark.parametrize(("factor", "more"), [(0.7, "more"), (1.4, "fewer")])
def test_a_segment_whose_answers_are_shorter_or_longer_is_told(factor: float, more: str) -> None:
    monitor = answers(made({"eu": ("k1",)}), 3_000, factor)
    assert [each["outcome"] for each in labels(monitor)] == ["short answers"]
    [condition] = monitor.conditions(START)
    assert f"segment eu has {more} short answers than others" in condition.summary
    again = made({"eu": ("k1",)})
    again.restore(json.loads(json.dumps(monitor.state())))
    assert again.state() == monitor.state()
    assert again.conditions(START) == monitor.conditions(START)


def test_answers_of_equal_lengths_are_no_gap_however_long_what_is_asked() -> None:
    for seed in range(20):
        monitor = answers(made({"eu": ("k1",)}), 2_000, 1.0, seed)
        assert labels(monitor) == []
    for fields in ({"completion_tokens": 7}, {"completion_tokens": -1}, {"status": 400}):
        monitor = answers(made({"eu": ("k1",)}), 2_000, 0.2, **fields)
        assert labels(monitor) == []


def test_what_an_earlier_version_did_not_compare_begins_now() -> None:
    monitor = made({"eu": ("k1",)})
    stream(monitor, 2_000, {"k1": 0.3})
    kept = json.loads(json.dumps(monitor.state()))
    for part in (kept["tests"], kept["accepted"]):
        del part["eu/short answers"]
    del kept["short"]
    again = made({"eu": ("k1",)})
    again.restore(kept)
    assert labels(again) == labels(monitor) != []
    for damage in (7, {}, {"first": {"s": [-1]}, "middle": {}}, {"first": {}, "middle": {"s": "x"}},
                   {"first": {"s": [1] * 101}, "middle": {}},
                   {"first": {}, "middle": {f"{n}": 1 for n in range(65)}}):  # fmt: skip
        with pytest.raises(ValueError, match="damaged"):
            again.restore({**kept, "short": damage})
    assert labels(again) == labels(monitor)


def test_segments_alike_are_not_told() -> None:
    monitor = made({"eu": ("k1",), "us": ("k2",)})
    stream(monitor, 30_000, {})
    assert labels(monitor) == []


def test_longer_requests_that_fail_more_are_no_gap_of_who_sends_them() -> None:
    monitor, dice = made(), random.Random(6)
    for number in range(8_000):
        key = dice.choice(("k1", "k3"))
        is_long = dice.random() < (0.8 if key == "k1" else 0.2)
        request = made_request(
            key=key, unit=f"{number}", started_at=START + number,
            prompt_tokens=4_000 if is_long else 20,
        )  # fmt: skip
        monitor.see(seen(request, failed=dice.random() < (0.3 if is_long else 0.02)))
    assert labels(monitor) == []


def test_refusals_and_feedback_are_outcomes_of_their_own() -> None:
    monitor, dice = made(), random.Random(7)
    for number in range(3_000):
        key = dice.choice(("k1", "k3"))
        refused = int(dice.random() < (0.3 if key == "k1" else 0.05))
        request = made_request(
            key=key, unit=f"{number}", started_at=START + number, refused=refused
        )
        monitor.see(seen(request))
        value = float(dice.random() < (0.6 if key == "k1" else 0.9))
        monitor.see_feedback(SeenFeedback(request, "thumbs", value, START + number + 5))
        monitor.see_feedback(SeenFeedback(request, "other", 0.0, START + number + 5))
    assert {each["outcome"] for each in labels(monitor)} == {"refusals", "feedback/thumbs"}
    assert {condition.summary.split(" than ")[0] for condition in monitor.conditions(START)} == {
        "bank: segment eu has more refusals",
        "bank: segment eu has more bad feedback thumbs",
    }


def test_a_session_counts_once_and_a_key_without_sessions_each_time() -> None:
    copies, plain = made(), made()
    for number in range(3_000):
        key = "k1" if number % 2 else "k3"
        bad = key == "k1" and number % 4 == 1
        at = START + number
        copies.see(seen(made_request(key=key, unit=f"chat of {key}", started_at=at), failed=bad))
        plain.see(seen(made_request(key=key, unit=unit_of(key), started_at=at), failed=bad))
    assert labels(copies) == []
    assert [each["outcome"] for each in labels(plain)] == ["failures"]


def test_copies_of_requests_are_nobodys() -> None:
    monitor = made()
    stream(monitor, 3_000, {"k1": 0.9}, arm=SHADOW)
    assert monitor.standing() == "watching, 0 requests"


def test_it_resumes_exactly_and_refuses_what_is_damaged() -> None:
    monitor = made()
    stream(monitor, 1_000, {"k1": 0.3})
    state = json.loads(json.dumps(monitor.state()))
    other = made()
    other.restore(state)
    for each in (monitor, other):
        stream(each, 1_000, {"k1": 0.3})
    assert other.state() == monitor.state()
    name = next(iter(state["tests"]))
    for broken in (
        {}, {**state, "tests": {}}, {**state, "requests": "x"}, {**state, "tests": 1},
        {**state, "accepted": {}}, {**state, "accepted": dict.fromkeys(state["accepted"], -1)},
        {**state, "tests": {**state["tests"], name: {**state["tests"][name], "harmless": [1, 2]}}},
        {**state, "tests": {**state["tests"], name: {}}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            other.restore(broken)
        assert other.state() == monitor.state()
    with pytest.raises(ValueError, match="other segments"):
        made({"us": ("k1",)}).restore(state)


def test_what_cannot_be_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="0 segments"):
        made({})
    with pytest.raises(ValueError, match="alpha"):
        SegmentMonitor("s", "r", {"a": ("k",)}, key_unit=unit_of, alpha=1.0)


def test_what_was_seen_of_other_keys_is_no_evidence() -> None:
    kept = made({"eu": ("k1", "k2")}).state()
    with pytest.raises(ValueError, match="other segments"):
        made({"eu": ("k1", "k3")}).restore(kept)
    made({"eu": ("k2", "k1")}).restore(kept)


def test_its_self_test_finds_the_fault_and_fails_in_a_monitor_that_does_not() -> None:
    assert made().self_test() == ""

    class Sleeping(SegmentMonitor):
        def conditions(self, now: float) -> list[Condition]:
            return []

    assert "was not found" in bias_self_test(Sleeping("s", "r", {"a": ("k",)}, key_unit=unit_of))


@pytest.mark.parametrize(("rarely", "alpha"), [(1e6, 0.01), (1e9, 1e-5), (1e5, 0.1), (1e3, 0.1)])
def test_a_false_gap_is_as_much_rarer_as_false_alarms_are_to_be(
    rarely: float, alpha: float
) -> None:
    assert alpha_of(rarely) == pytest.approx(alpha)


def test_the_rarer_a_false_alarm_is_to_be_the_later_a_gap_is_told() -> None:
    needed = []
    for rarely in (1e3, 1e6, 1e9):
        monitor, count = made(alpha=alpha_of(rarely)), 0
        dice = random.Random(5)
        while not labels(monitor):
            key = dice.choice(("k1", "k3"))
            request = made_request(
                id=f"{count}", key=key, unit=f"session {count}", started_at=START + count
            )
            monitor.see(seen(request, failed=dice.random() < (0.18 if key == "k1" else 0.1)))
            count += 1
            assert count < 10_000
        needed.append(count)
    assert needed[0] < needed[1] < needed[2]


def test_what_was_seen_stays_evidence_when_false_alarms_are_to_be_rarer() -> None:
    monitor = made()
    stream(monitor, 4_000, {"k1": 0.25, "k2": 0.25})
    state = json.loads(json.dumps(monitor.state()))
    careful = made(alpha=1e-300)
    careful.restore(state)
    assert (len(labels(monitor)), len(labels(careful))) == (1, 0)
    assert careful.state() == monitor.state()
