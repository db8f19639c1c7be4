"""What all monitors of requests have in common, on simulated traffic of one release."""

import json
import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import short
from fairlead.manifest.monitor_names import MONITORS
from fairlead.monitoring.conditions import check_condition
from fairlead.monitoring.monitors.interface import Monitor, Seen
from fairlead.monitoring.monitors.requests import KINDS, build
from fairlead.monitoring.monitors.settings import MonitorSettings
from support.request_traffic import HONEST, World, thumbs, traffic

DIGEST = "sha256:" + "0123456789ab" + 52 * "c"
SMALL = MonitorSettings(learn=200)
FAULTY = World(
    since=1_600, failing_then=0.6, malformed_then=0.9, refused_then=0.5, longer=6.0, slower=4.0
)


FAULTY_FROM = 1e9 + 800.0


@lru_cache
def faulty() -> tuple[Seen, ...]:
    """Honest traffic, and then everything is wrong."""
    return tuple(traffic(2_400, 3, 3, FAULTY))


def feed(
    monitors: Sequence[Monitor], requests: Sequence[Seen], faulty_from: float = math.inf
) -> None:
    """Each to all, with feedback on some; a pure function of the requests."""
    for seen in requests:
        dice = random.Random(seen.request.id)
        for monitor in monitors:
            monitor.see(seen)
        if dice.random() < 0.3:
            bad = 0.1 if seen.request.started_at < faulty_from else 0.9
            for monitor in monitors:
                monitor.see_feedback(thumbs(seen, dice, bad))


def said(monitors: Sequence[Monitor]) -> list[Any]:
    return [found for monitor in monitors for found in monitor.conditions(2e9)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_finds_a_fault_made_for_it(kind: type[Any]) -> None:
    for chosen in (MonitorSettings(), MonitorSettings(5_000, 1e9, 1.0)):
        assert kind("bank", DIGEST, chosen).self_test() == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_self_test_fails_where_the_monitor_is_blind(
    kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for ear in ("see", "see_feedback"):
        monkeypatch.setattr(kind, ear, lambda *_: None)
    assert "did not find" in kind("bank", DIGEST, SMALL).self_test()


@pytest.mark.parametrize("kind", KINDS)
def test_a_self_test_fails_where_the_monitor_cries_for_nothing(
    kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "conditions", lambda *_: ["wolf"])
    assert "honest" in kind("bank", DIGEST, SMALL).self_test()


def test_they_are_named_as_in_manifests_and_can_be_turned_off() -> None:
    names = [monitor.name for monitor in build("bank", DIGEST)]
    assert len(set(names)) == len(names) == 9
    assert set(names) <= set(MONITORS)
    left = build("bank", DIGEST, MonitorSettings(off=("errors", "length")))
    assert [monitor.name for monitor in left] == [
        name for name in names if name not in ("errors", "length")
    ]


def test_what_they_say_is_about_the_release_and_makes_sense() -> None:
    monitors = build("bank", DIGEST, SMALL)
    feed(monitors, faulty(), FAULTY_FROM)
    found = said(monitors)
    assert {one.monitor for one in found} >= {
        "errors", "format", "refusals", "length", "quality",
    }  # fmt: skip
    for one in found:
        check_condition(one)
        labels = dict(one.labels)
        assert (labels["service"], labels["release"]) == ("bank", short(DIGEST))
        assert one.summary.startswith("bank: ")
        assert one.evidence
    assert len({one.fingerprint for one in found}) == len(found)


def test_accepting_what_is_now_learns_anew() -> None:
    monitors = build("bank", DIGEST, SMALL)
    feed(monitors, faulty(), FAULTY_FROM)
    for monitor in monitors:
        monitor.accept()
    assert said(monitors) == []
    assert all("learning" in m.standing() or "no feedback" in m.standing() for m in monitors)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2_400))
def test_they_resume_to_identical_states(cut: int) -> None:
    """A process that is killed at any moment, while learning, watching or in an alarm."""
    requests = faulty()
    whole, part = whole_run(), build("bank", DIGEST, SMALL)
    feed(part, requests[:cut], FAULTY_FROM)
    kept = json.loads(json.dumps([monitor.state() for monitor in part], allow_nan=False))
    part = build("bank", DIGEST, SMALL)
    for monitor, state in zip(part, kept, strict=True):
        monitor.restore(state)
    feed(part, requests[cut:], FAULTY_FROM)
    for one, other in zip(part, whole, strict=True):
        assert one.state() == other.state()
        assert one.conditions(2e9) == other.conditions(2e9)
        assert one.standing() == other.standing()


@lru_cache
def whole_run() -> list[Monitor]:
    monitors = build("bank", DIGEST, SMALL)
    feed(monitors, faulty(), FAULTY_FROM)
    return monitors


def damaged_forms(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The state with one of its parts, however deep, of another type."""
    forms: list[dict[str, Any]] = []
    for name, value in state.items():
        if isinstance(value, dict):
            forms += [{**state, name: form} for form in damaged_forms(value)]
        if isinstance(value, dict | list):
            forms.append({**state, name: 17})
        elif isinstance(value, int | float):
            forms.append({**state, name: "x"})
    return forms


def incomplete_forms(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The state without one of its parts; an earlier version did not keep all of them."""
    needed = [name for name in state if name != "learnt_since"]
    return [{key: each for key, each in state.items() if key != name} for name in needed]


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_damaged_states_are_refused_and_change_nothing(number: int) -> None:
    state = json.loads(json.dumps(whole_run()[number].state()))
    monitor = build("bank", DIGEST, SMALL)[number]
    before = monitor.state()
    for form in [*incomplete_forms(state), {**state, "of": "x"}, *damaged_forms(state)]:
        with pytest.raises(ValueError, match=r"\w"):
            monitor.restore(form)
        assert monitor.state() == before
    monitor.restore(state)


def test_a_state_of_another_release_or_of_other_settings_is_refused() -> None:
    for other in (build("bank", DIGEST[:-1] + "d", SMALL), build("bank", DIGEST)):
        for mine, theirs in zip(build("bank", DIGEST, SMALL), other, strict=True):
            with pytest.raises(ValueError, match="another monitor"):
                mine.restore(theirs.state())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"learn": 10}, "learn"),
        ({"learn": 10**9}, "learn"),
        ({"requests_per_false_alarm": 1.0}, "requests_per_false_alarm"),
        ({"requests_per_false_alarm": float("nan")}, "requests_per_false_alarm"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: Any, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        MonitorSettings(**wrong)


@pytest.mark.parametrize("seed", range(3))
def test_honest_traffic_in_bursts_and_waves_of_load_is_no_alarm(seed: int) -> None:
    monitors = build("bank", DIGEST)
    requests = list(traffic(8_000, 100 + seed, 4, HONEST))
    for start in range(0, len(requests), 500):
        feed(monitors, requests[start : start + 500])
        assert said(monitors) == []
    assert all("learning" not in monitor.standing() for monitor in monitors)


def test_what_is_not_known_is_not_counted() -> None:
    """Requests without times, tokens or looks at the answer leave only the errors to learn."""
    monitors = build("bank", DIGEST, SMALL)
    for seen in traffic(300, 1):
        bare = seen.request._replace(  # type: ignore[attr-defined]
            stream=True, ttft_ms=-1.0, itl_ms=-1.0, duration_ms=-1.0, replica="",
            completion_tokens=-1, refused=-1, malformed=-1, guardrail_hits=-1,
        )  # fmt: skip
        for monitor in monitors:
            monitor.see(seen._replace(request=bare))
    standings = {monitor.name: monitor.standing() for monitor in monitors}
    assert standings.pop("errors") == "watching"
    assert standings.pop("quality") == "no feedback so far"
    assert set(standings.values()) == {"learning, 0 of 200 requests"}
