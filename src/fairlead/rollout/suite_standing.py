"""What the suites that are run again mean for a rollout: an end, something missing, or nothing.

All suites together have a part of `alpha` as large as the judge's (`Plan.alpha_parts`), in equal
parts. What their cases say is about the cases' kind of question, and about both releases' replicas
as they are while clients use them.
"""

from __future__ import annotations

import math

from fairlead.rollout.endings import Ending
from fairlead.rollout.evidence import evidence, evidence_shown
from fairlead.rollout.model import Rollout
from fairlead.rollout.query_lines import QueryLine
from fairlead.rollout.states import State
from fairlead.rollout.suites import (
    SuiteMetric,
    SuiteState,
    is_due,
    log_e_promote,
    log_e_worse,
    new_suite,
)

_DECIDED = (State.SHIFTING, State.JUDGING, State.PROMOTING)


def suite_state(rollout: Rollout, metric: SuiteMetric) -> SuiteState:
    """How a suite stands in a rollout."""
    return rollout.suites.get(metric.name) or new_suite(metric)


def suite_threshold(rollout: Rollout) -> float:
    """The evidence from which on one of the suites rolls back."""
    return len(rollout.plan.suites) / rollout.plan.judge_alpha


def suites_due(rollout: Rollout, now: float) -> list[SuiteMetric]:
    """The suites of which a run is to begin: while all gateway workers run on the step's split."""
    if rollout.state is not State.JUDGING or rollout.champion is None or rollout.is_held:
        return []
    last = rollout.plan.ramp is None and rollout.step == len(rollout.plan.steps) - 1
    return [
        metric
        for metric in rollout.plan.suites
        if is_due(
            metric,
            suite_state(rollout, metric),
            rollout.step_phase or rollout.phase,
            now,
            more=(last or rollout.plan.ramp is not None) and _wants(rollout, metric),
        )
    ]


def stopped_by_suites(rollout: Rollout) -> tuple[Ending, str] | None:
    """Why the canary is to be taken back, as far as it is for its suites."""
    if rollout.state not in _DECIDED or rollout.champion is None:
        return None
    threshold = suite_threshold(rollout) if rollout.plan.suites else math.inf
    for metric in rollout.plan.suites:
        state = suite_state(rollout, metric)
        if log_e_worse(state) >= math.log(threshold):
            more = f" by more than {metric.tolerance:.1%}" if metric.tolerance else ""
            return Ending.WORSE, (
                f"suite {metric.name}: {_scores(state)}; evidence "
                f"{evidence_shown(log_e_worse(state))} against "
                f"a threshold of {threshold:g} that its answers are worse{more}"
            )
        since = state.failing_since
        # By the runs that failed: time in which nobody tried is none without an answer.
        failed_s = 0.0 if since is None else state.at - since
        if failed_s >= metric.unanswered_s and not rollout.is_held:
            return Ending.SUITE_UNANSWERED, (
                f"suite {metric.name}: no case was answered for {metric.unanswered_s:g} s: "
                f"{state.problem}"
            )
    return None


def lacking_of_suites(rollout: Rollout) -> str | None:
    """What it needs of its suites before a step or a promotion."""
    if rollout.champion is None:
        return None
    for metric in rollout.plan.suites:
        state = suite_state(rollout, metric)
        if state.failing_since is not None:
            return f"suite {metric.name}: {state.problem}"
        asked = state.phase >= (rollout.step_phase or rollout.phase) or state.is_exhausted
        if not asked and not metric.every_s:
            return f"suite {metric.name}: its run at this step goes on ({_progress(state)})"
    return None


def lacking_of_suites_for_promotion(rollout: Rollout) -> str | None:
    """What only a promotion needs: each suite that promotes has to show that it is not worse."""
    if rollout.champion is None:
        return None
    for metric in rollout.plan.suites:
        if not _wants(rollout, metric):
            continue
        state = suite_state(rollout, metric)
        end = "; all its cases were asked: it has too few" if state.is_exhausted else ""
        return (
            f"suite {metric.name}: evidence {evidence_shown(log_e_promote(metric, state))} of "
            f"{1 / rollout.plan.beta:g} that its answers are not worse by {metric.margin:.1%} "
            f"({_progress(state)}){end}"
        )
    return None


def suite_lines(rollout: Rollout) -> list[QueryLine]:
    """All suites of the rollout's plan, as they stand."""
    found = []
    for metric in rollout.plan.suites:
        state = suite_state(rollout, metric)
        said = state.problem or (_scores(state) if state.pairs else "no case was answered yet")
        questions = f"; {2 * state.pairs:,} questions" if state.pairs else ""
        found.append(
            QueryLine(
                metric.name,
                "suite",
                evidence(log_e_worse(state)),
                f"evidence below {suite_threshold(rollout):g}",
                said + questions,
                bool(state.problem) or not state.pairs,
            )
        )
    return found


def suite_promises(suites: tuple[SuiteMetric, ...]) -> list[str]:
    """What each suite is and does, before it is run."""
    return [
        f"suite {suite.name}: {suite.cases:,} further cases of gate {suite.gate} on both releases "
        + (f"every {suite.every_s / 60:g} min" if suite.every_s else "at each step")
        + "; rolls back by evidence of worse answers"
        + (", and a promotion needs evidence of none" if suite.promotes else "")
        for suite in suites
    ]


def _wants(rollout: Rollout, metric: SuiteMetric) -> bool:
    """Whether a promotion still needs evidence by it."""
    state = suite_state(rollout, metric)
    return metric.promotes and log_e_promote(metric, state) < math.log(1 / rollout.plan.beta)


def _progress(state: SuiteState) -> str:
    return f"{state.pairs:,} of {state.total:,} cases" if state.total else "no case yet"


def _scores(state: SuiteState) -> str:
    champion, canary = state.rates
    return f"score {canary:.1%} against {champion:.1%} of the champion in {_progress(state)}"
