"""The report of live rollouts as Markdown."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.gateway.quantiles import quantile
from benchmarks.live_simulation import Simulated, World

from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.plan import Plan
from fairlead.stats.intervals import clopper_pearson
from support.live_rollouts import EQUAL, MODELS, Result

HOW = {
    EQUAL: "only its prompt differs, which the model server does not look at",
    "wrong": "answers of release c: 36 % wrong for 9 %",
    "slow": "its engine takes 6 times as long",
    "broken": "15 % of its answers are no JSON",
    "refusing": "15 % of its answers decline",
    "failing": "15 % of its answers are errors",
    "dear": "2.5 times the tokens",
}
CONFIDENCE = 0.95
NEAR = 2.0
"""The median of live canary requests is at most so many times the simulated one, or the reverse."""


def problems(result: Result, plan: Plan, simulated: Mapping[str, Sequence[Simulated]]) -> list[str]:
    """What was not as it has to be."""
    found = list(result.broken)
    if result.unbegun:
        found.append(f"incomplete: {result.unbegun} rollouts had not begun when the time was over")
    equal = [ended for ended in result.rollouts if ended.model == EQUAL]
    back = sum(ended.view.outcome == "rolled_back" for ended in equal)
    # Twice the error on either side is the one-sided limit.
    if equal and clopper_pearson(back, len(equal), 2 * CONFIDENCE - 1)[0] > plan.alpha:
        found.append(f"{back} of {len(equal)} equal releases were rolled back: more than chance")
    found += [
        f"{ended.model}: {ended.view.outcome}: {ended.view.reason}"
        for ended in result.rollouts
        if ended.model != EQUAL and not ended.is_right
    ]
    if result.users.lost:
        found.append(f"{len(result.users.lost)} requests were lost")
    for model in MODELS:
        live, alike = _requests(result, model), _simulated(simulated, model)
        if not live or not alike:
            continue
        ratio = statistics.median(live) / statistics.median(alike)
        if not 1 / NEAR <= ratio <= NEAR:
            found.append(f"{model}: {ratio:.2f} times the simulation's canary requests")
    return found


def _requests(result: Result, model: str) -> list[int]:
    """Canary requests of each rollout that ended as it should."""
    ended = [one for one in result.rollouts if one.model == model and one.is_right]
    return [one.of_canary("requests") for one in ended]


def _simulated(simulated: Mapping[str, Sequence[Simulated]], model: str) -> list[int]:
    right = RolloutOutcome.PROMOTE if model == EQUAL else RolloutOutcome.ROLL_BACK
    return [one.requests for one in simulated[model] if one.outcome is right]


def markdown(
    result: Result,
    plan: Plan,
    world: World,
    simulated: Mapping[str, Sequence[Simulated]],
    command: str,
    bystanders: float,
) -> str:
    """The whole page.

    Args:
        bystanders: Share of the cores that other programs took meanwhile.
    """
    lines = [
        *_head(problems(result, plan, simulated), command, bystanders),
        *_verdicts(result, plan),
        *_beside(result, simulated),
        *_conditions(result, plan, world, simulated),
    ]
    return "\n".join(lines) + "\n"


def _head(found: Sequence[str], command: str, bystanders: float) -> Iterator[str]:
    yield "# Rollouts on live traffic\n"
    yield f"`{command}`, on {os.cpu_count()} cores, which the load and the model server share."
    yield f"Other programs took {bystanders:.0%} of them meanwhile.\n"
    yield "**Passed.**\n" if not found else "**Not passed:**\n"
    yield from (f"- {problem}" for problem in found)
    if found:
        yield ""


def _verdicts(result: Result, plan: Plan) -> Iterator[str]:
    yield "| release | what it is | rollouts | rolled back | promoted | other | rolled back, 95 % |"
    yield "| --- | --- | --: | --: | --: | --: | --: |"
    for model in MODELS:
        of = [ended for ended in result.rollouts if ended.model == model]
        if not of:
            continue
        ends = Counter(ended.view.outcome for ended in of)
        back, promoted = ends["rolled_back"], ends["promoted"]
        low, high = clopper_pearson(back, len(of), CONFIDENCE)
        other = len(of) - back - promoted
        yield (
            f"| {model} | {HOW[model]} | {len(of)} | {back} | {promoted} | {other} | "
            f"{low:.1%} to {high:.1%} |"
        )
    yield (
        f"\nThe limits are those of Clopper and Pearson. The plan allows a false rollback in "
        f"{plan.alpha:.0%} of the rollouts of an equal release."
    )
    unusual = [ended for ended in result.rollouts if not ended.is_right]
    if unusual:
        yield "\nThose that did not end as they should:\n"
        yield from (f"- {one.model}: {one.view.outcome}: {one.view.reason}" for one in unusual)


def _beside(result: Result, simulated: Mapping[str, Sequence[Simulated]]) -> Iterator[str]:
    yield "\n## Canary requests at the verdict\n"
    yield (
        "Those that had settled, by which it was given: median (10 % to 90 %). The simulation has "
        "the same plan, judge, answers and rates, and the times that clients saw of equal "
        "releases. *Served* is what the canary had answered when its traffic had ended, of "
        "releases that were rolled back: the harm.\n"
    )
    yield "| release | live | simulated | ratio of medians | served | seconds |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for model in MODELS:
        of = [ended for ended in result.rollouts if ended.model == model and ended.is_right]
        if not of:
            continue
        live, alike = _requests(result, model), _simulated(simulated, model)
        ratio = statistics.median(live) / statistics.median(alike) if alike else float("nan")
        served = "" if model == EQUAL else _spread([ended.view.served or 0 for ended in of])
        took = _spread([ended.seconds for ended in of])
        yield (
            f"| {model} | {_spread(live)} | {_spread(alike)} | {ratio:.2f} | {served} | {took} |"
        )


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    low, middle, high = quantile(ordered, 0.1), statistics.median(ordered), quantile(ordered, 0.9)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def _conditions(
    result: Result, plan: Plan, world: World, simulated: Mapping[str, Sequence[Simulated]]
) -> Iterator[str]:
    users = result.users
    requests = sum(users.statuses.values())
    steps = ", ".join(f"{step.share:.0%} until {step.units} units" for step in plan.steps)
    seen = sorted(world.durations_s)
    false = sum(one.outcome is RolloutOutcome.ROLL_BACK for one in simulated[EQUAL])
    yield "\n## Conditions\n"
    yield "| | |"
    yield "| --- | --- |"
    yield f"| wall time | {result.seconds / 60:.1f} minutes |"
    yield f"| services that roll out at the same time | {len(users.services)} |"
    yield f"| requests | {requests:,} ({requests / result.seconds:.0f} a second) |"
    yield f"| sessions | {users.sessions:,} ({users.sessions / result.seconds:.0f} a second) |"
    yield f"| feedback | {users.feedback:,} |"
    yield f"| errors of the model server, on purpose | {users.errors:,} |"
    yield f"| lost requests | {len(users.lost)} |"
    yield f"| steps | {steps} |"
    yield f"| settles after | {plan.settle_s:g} s |"
    yield f"| answers without feedback in time | {world.silent:.1%} |"
    yield (
        f"| answers of equal releases, p50 / p90 / p99 | {1000 * quantile(seen, 0.5):,.0f} / "
        f"{1000 * quantile(seen, 0.9):,.0f} / {1000 * quantile(seen, 0.99):,.0f} ms |"
    )
    yield f"| simulated: equal releases rolled back | {false} of {len(simulated[EQUAL])} |"
    yield (
        "\nAnswers are right or wrong as those of the example's release b were, question by "
        "question of Banking77's test file (`benchmarks/rollout/banking.json`). A session asks "
        "one or two questions of one intent, and says of each answer whether it was right."
    )
    worst = Counter((one.status, one.error, one.text[:200]) for one in users.lost).most_common(10)
    if worst:
        yield "\nLost:\n"
        yield from (f"- {count}: {status} {error} {text}" for (status, error, text), count in worst)
