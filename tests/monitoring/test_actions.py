"""Actions: which one, when not, and why; each decision is an audit entry."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.actions import (
    BACK_S,
    ActionEntry,
    ActionKind,
    ActionPolicy,
    ActionVerdict,
    Circumstances,
    decide,
    decide_all,
)
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.policies import check_policies, check_policy
from monitoring.making import changed, condition, firing

BACK = ActionPolicy(ActionKind.ROLL_BACK, ("slo",))
SEEN = Circumstances(
    champion="sha256:bbb", champion_since=500.0, last_good="sha256:aaa",
    fallbacks=("small",), replicas=2, replicas_max=3, gates=1, guardrails=("secrets", "mail"),
    keeps_prompts=True,
)  # fmt: skip


def alert(now: float = 1_000.0, **fields: Any) -> Alert:
    (made,) = firing(condition(**fields), now=now)
    return made


def verdict(policy: ActionPolicy, seen: Circumstances = SEEN, **fields: Any) -> ActionEntry:
    return decide(alert(**fields), policy, (), seen, 1_100.0)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (ActionKind.ROLL_BACK, "sha256:aaa"),
        (ActionKind.FALLBACK, "small"),
        (ActionKind.SCALE, "3"),
        (ActionKind.RERUN_GATE, "sha256:bbb"),
        (ActionKind.PROPOSE_RETRAINING, "sha256:bbb"),
        (ActionKind.TIGHTEN_GUARDRAIL, "secrets,mail"),
        (ActionKind.ADD_CASES, "sha256:bbb"),
    ],
)
def test_each_action_has_its_target_and_its_reason(kind: ActionKind, target: str) -> None:
    entry = verdict(ActionPolicy(kind, ("slo",)))
    assert (entry.verdict, entry.target) == (ActionVerdict.ACT, target)
    assert entry.reason.endswith(": bank: slo is wrong")
    assert (entry.service, entry.at, entry.episode) == ("bank", 1_100.0, 1_000.0)


def test_a_rollout_is_paused() -> None:
    seen = msgspec.structs.replace(SEEN, rollout="ro-1")
    entry = verdict(ActionPolicy(ActionKind.PAUSE_ROLLOUT, ("slo",)), seen)
    assert (entry.verdict, entry.target) == (ActionVerdict.ACT, "ro-1")


@pytest.mark.parametrize(
    ("kind", "seen", "why"),
    [
        (ActionKind.ROLL_BACK, {"last_good": None}, "no earlier release"),
        (ActionKind.ROLL_BACK, {"last_good": "sha256:bbb"}, "serves already"),
        (ActionKind.ROLL_BACK, {"champion_since": 1_050.0}, "came after the alert began"),
        (ActionKind.ROLL_BACK, {"rollout": "ro-1"}, "a rollout is under way"),
        (ActionKind.ROLL_BACK, {"champion_since": 999.0 - 6 * 3_600.0}, "more than 6 hours before"),
        (ActionKind.PAUSE_ROLLOUT, {}, "no rollout"),
        (
            ActionKind.PAUSE_ROLLOUT,
            {"rollout": "ro-1", "rollout_is_paused": True},
            "paused already",
        ),
        (ActionKind.FALLBACK, {"fallbacks": ()}, "no fallback"),
        (ActionKind.FALLBACK, {"on_fallback": True}, "answers already"),
        (ActionKind.SCALE, {"replicas_max": 2}, "no room"),
        (ActionKind.SCALE, {"rollout": "ro-1"}, "rollout is under way"),
        (ActionKind.RERUN_GATE, {"gates": 0}, "no gates"),
        (ActionKind.TIGHTEN_GUARDRAIL, {"guardrails": ()}, "only flags"),
        (ActionKind.PROPOSE_RETRAINING, {"champion": None}, "no release"),
        (ActionKind.ADD_CASES, {"champion": None}, "no release"),
        (ActionKind.ADD_CASES, {"keeps_prompts": False}, "declare `capture`"),
    ],
)
def test_what_has_nothing_to_act_on_is_impossible(
    kind: ActionKind, seen: dict[str, Any], why: str
) -> None:
    entry = verdict(ActionPolicy(kind, ("slo",)), msgspec.structs.replace(SEEN, **seen))
    assert entry.verdict is ActionVerdict.IMPOSSIBLE
    assert why in entry.reason


def test_an_alert_of_a_release_that_does_not_serve_rolls_nothing_back() -> None:
    assert verdict(BACK, release="ccc").verdict is ActionVerdict.IMPOSSIBLE
    assert verdict(BACK, release="bbb").verdict is ActionVerdict.ACT


def test_an_alert_of_the_release_that_serves_rolls_it_back_also_beside_a_rollout() -> None:
    seen = msgspec.structs.replace(SEEN, rollout="ro-1")
    assert verdict(BACK, seen, release="bbb").verdict is ActionVerdict.ACT
    assert verdict(BACK, seen, release="ccc").verdict is ActionVerdict.IMPOSSIBLE


def test_how_long_before_a_release_may_have_served_is_declared() -> None:
    seen = msgspec.structs.replace(SEEN, champion_since=-9 * 3_600.0)
    assert verdict(BACK, seen).verdict is ActionVerdict.IMPOSSIBLE
    longer = msgspec.structs.replace(BACK, within_s=12 * 3_600.0)
    assert verdict(longer, seen).verdict is ActionVerdict.ACT


def test_a_release_that_was_gone_back_to_is_not_rolled_back_itself() -> None:
    """The alert of what was before goes on, or comes back, while its windows hold that."""
    first = verdict(BACK)
    now_a = msgspec.structs.replace(
        SEEN, champion="sha256:aaa", champion_since=1_110.0, last_good="sha256:000"
    )
    for policy in (BACK, ActionPolicy(ActionKind.ROLL_BACK, ("slo", "quality"))):
        entry = decide(alert(now=6_000.0), policy, (first,), now_a, 6_000.0)
        assert entry.verdict is ActionVerdict.IMPOSSIBLE
        assert "was gone back to" in entry.reason
    later = decide(alert(now=20_000.0), BACK, (first,), now_a, 1_101.0 + BACK_S)
    assert later.verdict is ActionVerdict.ACT


def test_a_dry_run_has_changed_no_release() -> None:
    dry = msgspec.structs.replace(verdict(BACK), verdict=ActionVerdict.DRY_RUN)
    now_a = msgspec.structs.replace(SEEN, champion="sha256:aaa", last_good="sha256:000")
    assert decide(alert(now=6_000.0), BACK, (dry,), now_a, 6_000.0).verdict is ActionVerdict.ACT


def test_a_dry_run_keeps_nothing_real_from_being_done_nor_the_other_way_round() -> None:
    dry = msgspec.structs.replace(BACK, dry_run=True)
    assert decide(alert(), BACK, (verdict(dry),), SEEN, 1_300.0).verdict is ActionVerdict.ACT
    assert decide(alert(), dry, (verdict(BACK),), SEEN, 1_300.0).verdict.value == "dry_run"


def test_two_policies_that_cannot_be_told_apart_are_refused() -> None:
    check_policies((BACK, ActionPolicy(ActionKind.ROLL_BACK, ("slo", "quality"))))
    same = ActionPolicy(ActionKind.ROLL_BACK, ("slo",), (Severity.TICKET,))
    with pytest.raises(InvalidInput, match="declared twice for slo"):
        check_policies((BACK, same))


def test_policies_of_the_same_action_have_their_limits_together() -> None:
    first = verdict(ActionPolicy(ActionKind.SCALE, ("latency", "slo")))
    scale = ActionPolicy(ActionKind.SCALE, ("slo",))
    waits = decide(alert(now=1_200.0), scale, (first,), SEEN, 1_300.0)
    assert waits.verdict.value == "cooling"
    assert waits.reason == "cooling down until 1970-01-01 01:18:20 UTC"
    assert decide(alert(), scale, (first,), SEEN, 1_300.0).verdict is ActionVerdict.DONE
    once = msgspec.structs.replace(scale, cooldown_s=0.0, per_day_max=1)
    assert decide(alert(now=1_200.0), once, (first,), SEEN, 1_300.0).verdict.value == "day_limit"
    assert decide(alert(now=1_200.0), BACK, (first,), SEEN, 1_300.0).verdict is ActionVerdict.ACT


@pytest.mark.parametrize(
    "fields",
    [{"monitor": "drift"}, {"severity": Severity.TICKET}, {"monitor": BLIND}, {"pending_s": 9.0}],
)
def test_a_policy_acts_on_the_alerts_that_it_names_and_that_fire(fields: dict[str, Any]) -> None:
    assert verdict(BACK, **fields).verdict is ActionVerdict.NOT_MEANT


def test_once_for_an_episode_then_a_cool_down_then_a_limit_per_day() -> None:
    policy = msgspec.structs.replace(BACK, cooldown_s=600.0, per_day_max=2, within_s=1e6)
    history: tuple[ActionEntry, ...] = ()
    said = []
    for now, begun in [(1_000, 1_000), (1_700, 1_000), (1_500, 1_400), (1_700, 1_650),
                       (2_400, 2_350), (90_000, 89_000)]:  # fmt: skip
        entry = decide(alert(now=float(begun)), policy, history, SEEN, float(now))
        history = (*history, entry)
        said.append(entry.verdict.value)
    assert said == ["act", "done", "cooling", "act", "day_limit", "act"]


def test_a_dry_run_says_what_it_would_do_and_counts_for_the_limits() -> None:
    dry = msgspec.structs.replace(BACK, dry_run=True)
    first = verdict(dry)
    assert (first.verdict, first.target) == (ActionVerdict.DRY_RUN, "sha256:aaa")
    again = decide(alert(now=1_200.0), dry, (first,), SEEN, 1_300.0)
    assert again.verdict is ActionVerdict.COOLING


def test_a_decision_is_entered_once_however_often_it_is_made() -> None:
    alerts = firing(condition(), condition(slo="ttft"))
    first = decide_all(alerts, [BACK], (), SEEN, 1_100.0)
    assert [entry.verdict.value for entry in first] == ["act", "cooling"]
    assert decide_all(alerts, [BACK], first, SEEN, 1_105.0) == ()
    stuck = msgspec.structs.replace(SEEN, last_good=None)
    (said,) = decide_all(alerts[:1], [BACK], (), stuck, 1_100.0)
    assert decide_all(alerts[:1], [BACK], (said,), stuck, 1_200.0) == ()
    (acted,) = decide_all(alerts[:1], [BACK], (said,), SEEN, 1_300.0)
    assert acted.verdict is ActionVerdict.ACT


def test_another_service_has_limits_of_its_own() -> None:
    bank = verdict(BACK)
    shop = decide(alert(service="shop"), BACK, (bank,), SEEN, 1_100.0)
    assert shop.verdict is ActionVerdict.ACT


def test_an_alert_that_is_over_asks_for_nothing() -> None:
    over = changed(alert(), state=AlertState.RESOLVED)
    assert decide(over, BACK, (), SEEN, 1_100.0).verdict is ActionVerdict.NOT_MEANT


@pytest.mark.parametrize(
    "fields",
    [
        {"monitors": ()},
        {"severities": ()},
        {"monitors": (BLIND,)},
        {"monitors": ("actions",)},
        {"cooldown_s": float("nan")},
        {"per_day_max": 0},
        {"replicas_more": 0},
        {"within_s": 0.0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="action roll_back"):
        check_policy(msgspec.structs.replace(BACK, **fields))


def test_one_guardrail_is_tightened_where_it_is_named() -> None:
    """And none in its place; policies of two guardrails are two policies."""
    mail = ActionPolicy(ActionKind.TIGHTEN_GUARDRAIL, ("slo",), guardrail="mail")
    assert verdict(mail).target == "mail"
    gone = msgspec.structs.replace(mail, guardrail="gone")
    assert verdict(gone).verdict is ActionVerdict.IMPOSSIBLE
    assert "no guardrail gone that only flags" in verdict(gone).reason
    check_policies([mail, gone])


def test_so_few_new_cases_that_no_release_could_pass_are_refused() -> None:
    policy = ActionPolicy(ActionKind.ADD_CASES, ("drift",), cases_max=10)
    check_policy(policy)
    with pytest.raises(InvalidInput, match="at least 10 cases, not 9"):
        check_policy(msgspec.structs.replace(policy, cases_max=9))
