"""A monitor that is given nothing it can use is blind, and one whose data are rare is not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from control.watching_world import WatchedWorld
from fairlead.control.watching.release_monitors import MONITOR, PART, ReleaseMonitors
from fairlead.domain.judging import JUDGED
from fairlead.gateway.requests import request_body
from fairlead.monitoring.monitors.answers import LengthMonitor
from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.intake import (
    DAY_S,
    EMBEDDINGS,
    FEEDBACK,
    SEGMENT,
    TIMES,
    TOKENS,
    Expected,
    Intake,
    TakesIn,
    kinds_of,
)
from fairlead.monitoring.monitors.interface import Monitor, Seen, SeenFeedback
from fairlead.monitoring.monitors.quality import QualityMonitor
from fairlead.monitoring.monitors.replicas import SlowReplicaMonitor
from fairlead.monitoring.monitors.requests import build
from fairlead.monitoring.monitors.segments import SegmentMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.monitoring.monitors.times import LatencyMonitor, ThroughputMonitor
from fairlead.store import open_store

SETTINGS = MonitorSettings(learn=200)
OF = ("bank", "sha256:a")


class Watched:
    """One monitor of a release, its requests, and what it says of them."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.monitors = ReleaseMonitors(*OF, lambda: [monitor])
        self.at = 1_000_000.0
        self._dice = random.Random(3)

    def ask(self, count: int, over_s: float, *, load: float = 5.0, **changes: Any) -> int:
        """So many requests, evenly over so many seconds; of how many it missed something then."""
        for number in range(count):
            self.at += over_s / count
            spread = self._dice.lognormvariate(0.0, 0.2)
            request = Made(
                id=f"{self.at}", started_at=self.at, ttft_ms=100.0 * spread, itl_ms=20.0 * spread,
                replica="ab"[number % 2], key="shop",
            )._replace(**changes)  # fmt: skip
            self.monitors.see(Seen(request, load, load, failed=request.status >= 500))
            if number % 50 == 49:
                self.missing()
        return self.missing()

    def missing(self) -> int:
        (report,) = self.monitors.reports(self.at)
        return report.requests

    @property
    def lacks(self) -> str:
        (report,) = self.monitors.reports(self.at)
        return report.lacks


# When it is no chance


def test_so_many_without_any_over_so_long_are_no_chance_and_fewer_or_shorter_are() -> None:
    expected = Expected("answers", 100, 60.0, "tokens")
    before = Intake().after(50, 50, 10.0)
    assert before.after(0, 99, 500.0).lacking(expected) == 0
    assert before.after(0, 100, 60.0).lacking(expected) == 0
    gone = before.after(0, 60, 40.0).after(0, 40, 70.0)
    assert gone.lacking(expected) == 100
    assert gone.after(1, 1, 71.0).lacking(expected) == 0


def test_requests_of_another_kind_between_them_take_no_time_away() -> None:
    expected = Expected("streams", 20, 2_000.0, "times")
    intake = Intake().after(50, 50, 10.0)
    for number in range(1, 21):
        for other in range(100):
            intake = intake.after(0, 0, 10.0 + 120.0 * number - 100.0 + other)
        intake = intake.after(0, 1, 10.0 + 120.0 * number)
    assert intake.lacking(expected) == 20


def test_what_was_rare_is_waited_for_longer() -> None:
    """One in fifty answers had it: a thousand without are needed for what a hundred say else."""
    expected = Expected("answers", 100, 60.0, "tokens")
    rare = Intake().after(20, 1_000, 10.0)
    assert rare.after(0, 999, 500.0).lacking(expected) == 0
    assert rare.after(0, 1_000, 500.0).lacking(expected) == 1_000


def test_who_never_had_anything_misses_nothing_unless_it_is_declared() -> None:
    never = Intake().after(0, 10, 10.0).after(0, 90_000, 10.0 + 9 * DAY_S)
    assert never.lacking(TOKENS) == 0
    assert never.lacking(SEGMENT) == 90_010


def test_requests_are_told_apart_by_what_they_could_give() -> None:
    def kinds(**changes: Any) -> tuple[str, ...]:
        request = Made()._replace(**changes)
        return kinds_of(Seen(request, 1.0, 1.0, failed=request.status >= 500))

    assert kinds() == ("requests", "answers", "streams")
    assert kinds(stream=False) == ("requests", "answers")
    assert kinds(status=503) == kinds(status=404) == kinds(endpoint=EMBEDDINGS) == ("requests",)
    assert kinds(arm="shadow") == ()
    assert EMBEDDINGS == request_body.EMBEDDINGS


# Each monitor


@pytest.mark.parametrize("kind", [LatencyMonitor, ThroughputMonitor, SlowReplicaMonitor])
def test_loads_that_were_never_learnt_are_blindness_after_a_day(
    kind: Callable[..., Monitor],
) -> None:
    watched = Watched(kind(*OF, SETTINGS))
    assert watched.ask(1_500, 3_600.0) == 0
    assert watched.ask(3_000, 0.9 * DAY_S, load=60.0) == 0, "a night is no blindness"
    assert watched.ask(200, 3_600.0) == 0
    assert watched.ask(2_000, 1.1 * DAY_S, load=60.0) >= TIMES.least
    assert watched.lacks == "times at loads that it has learnt"
    assert watched.ask(50, 60.0) == 0


def test_a_weekend_without_traffic_is_no_time_in_which_nothing_came() -> None:
    watched = Watched(LatencyMonitor(*OF, SETTINGS))
    watched.ask(1_500, 3_600.0)
    watched.at += 3 * DAY_S
    assert watched.ask(1_200, 3_600.0, load=60.0) == 0
    assert watched.ask(1_200, DAY_S, load=60.0) >= TIMES.least


@pytest.mark.parametrize("kind", [LatencyMonitor, SlowReplicaMonitor])
def test_an_outage_is_no_blindness_of_times(kind: Callable[..., Monitor]) -> None:
    watched = Watched(kind(*OF, SETTINGS))
    watched.ask(1_500, 3_600.0)
    assert watched.ask(5_000, 2 * DAY_S, status=503) == 0


def test_a_service_that_streams_no_more_is_no_blindness_of_streams() -> None:
    watched = Watched(ThroughputMonitor(*OF, SETTINGS))
    watched.ask(1_500, 3_600.0)
    assert watched.ask(5_000, 2 * DAY_S, stream=False, itl_ms=-1.0) == 0


def test_a_provider_that_counts_no_tokens_any_more_blinds_length_and_cost() -> None:
    for monitor in (LengthMonitor(*OF, SETTINGS), CostMonitor(*OF)):
        watched = Watched(monitor)
        assert watched.ask(500, 3_600.0) == 0
        uncounted: dict[str, Any] = {"completion_tokens": -1, "prompt_tokens": -1}
        assert watched.ask(900, 5_000.0, **uncounted) == 0
        assert watched.ask(200, 500.0, **uncounted) >= TOKENS.least
        assert watched.lacks.startswith("counts of tokens")
        assert watched.ask(1, 1.0) == 0


def test_one_that_never_counted_any_and_one_that_answers_with_vectors_are_not_blind() -> None:
    for before in (0, 500):
        watched = Watched(LengthMonitor(*OF, SETTINGS))
        watched.ask(before, 3_600.0)
        changes = {"endpoint": EMBEDDINGS} if before else {}
        assert watched.ask(5_000, 2 * DAY_S, completion_tokens=-1, **changes) == 0


def give(watched: Watched, count: int, name: str = "thumbs") -> None:
    for _ in range(count):
        request = Made(started_at=watched.at)
        watched.monitors.see_feedback(SeenFeedback(request, name, 1.0, watched.at))


def test_clients_that_say_nothing_any_more_blind_quality_also_where_a_judge_goes_on() -> None:
    watched = Watched(QualityMonitor(*OF, SETTINGS))
    for _ in range(40):
        watched.ask(50, 600.0)
        give(watched, 1)
        give(watched, 5, JUDGED)
    assert watched.ask(2_500, 2 * DAY_S) == 0, "a weekend"
    give(watched, 1)
    watched.ask(3_000, 3.5 * DAY_S)
    give(watched, 5, JUDGED)
    assert watched.missing() >= FEEDBACK.least
    assert watched.lacks == "feedback thumbs"


def test_a_judge_that_is_done_is_no_blindness_by_itself() -> None:
    watched = Watched(QualityMonitor(*OF, SETTINGS))
    for _ in range(40):
        watched.ask(50, 600.0)
        give(watched, 5, JUDGED)
    assert watched.ask(5_000, 9 * DAY_S) == 0


def test_a_segment_whose_key_nobody_has_is_blindness_and_names_it() -> None:
    segments = {"shops": ("shop",), "elderly": ("no-such-key",)}
    watched = Watched(SegmentMonitor(*OF, segments, key_unit=str))
    assert watched.ask(6_000, 2.5 * DAY_S) == 0
    assert watched.ask(500, 0.6 * DAY_S) >= SEGMENT.least
    assert watched.lacks.startswith("request of segment elderly")
    assert watched.ask(1, 1.0, key="no-such-key") == 0


# How long it is remembered


def test_who_accepts_it_is_asked_no_more_until_something_came_again() -> None:
    monitor = LengthMonitor(*OF, SETTINGS)
    watched = Watched(monitor)
    watched.ask(500, 3_600.0)
    assert watched.ask(1_500, 9_000.0, completion_tokens=-1) > 0
    watched.monitors.accept("length")
    assert watched.ask(3_000, 19_000.0, completion_tokens=-1) == 0
    watched.ask(100, 600.0)
    assert watched.ask(2_500, 9_000.0, completion_tokens=-1) > 0


def test_what_one_has_taken_in_is_known_after_a_restart() -> None:
    watched = Watched(LengthMonitor(*OF, SETTINGS))
    watched.ask(500, 3_600.0)
    watched.ask(700, 3_000.0, completion_tokens=-1)
    kept = watched.monitors.documents()
    documents = {key: data for (kind, key), data in kept.items() if kind == MONITOR}
    parts = {key: data for (kind, key), data in kept.items() if kind == PART}
    again = Watched(LengthMonitor(*OF, SETTINGS))
    again.at = watched.at
    again.monitors.restore(documents, parts)
    assert again.ask(200, 500.0, completion_tokens=-1) == 0
    assert again.ask(200, 900.0, completion_tokens=-1) >= TOKENS.least


def test_those_that_can_be_given_nothing_say_what_they_take_in() -> None:
    made = [*build(*OF), CostMonitor(*OF), SegmentMonitor(*OF, {"a": ("b",)}, key_unit=str)]
    assert {one.name for one in made if isinstance(one, TakesIn)} == {
        "latency", "throughput", "slow_replica", "length", "quality", "cost", "segments",
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WatchedWorld]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield WatchedWorld(store)
    store.close()


async def test_it_becomes_an_alert_that_says_what_does_not_come(world: WatchedWorld) -> None:
    def length(_served: Any, release: str) -> Sequence[Monitor]:
        return [LengthMonitor("bank", release, SETTINGS)]

    watching = await world.begin(length)
    for changes in ({}, {"completion_tokens": -1}):
        for _ in range(6):
            world.serve(250, **changes)
            await watching.look()
            world.now += 900.0
            world.record()
            await watching.look()
    (blind,) = [a for a in watching.desk.alerts.values() if a.of["monitor"] == "monitor_blind"]
    assert (blind.of["watched"], blind.of["fault"]) == ("length", "no_data")
    assert blind.summary == "bank: monitor length saw nothing of the traffic: no counts of tokens"
    await watching.close()
