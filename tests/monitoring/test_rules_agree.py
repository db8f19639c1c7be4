"""Services and what happens to them: Prometheus and our own decider say the same of each.

The generated rules are evaluated by the real promtool, minute by minute, on counters as the gateway
and control export them. What fires, and with which severity, has to be what `burning.assess` says
of the same counts at the same minute.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.monitoring import prometheus_rules as rules
from fairlead.monitoring.burning import Bucket, assess, pairs_of
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.prometheus_rules import Promises, rules_yaml
from monitoring.test_prometheus_rules import BOUNDS, needs_promtool, ours, promtool, unit_test

MINUTES = 240
TROUBLE = range(60, 120)
PRICE = 0.125
"""USD of a request that is dear; a number that no rounding changes."""

Counts = list[tuple[int, int]]
Shape = Callable[[random.Random, Objective], Counts]
PROMISES = (
    Objective(ObjectiveKind.AVAILABILITY, 0.995),
    Objective(ObjectiveKind.AVAILABILITY, 0.99, period_days=7.0),
    Objective(ObjectiveKind.TTFT, 0.95, 500.0),
    Objective(ObjectiveKind.ITL, 0.95, 50.0, period_days=14.0),
    Objective(ObjectiveKind.LATENCY, 0.9, 2_500.0),
    Objective(ObjectiveKind.COST, threshold=0.01),
    Objective(ObjectiveKind.AVAILABILITY, 0.999, requests_min=100, bad_min=10),
    Objective(ObjectiveKind.QUALITY, 0.9),
)


def share(objective: Objective, burn: float) -> float:
    """The share of bad requests that burns the budget so many times as fast as it may."""
    price = PRICE if objective.kind is ObjectiveKind.COST else 1.0
    return min(1.0, burn * objective.allowance / price)


def minute(dice: random.Random, total: int, bad: float) -> tuple[int, int]:
    return total, sum(dice.random() < bad for _ in range(total))


def outage(dice: random.Random, objective: Objective) -> Counts:
    """All fail for an hour."""
    return [minute(dice, dice.randint(15, 25), float(at in TROUBLE)) for at in range(MINUTES)]


def slow_burn(dice: random.Random, objective: Objective) -> Counts:
    """Never enough for a page, for two hours."""
    bad = share(objective, 1.7)
    return [minute(dice, 60, bad if 30 <= at < 150 else 0.0) for at in range(MINUTES)]


def at_the_limit(dice: random.Random, objective: Objective) -> Counts:
    """About as much as a page needs, now a little more and now a little less."""
    factor = pairs_of(objective)[0].factor
    return [
        minute(dice, 40, share(objective, factor * (0.7 + 0.6 * (at // 20 % 2))))
        for at in range(MINUTES)
    ]


def flapping(dice: random.Random, objective: Objective) -> Counts:
    """Bad and good by turns of some minutes."""
    bad = share(objective, 40.0)
    return [
        minute(dice, dice.randint(5, 40), bad if at // 12 % 2 and at < 150 else 0.0)
        for at in range(MINUTES)
    ]


def few(dice: random.Random, objective: Objective) -> Counts:
    """A request now and then: the least numbers decide."""
    return [minute(dice, int(dice.random() < 0.3), 0.5 * (at in TROUBLE)) for at in range(MINUTES)]


def bursts(dice: random.Random, objective: Objective) -> Counts:
    """Many at once and then nobody, some of them bad."""
    bad = share(objective, 20.0)
    return [
        minute(dice, 200 * (at % 17 == 0), bad * (at in TROUBLE or at > 200))
        for at in range(MINUTES)
    ]


def growing(dice: random.Random, objective: Objective) -> Counts:
    """More and more of them are bad, until somebody mends it."""
    return [
        minute(dice, 30, share(objective, at / 4.0) if at < 160 else 0.0) for at in range(MINUTES)
    ]


SHAPES: tuple[Shape, ...] = (
    outage, slow_burn, at_the_limit, flapping, few, bursts, growing,
)  # fmt: skip


def counter(grown: Sequence[float], *, since: int, restarts: Container[int]) -> str:
    """A counter's values, minute by minute, as promtool writes series.

    Args:
        grown: By how much it grew in each minute.
        since: The minute in which its release comes, with 0.
        restarts: Minutes in which its process began anew; not seen where it has had fewer by then.
    """
    values, total = ["_"] * since, 0.0
    for at in range(since, len(grown) + 1):
        if at > since:
            is_seen = at in restarts and grown[at - 1] < total
            total = grown[at - 1] + (0.0 if is_seen else total)
        values.append(f"{total:.10g}")
    return " ".join(values)


def grown_by(
    objective: Objective, counts: Counts, release: str
) -> Iterator[tuple[str, list[float]]]:
    """The series of a release, and by how much each grows in each minute."""
    of = f'service="bank",release="{release}"'
    total, bad = [float(n) for n, _ in counts], [float(b) for _, b in counts]
    if objective.kind is ObjectiveKind.QUALITY:
        yield f'{rules.JUDGED}{{service="bank"}}', total
        yield f'{rules.BAD}{{service="bank"}}', bad
        return
    histogram = rules.HISTOGRAMS.get(objective.kind)
    if histogram is None:
        yield f'{rules.REQUESTS}{{{of},code="200"}}', total
        if objective.kind is ObjectiveKind.COST:
            yield f"{rules.COST}{{{of}}}", [b * PRICE for b in bad]
        else:
            yield f"{rules.FAILED}{{{of}}}", bad
        return
    bound = (objective.threshold or 0.0) / 1_000.0
    yield f"{histogram}_count{{{of}}}", total
    good = [n - b for n, b in counts]
    yield f'{histogram}_bucket{{{of},le="{bound:g}"}}', [float(each) for each in good]
    yield f'{histogram}_bucket{{{of},le="+Inf"}}', total


def exported(objective: Objective, counts: Counts, dice: random.Random) -> dict[str, str]:
    """What Prometheus scrapes: a second release takes over, and who exports it restarts.

    Verdicts are counted by service, whatever release they are about.
    """
    comes = dice.randrange(40, 200) if objective.kind is not ObjectiveKind.QUALITY else MINUTES
    restart = {dice.randrange(20, 220)}
    parts = {"a": (0, [one if at < comes else (0, 0) for at, one in enumerate(counts)])}
    if comes < MINUTES:
        parts["b"] = (comes, [one if at >= comes else (0, 0) for at, one in enumerate(counts)])
    return {
        series: counter(grown, since=since, restarts=restart)
        for release, (since, part) in parts.items()
        for series, grown in grown_by(objective, part, release)
    }


@needs_promtool
@pytest.mark.parametrize(
    "objective", PROMISES, ids=lambda o: f"{o.kind.value}-{o.target:g}-{o.period_days:g}"
)
def test_the_same_fires_at_the_same_minute_whatever_happens(
    objective: Objective, tmp_path: Path
) -> None:
    rule_file, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    rule_file.write_text(rules_yaml([Promises("bank", (objective,))], BOUNDS))
    document: dict[str, Any] = {}
    seen: list[list[str]] = []
    for number, shape in enumerate(SHAPES):
        dice = random.Random(number)
        counts = shape(dice, objective)
        expected = ours(objective, counts)
        seen += expected
        made = unit_test(rule_file, exported(objective, counts, dice), expected)
        document = made | {"tests": document.get("tests", []) + made["tests"]}
    assert sum(a != b for a, b in pairwise(seen)) >= 8, "alerts have to begin and to end"
    assert {"page", "ticket"} <= {severity for each in seen for severity in each}
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))


@needs_promtool
@pytest.mark.parametrize(
    "kind", [ObjectiveKind.AVAILABILITY, ObjectiveKind.COST, ObjectiveKind.QUALITY]
)
def test_both_say_the_same_of_what_is_left_of_the_budget(
    kind: ObjectiveKind, tmp_path: Path
) -> None:
    """At the end of a whole period, by half hours."""
    cost = kind is ObjectiveKind.COST
    objective = Objective(kind, 1.0 if cost else 0.99, 0.01 if cost else None, period_days=7.0)
    dice = random.Random(5)
    halves = 7 * 48
    counts = [minute(dice, 50, share(objective, 0.6)) for _ in range(halves)]
    price = PRICE if cost else 1.0
    buckets = [Bucket(1_800.0 * (at + 1), n, b * price) for at, (n, b) in enumerate(counts)]
    left = assess(objective, buckets, 1_800.0 * halves).budget_left
    assert left is not None
    assert 0.1 < left < 0.9
    rule_file, test_file = tmp_path / "rules.yml", tmp_path / "test.yml"
    rule_file.write_text(rules_yaml([Promises("bank", (objective,))], BOUNDS))
    name = rules.RECORDED.format("budget_left", "7d")
    series = {
        each: " ".join(f"{value:.10g}" for value in accumulate(grown, initial=0.0))
        for each, grown in grown_by(objective, counts, "a")
    }
    document = {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "30m",
        "tests": [
            {
                "interval": "30m",
                "input_series": [{"series": each, "values": v} for each, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"abs({name} - {left!r}) < bool 1e-9",
                        "eval_time": "7d",
                        "exp_samples": [
                            {"labels": f'{{service="bank",slo="{kind.value}"}}', "value": 1}
                        ],
                    }
                ],
            }
        ],
    }
    test_file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(test_file))
