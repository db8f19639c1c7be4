"""A rollout moved by hand-made facts, with every invariant checked after each step."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.rollout.invariants import validate
from fairlead.rollout.judge import Observation, observe
from fairlead.rollout.machine import Facts, Rollout, advance, new_rollout
from fairlead.rollout.plan import Plan, Step

PLAN = Plan(
    steps=(Step(0.1, 2, 10.0), Step(0.5, 3, 5.0)),
    settle_s=1.0,
    deadline_s=1_000.0,
    expected_failure_rate=0.1,
    champion_replicas=3,
    canary_replicas=2,
)
PASS = GateVerdict("accuracy", GateOutcome.PASS, "0.91 is above 0.85")


def begin(**changes: Any) -> Rollout:
    given: dict[str, Any] = {
        "id": "ro-1", "service": "bank", "release": "sha256:b", "name": "b",
        "champion": "sha256:a", "plan": PLAN, "gates": 1, "now": 0.0, **changes,
    }  # fmt: skip
    return new_rollout(**given)


def step(
    rollout: Rollout,
    observations: tuple[Observation, ...] = (),
    watermark: float = 0.0,
    **facts: Any,
) -> Rollout:
    """Advance, check every invariant, that it is at rest, and that JSON changes nothing."""
    judge = observe(rollout.judge, rollout.plan, observations, watermark)
    given = Facts(judge=judge, **facts)
    after = advance(rollout, given)
    validate(after)
    quiet = msgspec.structs.replace(given, command=None)
    assert advance(after, quiet) == after
    assert msgspec.json.decode(msgspec.json.encode(after), type=Rollout) == after
    return after


def shifting(**changes: Any) -> Rollout:
    """At the first share, before the workers run on it."""
    return step(begin(**changes), now=1.0, gate_verdicts=(PASS,), candidate_ready=2)


def judging(**changes: Any) -> Rollout:
    """At the first share since second 2."""
    return step(shifting(**changes), now=2.0, candidate_ready=2, workers_phase=1)


def seen(n: int, phase: int, at: float, rho: float, failing: float = 0.0) -> dict[str, Any]:
    """n units per arm at a moment, of which a share of the canary's fails."""
    made = tuple(
        Observation(f"q{phase}-{i:05}-{arm}", f"u{arm}{i}", bool(arm), rho, phase,
                    bool(arm) and i < failing * n, at)
        for i in range(n)
        for arm in (0, 1)
    )  # fmt: skip
    return {"observations": made, "watermark": at + 2.0}


def last_step() -> Rollout:
    rollout = step(judging(), now=12.0, candidate_ready=2, workers_phase=1, **seen(2, 1, 3.0, 0.1))
    return step(rollout, now=13.0, candidate_ready=2, workers_phase=2)
