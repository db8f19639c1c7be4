"""The generated rules, loaded by the real promtool, and beside our own decider."""

from __future__ import annotations

import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.control.notify.rendering import alert_name
from fairlead.control.watching.heartbeat import Heartbeat
from fairlead.control.watching.interface import OLD_S
from fairlead.control.watching.judged_metrics import JudgedMetrics
from fairlead.domain.errors import InvalidInput
from fairlead.gateway.records.metrics import TOKEN_BUCKETS_S, GatewayMetrics
from fairlead.gateway.records.tallies import DURATION_BUCKETS_S
from fairlead.monitoring import prometheus_rules as rules
from fairlead.monitoring.alerts import observe
from fairlead.monitoring.burning import Bucket, assess
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.prometheus_rules import Bounds, Promises, duration, rules_yaml
from fairlead.monitoring.promising import conditions_of

PROMTOOL = shutil.which("promtool", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no promtool here (apt-get install prometheus)"
)
BOUNDS = Bounds(DURATION_BUCKETS_S, TOKEN_BUCKETS_S)
KEEP_MINUTES = 5
UP = Objective(ObjectiveKind.AVAILABILITY, 0.995)
SLOW = Objective(ObjectiveKind.TTFT, 0.95, 500.0)
BETWEEN = Objective(ObjectiveKind.LATENCY, 0.95, 2_000.0)
COST = Objective(ObjectiveKind.COST, threshold=0.01)
EVERY = (
    UP, SLOW, Objective(ObjectiveKind.ITL, 0.95, 40.0), BETWEEN, COST,
    Objective(ObjectiveKind.QUALITY, 0.9),
)  # fmt: skip


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    return said


@needs_promtool
@pytest.mark.parametrize("period_days", [7.0, 30.0, 90.0])
def test_promtool_accepts_the_rules_of_every_kind(tmp_path: Path, period_days: float) -> None:
    objectives = tuple(
        Objective(o.kind, o.target, o.threshold, period_days=period_days) for o in EVERY
    )
    path = tmp_path / "rules.yml"
    path.write_text(
        rules_yaml([Promises(name, objectives, "https://x.example/r") for name in "ab"], BOUNDS)
    )
    assert "SUCCESS" in promtool("check", "rules", str(path))


def test_the_rules_ask_for_nothing_that_the_gateway_does_not_export() -> None:
    exported = {state.name for state in GatewayMetrics().states()}
    asked = {rules.REQUESTS, rules.FAILED, rules.COST, rules.SNAPSHOT, rules.LOST}
    assert (asked | set(rules.HISTOGRAMS.values())) <= exported


def test_that_nobody_watches_is_asked_of_what_control_exports() -> None:
    assert rules.WATCHING in {state.name for state in Heartbeat(lambda: 0.0).states()}
    assert rules.WATCHING_S == OLD_S


def test_what_judges_said_is_asked_of_what_control_exports() -> None:
    names = [state.name for state in JudgedMetrics().states()]
    assert names == [rules.JUDGED, rules.BAD]


@needs_promtool
@pytest.mark.parametrize("is_scraped", [True, False])
def test_a_promise_of_quality_that_nobody_sees_is_told(tmp_path: Path, is_scraped: bool) -> None:
    """Where only the gateway is scraped; and no control that shows another service is enough."""
    rule_file, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    rule_file.write_text(rules_yaml([Promises("bank", EVERY)], BOUNDS))
    shown = "bank" if is_scraped else "shop"
    document = {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f'{rules.JUDGED}{{service="{shown}"}}', "values": "0+0x20"}
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertname="FairleadQualityBlind",service="bank",'
                        'watched="slo"} == 1 and ALERTS{alertstate="firing"})',
                        "eval_time": "15m",
                        "exp_samples": [] if is_scraped else [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


@needs_promtool
def test_a_control_that_watches_no_more_is_a_page_and_one_that_is_not_scraped_never(
    tmp_path: Path,
) -> None:
    """One that is gone was there before; where only the gateway is scraped nothing is missed."""
    path, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    path.write_text(rules_yaml([Promises("bank", (UP,))], BOUNDS))
    name = "FairleadWatchingStopped"
    series = {"hangs": "2x5 60+60x20", "is gone": "2x5 _x60", "runs": "2x60", "none": ""}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": rules.WATCHING, "values": values}] if values else [],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                    "eval_time": "15m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for what, values in series.items()
        for fires in (what in ("hangs", "is gone"),)
    ]
    document = {"rule_files": [str(path)], "evaluation_interval": "1m", "tests": tests}
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


@needs_promtool
@pytest.mark.parametrize(
    ("values", "quiet", "pages"),
    [("_ 1x20", (0, 1, 2, 10), ()), ("1x5 _x30", (0, 5, 11), (14, 20)), ("", (0, 1), (3, 9))],
    ids=["begins", "is gone", "never comes"],
)
def test_a_prometheus_that_has_just_begun_pages_nobody_for_what_it_has_not_scraped_yet(
    tmp_path: Path, values: str, quiet: tuple[int, ...], pages: tuple[int, ...]
) -> None:
    path, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    path.write_text(rules_yaml([Promises("bank", (UP,))], BOUNDS))
    expr = 'count(ALERTS{alertname="FairleadGatewayBlind",alertstate="firing"})'
    document = {
        "rule_files": [str(path)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": rules.SNAPSHOT, "values": values}] if values else [],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if minute in pages else [],
                    }
                    for minute in (*quiet, *pages)
                ],
            }
        ],
    }
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


def test_every_alert_of_the_rules_says_what_to_do() -> None:
    document = yaml.safe_load(rules_yaml([Promises("bank", EVERY)], BOUNDS))
    alerts = [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    page = Path(__file__).parents[2] / "docs" / "alerts.md"
    assert len(alerts) == 3 + 2 * len(EVERY) + 1
    for alert in alerts:
        said = alert["annotations"]
        assert said["summary"]
        assert said["description"]
        assert "runbook_url" not in said, "a path is no address"
        where, _, anchor = said["runbook"].rpartition(": ")
        assert "documentation" in where
        assert f'id="{anchor}"' in page.read_text()
    given = rules_yaml([Promises("bank", (UP,), "https://x.example/{monitor}")], BOUNDS)
    assert "runbook_url: https://x.example/slo\n" in given
    assert "runbook_url: https://x.example/gateway_down\n" in given


def test_both_kinds_of_alerts_have_the_same_labels() -> None:
    """An Alertmanager that is told by both takes them for the same alert."""
    document = yaml.safe_load(rules_yaml([Promises("bank", (UP,))], BOUNDS))
    theirs = [
        {"alertname": rule["alert"], **rule["labels"]}
        for group in document["groups"]
        for rule in group["rules"]
        if rule["labels"].get("monitor") == "slo"
    ]
    found = conditions_of("bank", assess(UP, [Bucket(60.0, 100, 50)], 60.0))
    alerts = observe({}, found, {("slo", "bank")}, 60.0).values()
    own = [
        {"alertname": alert_name(alert), "severity": alert.severity.value, **alert.of}
        for alert in sorted(alerts, key=lambda alert: alert.severity)
    ]
    assert own == sorted(theirs, key=lambda labels: labels["severity"])
    assert len(own) == 2


def test_who_has_to_be_scraped_for_quality_is_said() -> None:
    text = rules_yaml([Promises("bank", EVERY)], BOUNDS)
    assert "# bank: quality is shown by control; its /metrics have to be scraped, too.\n" in text
    assert 'slo="quality"' in text
    assert "control" not in rules_yaml([Promises("bank", (UP,))], BOUNDS).partition("groups:")[0]


def test_a_threshold_beyond_all_buckets_is_refused() -> None:
    late = Objective(ObjectiveKind.TTFT, 0.95, 200_000.0)
    with pytest.raises(InvalidInput, match="no bucket of fairlead_gateway_time_to_first_token"):
        rules_yaml([Promises("bank", (late,))], BOUNDS)


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "5m"), (3_600, "1h"), (5_040, "84m"), (259_200, "3d"), (90, "90s")]
)
def test_times_are_written_as_prometheus_writes_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def faults(seed: int, count: int) -> list[tuple[int, int]]:
    """Requests and bad ones by minute: calm, with spells of trouble of every size."""
    chance = random.Random(seed)
    found = []
    bad_share = 0.0
    for minute in range(count):
        if minute % 25 == 0:
            bad_share = chance.choice([0.0, 0.0, 0.0, 0.02, 0.1, 0.5, 1.0])
        total = chance.choice([0, 1, 3, 20]) if seed % 2 else chance.randint(15, 25)
        found.append((total, sum(chance.random() < bad_share for _ in range(total))))
    return found


def cumulative(counts: list[int]) -> str:
    """A counter that begins at zero, as promtool writes series."""
    total, values = 0, ["0"]
    for count in counts:
        total += count
        values.append(str(total))
    return " ".join(values)


def series_of(objective: Objective, counts: list[tuple[int, int]]) -> dict[str, str]:
    total, bad = [n for n, _ in counts], [b for _, b in counts]
    good = [n - b for n, b in counts]
    if objective.kind is ObjectiveKind.AVAILABILITY:
        return {
            f'{rules.REQUESTS}{{service="bank",release="a",code="200"}}': cumulative(total),
            f'{rules.FAILED}{{service="bank",release="a"}}': cumulative(bad),
        }
    if objective.kind is ObjectiveKind.COST:
        return {
            f'{rules.REQUESTS}{{service="bank",release="a",code="200"}}': cumulative(total),
            # A bad request costs 0.125 USD, which no rounding changes.
            f'{rules.COST}{{service="bank",release="a"}}': " ".join(
                str(int(value) * 0.125) for value in cumulative(bad).split()
            ),
        }
    histogram = rules.HISTOGRAMS[objective.kind]
    return {
        f'{histogram}_count{{service="bank",release="a"}}': cumulative(total),
        f'{histogram}_bucket{{service="bank",release="a",le="0.5"}}': cumulative(good),
        f'{histogram}_bucket{{service="bank",release="a",le="1"}}': cumulative(total),
    }


def ours(objective: Objective, counts: list[tuple[int, int]]) -> list[list[str]]:
    """What our own decider fires by minute, held for as long as the rules hold it."""
    price = 0.125 if objective.kind is ObjectiveKind.COST else 1.0
    buckets = [Bucket(60.0 * (i + 1), n, b * price) for i, (n, b) in enumerate(counts)]
    burning: list[set[str]] = []
    for minute in range(len(counts) + 1):
        found = assess(objective, buckets, 60.0 * minute)
        burning.append({b.pair.severity.value for b in found.burns if b.is_burning})
    return [
        sorted(set().union(*burning[max(0, minute - KEEP_MINUTES) : minute + 1]))
        for minute in range(len(burning))
    ]


def unit_test(rule_file: Path, series: dict[str, str], expected: list[list[str]]) -> dict[str, Any]:
    return {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": v} for name, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (severity) (ALERTS{alertstate="firing",monitor="slo"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [
                            {"labels": f'{{severity="{severity}"}}', "value": 1}
                            for severity in severities
                        ],
                    }
                    for minute, severities in enumerate(expected)
                ],
            }
        ],
    }


@needs_promtool
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("objective", [UP, SLOW, COST], ids=lambda o: o.kind.value)
def test_prometheus_and_our_own_decider_fire_at_the_same_minute(
    tmp_path: Path, objective: Objective, seed: int
) -> None:
    counts = faults(seed, 300)
    expected = ours(objective, counts)
    changes = sum(a != b for a, b in pairwise(expected))
    assert changes >= 2, "the series must show an alert that begins, and one that ends"
    rule_file, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    rule_file.write_text(rules_yaml([Promises("bank", (objective,))], BOUNDS))
    document = unit_test(rule_file, series_of(objective, counts), expected)
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


@needs_promtool
def test_the_comparison_would_notice_a_minute(tmp_path: Path) -> None:
    """The same test with our alerts a minute late is refused by promtool."""
    counts = faults(2, 300)
    late = [[], *ours(UP, counts)[:-1]]
    rule_file, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    rule_file.write_text(rules_yaml([Promises("bank", (UP,))], BOUNDS))
    test_file.write_text(yaml.safe_dump(unit_test(rule_file, series_of(UP, counts), late)))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", str(test_file))


@needs_promtool
@pytest.mark.parametrize(("le", "severities"), [("2.5", []), ("5", ["page", "ticket"])])
def test_a_threshold_between_two_buckets_pages_only_for_what_is_surely_late(
    tmp_path: Path, le: str, severities: list[str]
) -> None:
    """2,000 ms lies between 1 and 2.5 s: answers of 1.5 s are in that bucket, and are in time."""
    path, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    text = rules_yaml([Promises("bank", (BETWEEN,))], BOUNDS)
    assert "# bank: latency is late here from 2500 ms on, not 2000: the next bound" in text
    path.write_text(text)
    histogram = rules.HISTOGRAMS[ObjectiveKind.LATENCY]
    counts = cumulative([50] * 60)
    series = {f'{histogram}_count{{service="bank"}}': counts}
    for bound in ("1", "2.5", "5"):
        in_it = counts if float(bound) >= float(le) else cumulative([0] * 60)
        series[f'{histogram}_bucket{{service="bank",le="{bound}"}}'] = in_it
    document = unit_test(path, series, [severities] * 61)
    of_it = document["tests"][0]
    # The first minutes have no two samples.
    of_it["promql_expr_test"] = of_it["promql_expr_test"][5:]
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


def test_a_threshold_that_is_a_bound_needs_no_comment() -> None:
    assert "late here" not in rules_yaml([Promises("bank", (UP, SLOW, COST))], BOUNDS)
    # 0.07 * 1000 is a little more than 70.
    bounds = Bounds((0.07,), (0.07,))
    exact = Objective(ObjectiveKind.ITL, 0.95, 70.0)
    assert "late here" not in rules_yaml([Promises("bank", (exact,))], bounds)
