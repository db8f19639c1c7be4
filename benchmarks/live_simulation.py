"""What the judge of a live rollout does with the same rates, simulated: no process, no network.

The plan, the judge and its assessment are those of the live rollout; so are the answers. Sessions
begin at random moments, and the judge looks at them when as much as in an installation is known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.control.shipping.evidence import WATERMARK_SLACK_S
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.assessment import assess
from fairlead.rollout.judge import Judge, new_judge, observe
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from support.live_rollouts import EQUAL, MODELS, questions_of_session
from support.recorded_engine import USUAL_S, Answer, Model, Recorded

LOOK_S = 1.0
INPUT_USD, OUTPUT_USD = 1e-6, 1e-5
BETWEEN_S = 0.05
"""Between an answer and the next question of a session."""


@dataclass(frozen=True)
class World:
    """The rates under which the live rollouts ran.

    Attributes:
        sessions_per_s: Of one service.
        durations_s: Of an equal release's answers, as they were seen live.
        silent: Share of the answers whose feedback came too late.
    """

    sessions_per_s: float
    durations_s: Sequence[float]
    silent: float


@dataclass(frozen=True)
class Simulated:
    """A simulated rollout; the counts are the canary's at the verdict, of what had settled."""

    outcome: RolloutOutcome
    requests: int
    units: int


def simulate(plan: Plan, model: str, world: World, seed: str) -> Simulated:
    """One rollout of a release of this model, until its verdict."""
    dice, judge = random.Random(seed), new_judge(plan)
    sessions, arrivals = _Sessions(MODELS[model], world, dice), _arrivals(dice, world)
    kept: list[Observation] = []
    step, now, due = 0, 0.0, next(arrivals)
    while now < plan.deadline_s:
        now += LOOK_S
        while due < now:
            kept += sessions.requests(due, step, plan.steps[step].share)
            due = next(arrivals)
        judge = observe(judge, plan, kept, now - WATERMARK_SLACK_S)
        kept = [one for one in kept if (one.started_at, one.id) > judge.cursor]
        verdict, is_last = assess(judge, plan).outcome, step == len(plan.steps) - 1
        is_enough = judge.canary_units(step + 1) >= plan.steps[step].units
        if verdict is RolloutOutcome.PROMOTE and not (is_last and is_enough):
            verdict = RolloutOutcome.WAIT
        if verdict is not RolloutOutcome.WAIT:
            return _simulated(verdict, judge)
        step += is_enough and not is_last
    return _simulated(RolloutOutcome.INCONCLUSIVE, judge)


def _simulated(outcome: RolloutOutcome, judge: Judge) -> Simulated:
    return Simulated(outcome, judge.canary.requests, judge.canary.units)


def _arrivals(dice: random.Random, world: World) -> Iterator[float]:
    at = 0.0
    while True:
        at += dice.expovariate(world.sessions_per_s)
        yield at


class _Sessions:
    """Sessions of one rollout, whose canary is a model."""

    def __init__(self, canary: Model, world: World, dice: random.Random) -> None:
        self._canary = canary
        self._world = world
        self._dice = dice
        self._recorded = Recorded()
        self._begun = 0

    def requests(self, at: float, step: int, share: float) -> Iterator[Observation]:
        """Those of a session that begins at a time, assigned at random."""
        self._begun += 1
        dice, unit = self._dice, f"s{self._begun:07}"
        is_canary = dice.random() < share
        model = self._canary if is_canary else MODELS[EQUAL]
        for turn, question in enumerate(questions_of_session(dice, self._recorded.questions)):
            answer = self._recorded.answer(model, question, dice)
            seconds = dice.choice(self._world.durations_s) + USUAL_S * (model.slower - 1.0)
            is_said = bool(answer.text) and dice.random() >= self._world.silent
            said = (("success", float(answer.is_right), at + seconds),) if is_said else ()
            yield Observation(
                id=f"{unit}-{turn}",
                unit=unit,
                canary=is_canary,
                rho=share,
                phase=step + 1,
                started_at=at,
                feedback=said,
                duration_ms=1000.0 * seconds,
                **_of_answer(answer),
            )
            at += seconds + BETWEEN_S


def _of_answer(answer: Answer) -> dict[str, Any]:
    if not answer.text:
        return {"failed_by_error": True, "status": 502}
    used = INPUT_USD * answer.prompt_tokens + OUTPUT_USD * answer.completion_tokens
    return {
        "failed_by_error": False,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": used,
        "refused": int(answer.is_refusal),
        "malformed": int(answer.is_broken),
    }
