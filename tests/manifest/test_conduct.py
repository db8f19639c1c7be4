"""Strategies, hooks, freezes and testers as a manifest says them, and the plan that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cli.planning import freeze_of, plan_of
from fairlead.domain.errors import InvalidInput
from fairlead.manifest import Manifest, load_manifest
from fairlead.rollout.freeze import Freeze
from fairlead.rollout.plan import Hook, Point, Ramp, Step, Strategy


@pytest.fixture
def manifest(tmp_path: Path) -> Any:
    """Loads a manifest with this rollout."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")

    def load(**rollout: Any) -> Manifest:
        document = {"service": "bank", "release": {"model": "model.gguf"}, "rollout": rollout}
        path = tmp_path / "fairlead.yaml"
        path.write_text(yaml.safe_dump(document))
        return load_manifest(path)

    return load


def test_a_canary_is_what_is_meant_when_nothing_is_said(manifest: Any) -> None:
    plan = plan_of(manifest())
    assert plan.strategy is Strategy.CANARY
    assert len(plan.steps) == 2
    assert plan.chooses_steps
    assert not plan_of(manifest(steps=[{"share": "10%"}])).chooses_steps
    assert not plan_of(manifest(ramp={"harm_budget": 5})).chooses_steps
    assert not plan_of(manifest(strategy="blue_green")).chooses_steps
    assert (plan.warm_s, plan.holdback, plan.hooks, plan.approve_promotion) == (0.0, 0.0, (), False)


def test_blue_green_and_immediate_have_no_steps(manifest: Any) -> None:
    plan = plan_of(manifest(strategy="blue_green"))
    assert (plan.steps, plan.warm_s, plan.holdback) == ((), 600.0, 0.0)
    plan = plan_of(manifest(strategy="blue_green", after={"warm_minutes": 2, "holdback": "5%"}))
    assert (plan.warm_s, plan.holdback) == (120.0, 0.05)
    plan = plan_of(manifest(strategy="immediate"))
    assert (plan.steps, plan.warm_s) == ((), 0.0)


def test_an_ab_comparison_is_one_step_of_its_whole_time(manifest: Any) -> None:
    plan = plan_of(manifest(strategy="ab", hold={"share": "40%", "hours": 48, "requests": 7}))
    assert plan.steps == (Step(0.4, 7, 48 * 3600.0),)
    assert plan.deadline_s >= 48 * 3600 + plan.settle_s + plan.gateway_s + 60


def test_a_slow_watch_is_declared_with_or_without_a_warm_time(manifest: Any) -> None:
    plan = plan_of(manifest(after={"failures_at_most": "3%", "revert": True}))
    assert (plan.failures_at_most, plan.revert) == (0.03, True)
    assert (plan.warm_s, plan.holdback) == (0.0, 0.0)
    plan = plan_of(manifest(strategy="immediate", after={"failures_at_most": 0.1}))
    assert plan.failures_at_most == 0.1
    plan = plan_of(manifest(strategy="blue_green", after={"revert": True}))
    assert (plan.warm_s, plan.holdback, plan.revert) == (600.0, 0.0, True)
    assert (plan_of(manifest()).failures_at_most, plan_of(manifest()).revert) == (None, False)


def test_a_ramp_takes_the_place_of_the_steps(manifest: Any) -> None:
    plan = plan_of(manifest(ramp={"start": "2%", "highest": "30%", "harm_budget": 20}))
    assert [step.share for step in plan.steps] == [0.02, 0.04, 0.08, 0.16, 0.3]
    assert plan.ramp == Ramp(requests=20.0)
    plan = plan_of(manifest(ramp={"harm_budget": "0.1%"}))
    assert (plan.steps[0].share, plan.steps[-1].share) == (0.01, 0.5)
    assert plan.ramp == Ramp(share=0.001)


def test_hooks_approvals_and_deadlines_reach_the_plan(manifest: Any) -> None:
    plan = plan_of(
        manifest(
            steps=[{"share": "10%"}, {"share": "50%", "approval": True}],
            approve_promotion=True, approval_hours=2, ready_minutes=3, gateway_minutes=1,
            hooks=[{"url": "https://ci.example/hook", "at": ["before", "after"]}],
        )
    )  # fmt: skip
    assert [step.approval for step in plan.steps] == [False, True]
    assert plan.hooks == (Hook("https://ci.example/hook", (Point.BEFORE, Point.AFTER)),)
    assert (plan.approve_promotion, plan.approval_s) == (True, 7200.0)
    assert (plan.ready_s, plan.gateway_s) == (180.0, 60.0)


def test_freezes_are_read_with_their_days_times_and_zones(manifest: Any) -> None:
    given = [
        {"name": "weekend", "days": ["fri"], "begins": "18:00", "ends": "09:00",
         "timezone": "Europe/Berlin"},
        {"name": "holidays", "since": "2026-12-24T00:00:00+00:00",
         "until": "2026-12-27T00:00:00+00:00"},
    ]  # fmt: skip
    assert freeze_of(manifest(freeze=given)) == (
        Freeze("weekend", (4,), 1080, 540, "Europe/Berlin"),
        Freeze("holidays", since=1798070400.0, until=1798329600.0),
    )


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ({"strategy": "blue"}, 'rollout.strategy must be "canary", "blue_green", "ab" or'),
        ({"strategy": "immediate", "steps": [{"share": "10%"}]}, "rollout.steps are for strategy"),
        ({"strategy": "ab"}, 'rollout needs the key "hold" for strategy ab'),
        ({"hold": {"hours": 1}}, "rollout.hold is for strategy ab"),
        ({"strategy": "immediate", "after": {"warm_minutes": 1}}, "after.warm_minutes is for the"),
        ({"after": {"failures_at_most": "0%"}}, "failures_at_most must be from 0.01% to 50%"),
        ({"after": {"failures_at_most": "60%"}}, "failures_at_most must be from 0.01% to 50%"),
        ({"after": {"revert": 1}}, "rollout.after.revert must be"),
        ({"after": {"warm_minutes": 1, "holdback": "60%"}}, "holdback must be at most 50%"),
        ({"hooks": [{"url": "ftp://x"}]}, "rollout.hooks[0].url must be an http or https address"),
        ({"hooks": [{"url": "http://u:p@x"}]}, "without a user in it"),
        ({"hooks": [{"url": "http://:p@x"}]}, "without a user in it"),
        ({"hooks": [{"url": "http://169.254.169.254/hook"}]}, "hooks[0].url must not lead there"),
        ({"hooks": [{"url": "http://127.1/hook"}]}, "hooks[0].url must not lead there"),
        ({"hooks": [{"url": "http://x:99999"}]}, "hooks[0].url must be an http or https address"),
        ({"hooks": [{"url": "http://x", "at": ["befor"]}]}, "rollout.hooks[0].at[0] must be"),
        ({"freeze": [{"name": "x", "begins": "25:00"}]}, 'begins must be a time such as "18:30"'),
        ({"freeze": [{"name": "x", "timezone": "Mars"}]}, "timezone must be a time zone such as"),
        ({"freeze": [{"name": "x", "since": "2026-12-24"}]}, "since must be a date and time with"),
        ({"pin": [{"release": "canary"}]}, "rollout.pin[0] needs keys or sessions"),
        ({"ramp": {}}, 'rollout.ramp needs the key "harm_budget"'),
        ({"ramp": {"harm_budget": 0}}, "harm_budget must be a number of requests above 0, or"),
        ({"ramp": {"harm_budget": "0%"}}, "harm_budget must be a number of requests above 0, or"),
        ({"ramp": {"harm_budget": float("nan")}}, "harm_budget must be a number of requests"),
        ({"ramp": {"harm_budget": 5, "start": "0%"}}, "ramp.start must be at least 0.01%"),
        ({"ramp": {"harm_budget": 5, "highest": "0.5%"}}, "highest must be at least the start"),
        ({"ramp": {"harm_budget": 5, "highest": "100%"}}, "highest must be at least the start"),
        ({"ramp": {"harm_budget": 5}, "steps": [{"share": "5%"}]}, "rollout.ramp takes the place"),
        ({"ramp": {"harm_budget": 5}, "strategy": "immediate"}, "rollout.ramp is for strategy"),
        ({"ramp": {"harm_budgt": 5}}, 'unknown key "harm_budgt" in rollout.ramp (did you mean'),
        ({"freez": []}, 'unknown key "freez" in rollout (did you mean "freeze"?)'),
    ],
)
def test_mistakes_are_told_with_their_place(
    manifest: Any, rollout: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        manifest(**rollout)
    assert told in str(raised.value)


@pytest.mark.parametrize("url", ["http://u:topsecret@x", "u:topsecret@x/hook"])
def test_a_password_in_a_hook_s_address_is_not_repeated(manifest: Any, url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        manifest(hooks=[{"url": url}])
    assert "rollout.hooks[0].url must be" in str(raised.value)
    assert "topsecret" not in str(raised.value)
