"""The monitors of the platform are tried on made trouble: a deaf one and a crying one are blind."""

from __future__ import annotations

from typing import Any

import pytest

from control.acting_world import platform
from control.simulated_world import World
from fairlead.control.acting import judged_self_tests, self_tests
from fairlead.control.acting.judged_self_tests import limits, provider
from fairlead.control.acting.self_tests import EVERY_S, TESTS, SelfTests
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.rollout.slow import Day

WATCHES = {
    "replicas": "ReplicaWatch",
    "records": "RecordsWatch",
    "clocks": "ClockWatch",
    "files": "FilesWatch",
    "gateway": "GatewayWatch",
}
CRIES = Condition(labels_of(monitor="service_down", service="x"), Severity.PAGE, "always")


@pytest.mark.parametrize("test", TESTS.values())
def test_they_pass(test: Any) -> None:
    assert test() == ""


@pytest.mark.parametrize(("name", "watch"), WATCHES.items())
def test_a_deaf_monitor_and_one_that_cries_fail(
    name: str, watch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, test = getattr(self_tests, watch), getattr(self_tests, name)
    monkeypatch.setattr(cls, "conditions", lambda *_: [])
    assert "was not found" in test() or test().startswith("no ")
    monkeypatch.setattr(cls, "conditions", lambda *_: [CRIES])
    assert "all was well" in test() or "all replicas are ready" in test()


@pytest.mark.parametrize("says", [False, True])
def test_who_judges_over_time_and_is_deaf_or_cries_fails(
    says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Day, "is_exceeded", says)
    assert limits() == (
        "a limit that is kept was told as exceeded" if says
        else "a release that fails six times as often as it may was not found"
    )  # fmt: skip
    if says:
        monkeypatch.setattr(judged_self_tests, "_has_changed", lambda *, changes: True)
    else:
        monkeypatch.setattr(judged_self_tests, "closed", lambda probing, *_: probing)
    assert provider() == (
        "a provider that had not changed was told" if says
        else "a provider that answers otherwise was not found"
    )  # fmt: skip


def test_they_run_at_the_first_look_and_each_day() -> None:
    runs: list[str] = []

    def breaks() -> str:
        runs.append("clock")
        raise ZeroDivisionError

    tests = SelfTests({("clock_skew",): breaks, ("records", "other"): lambda: "deaf"})
    failed = tests.failed(1_000.0)
    assert failed["records"] == failed["other"] == "failed its self-test: deaf"
    assert failed["clock_skew"].startswith("failed its self-test: a defect: ZeroDivisionError at ")
    tests.failed(1_000.0 + EVERY_S - 1.0)
    assert len(runs) == 1
    tests.failed(1_000.0 + EVERY_S)
    tests.failed(900.0)  # The clock was set back.
    assert len(runs) == 3


async def test_one_that_fails_is_blind_and_its_alerts_stay(world: World) -> None:
    watched = platform(world)
    watched._self_tests = SelfTests({("clock_skew",): lambda: "a clock was not found"})
    await watched.look()
    blind = {dict(one.labels).get("watched"): one.summary for one in watched.conditions(world.now)}
    assert "failed its self-test: a clock was not found" in blind["clock_skew"]
    assert ("clock_skew", "") not in watched.looked()
    assert ("records", "") in watched.looked()
