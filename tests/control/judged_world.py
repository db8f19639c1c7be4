"""A world whose users say nothing: what they ask and are answered is captured, and a model judges.

The judge is a real HTTP server of chat completions that grades by a rule: an answer is good when it
says "right".
"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec

from control.answering_replica import AnsweringReplica
from control.simulated_world import PLAN, SPOOL, World
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.capture import Capture, is_captured
from fairlead.domain.judging import JUDGED
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import JudgeModel
from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.store.rows import FeedbackRow, RequestRow, SampleRow, SpoolCursor

CAPTURE = Capture(0.5, per_minute=6_000)
JUDGED_PLAN: Plan = msgspec.structs.replace(
    PLAN, feedback=FeedbackRule(JUDGED, 4.0, required=True, sampled=True)
)


def grade(material: str) -> str:
    """The rule by which the judge grades."""
    given = json.loads(material)
    return json.dumps({"reason": "by the rule", "score": 5 if given["answer"] == "right" else 1})


def judge_at(server: AnsweringReplica, **changes: Any) -> JudgeModel:
    return JudgeModel(
        **{"provider": RemoteModel(server.url, "grader"), "timeout_s": 5.0, **changes}  # type: ignore[arg-type]
    )


def samples_of(
    world: World, records: list[RequestRow], feedback: list[FeedbackRow]
) -> list[SampleRow]:
    """What is captured of these requests, in the place of what their users would have said."""
    good = {given.request: bool(given.value) for given in feedback}
    captures = {
        service.name: service.capture
        for worker in world.workers
        if worker.snapshot is not None
        for service in worker.snapshot.services.values()
    }
    return [
        SampleRow(
            r.id, r.service, r.key, r.unit, r.started_at, r.started_at + 1e6,
            json.dumps([["user", f"question {r.id}"]]), "right" if good[r.id] else "wrong",
            False,
        )
        for r in records
        if (capture := captures.get(r.service)) and is_captured(capture, r.unit)
    ]  # fmt: skip


class JudgedWorld(World):
    """Users' opinions become captured answers; nobody posts feedback."""

    judge: JudgeModel
    capture = CAPTURE
    broken: frozenset[str] = frozenset()
    """Names of releases that fail each request."""
    judge_turns = 10**9
    """Most turns of the judge's queue in a turn of the world."""

    def judged_spec(self, release: str, **changes: Any) -> ServiceSpec:
        given = {"plan": JUDGED_PLAN, "capture": self.capture, "judge": self.judge, **changes}
        return self.spec(release, **given)

    async def ship_judged(self, release: str, **changes: Any) -> str:
        return (await self.plane.ship(self.judged_spec(release, **changes), anyway=True)).id

    def ingest(
        self, records: list[RequestRow], feedback: list[FeedbackRow], cursor: SpoolCursor
    ) -> None:
        fails = {self.digests[name] for name in self.broken}
        records = [
            msgspec.structs.replace(r, status=502, error="upstream_error")
            if r.release in fails
            else r
            for r in records
        ]
        samples = samples_of(self, records, feedback)
        self.store.ingest(SPOOL, records, [], cursor, (), samples)

    async def turn(self, *, seconds: float = 1.0) -> None:
        await super().turn(seconds=seconds)
        for _ in range(self.judge_turns):
            if not await self.plane.judging.turn():
                break

    def use(self, judge: JudgeModel, *, seed: int = 4) -> None:
        self.judge = judge
        self.users_per_turn = 12
        self.dice = random.Random(seed)
