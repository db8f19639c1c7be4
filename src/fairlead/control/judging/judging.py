"""The judge models of rollouts under way and of live traffic: a queue each, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from fairlead.control.judging.asking import Asker, Seat
from fairlead.control.judging.queue import JudgeQueue, kept_shares
from fairlead.control.shipping.running import Running
from fairlead.control.views import JudgingView
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import FairleadError
from fairlead.evaluation.judge_model import Agreement, JudgeModel
from fairlead.store.interface import Store

BEHIND_S = 30.0
"""A judge model is behind when its oldest sample is older than that."""
POLL_S = 0.25
TROUBLE_S = 2.0
_log = logging.getLogger(__name__)


class Outage(NamedTuple):
    """A judge model that gives no verdicts: it does not answer, or nothing of use.

    Attributes:
        rollout: Empty where it judges live traffic outside rollouts.
        why: What asking it came to.
        oldest: Unix time of the oldest sample that waits for it.
    """

    service: str
    rollout: str
    why: str
    oldest: float | None
    judge: JudgeModel

    @property
    def what(self) -> str:
        """What it judges, in words."""
        return f"rollout {self.rollout}" if self.rollout else "live traffic"


class Judging:
    """Starts and ends the queues.

    Args:
        now: Unix time in seconds.
        seat: Where a service of this installation is asked; raises Unavailable.
    """

    def __init__(self, store: Store, now: Callable[[], float], seat: Callable[[str], Seat]) -> None:
        self._store = store
        self._now = now
        self._seat = seat
        self._queues: dict[str, JudgeQueue] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def attend(self, running: Running) -> JudgeQueue | None:
        """Judge the samples of this rollout from now on; None if it has no judge."""
        judge, rollout = running.spec.judge, running.rollout
        if judge is None:
            return None
        queue = self._queues.get(rollout.id)
        if queue is None:
            queue = JudgeQueue(
                self._store,
                self.asker(judge),
                rollout.id,
                rollout.service,
                self._now,
                decides=rollout.plan.awaits_judge,
                settle_s=rollout.plan.settle_s,
            )
            self.begin(rollout.id, queue)
        return queue

    def asker(self, judge: JudgeModel) -> Asker:
        """Asks a judge wherever it is at the time."""
        return Asker(judge, lambda: self._seat_of(judge))

    def begin(self, name: str, queue: JudgeQueue) -> None:
        """Work on this queue in the background until it is forgotten by this name."""
        self._queues[name] = queue
        self._tasks[name] = asyncio.create_task(self._run(queue))

    def _seat_of(self, judge: JudgeModel) -> Seat:
        if judge.provider is not None:
            return Seat.of_provider(judge.provider)
        return self._seat(judge.service or "")

    async def forget(self, rollout: str) -> None:
        """Let go of a rollout that has ended."""
        self._queues.pop(rollout, None)
        task = self._tasks.pop(rollout, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Ask nothing more."""
        for rollout in list(self._tasks):
            await self.forget(rollout)

    def queues(self) -> list[JudgeQueue]:
        """Those of rollouts and of live traffic that are judged now."""
        return list(self._queues.values())

    async def turn(self) -> bool:
        """One turn of each queue; whether there was anything to do."""
        return any([await queue.turn() for queue in list(self._queues.values())])

    async def _run(self, queue: JudgeQueue) -> None:
        while True:
            try:
                progress = await queue.turn()
                pause = 0.0 if progress else POLL_S
            except FairleadError as error:
                # The store refused; what is in it says where to go on.
                if queue.trouble != error.message:
                    queue.trouble = error.message
                    _log.error("judging %s: %s", queue.rollout or queue.service, error.one_line)
                pause = TROUBLE_S
            await asyncio.sleep(pause)

    def view(self, rollout: str, judge: JudgeModel | None, service: str) -> JudgingView | None:
        """How far it is; reads the store. None for a rollout without a judge."""
        if judge is None:
            return None
        queue = self._queues.get(rollout)
        spent = self._store.judge_spend(rollout=rollout)
        today = queue.spend()[1] if queue is not None else None
        oldest = None if queue is None else queue.oldest
        shares = kept_shares(self._store, rollout, judge.share)
        return JudgingView(
            judge=judge.provider.model if judge.provider else judge.service or "",
            pending=0 if queue is None else queue.pending,
            pending_is_more=queue is not None and queue.is_full,
            oldest_s=None if oldest is None else max(0.0, self._now() - oldest),
            judged=spent.judged,
            unjudged=spent.unjudged,
            asked=spent.asked,
            usd=spent.usd,
            usd_today=0.0 if today is None else today.usd,
            said="" if queue is None else _said(queue),
            error=self.measured(judge, service),
            share=shares.now,
            share_declared=judge.share,
            share_changes=[(change.at, change.share) for change in shares.changes],
        )

    def out(self) -> list[Outage]:
        """The judge models that give no verdicts."""
        return [
            Outage(queue.service, queue.rollout, queue.trouble, queue.oldest, queue.judge)
            for queue in self._queues.values()
            if queue.is_blind
        ]

    def judged_until(self, rollout: str) -> float:
        """Before this time all samples that the rollout waits for are judged."""
        queue = self._queues.get(rollout)
        return math.inf if queue is None or not queue.decides else queue.judged_until or 0.0

    def awaited(self, rollout: str) -> str:
        """The judge model that a rollout waits for and that is behind, and why; else empty."""
        queue = self._queues.get(rollout)
        if queue is None or not queue.decides or queue.oldest is None:
            return ""
        age = self._now() - queue.oldest
        if age <= BEHIND_S and not queue.rests:
            return ""
        said = _said(queue)
        return f"the judge model{': ' if said else ''}{said}, oldest sample {age:,.0f} s"

    def measured(self, judge: JudgeModel, service: str) -> str:
        """How often the judge is right, as measured on labelled answers; in words."""
        found = self.agreement(service)
        if found is None:
            return "its error was not measured: fairlead judge check FILE"
        if found.judge == judge.identity:
            return found.sentence
        return "it was changed since its error was measured: fairlead judge check FILE"

    def agreement(self, service: str) -> Agreement | None:
        """What was measured last, be it of the judge of today or not; reads the store."""
        kept = self._store.get_setting(_key(service))
        if kept is not None:
            with contextlib.suppress(msgspec.DecodeError):
                return decode_json(kept.encode(), Agreement)
        return None

    def keep_agreement(self, service: str, agreement: Agreement) -> None:
        """Keep how often a service's judge was right."""
        self._store.set_setting(_key(service), msgspec.json.encode(agreement).decode())


def _said(queue: JudgeQueue) -> str:
    """What keeps the queue from going on, if anything does."""
    if queue.stop is not None:
        return queue.stop.why
    return queue.trouble


def _key(service: str) -> str:
    return f"judge_agreement:{service}"
