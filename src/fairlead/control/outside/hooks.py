"""Calls a rollout's webhooks in the background, and says what became of them.

A call is made at least once: a control that dies in between makes it again, with the same id in
`x-fairlead-delivery`. An answer 2xx agrees, 4xx refuses in the words of its body; anything else is
tried again, and in the end counts as unreachable.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.checkpoints import HookOutcome, HookReport, hook_name, hooks_at
from fairlead.rollout.machine import Rollout, desired
from fairlead.rollout.plan import Hook
from fairlead.targets.http import HttpFailed, request

BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 30.0
SAID_CHARS_MAX = 200
_log = logging.getLogger(__name__)


class HookCall(msgspec.Struct, frozen=True):
    """What a webhook is told.

    Attributes:
        delivery: Id of this call; it is the same when the call is made again.
        point: `before`, `step N`, `promote` or `after`.
        state: The rollout's state at the moment.
        share: The canary's share at the moment; a step's own comes after the hook.
        ending: Why the rollout ended; empty before `after`.
        verdict: The judge's verdict so far, or None.
    """

    delivery: str
    point: str
    service: str
    rollout: str
    release: str
    name: str
    champion: str | None
    state: str
    share: float
    reason: str
    ending: str
    verdict: RolloutOutcome | None
    schema: int = 1


class Hooks:
    """The calls under way and their reports, by rollout and point.

    Args:
        sleep: Waits between two attempts.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._calls: dict[tuple[str, str], asyncio.Task[HookReport]] = {}

    def start(self, rollout: Rollout, point: str) -> None:
        """Call the point's hooks, unless that is under way or done already."""
        key = (rollout.id, point)
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._all(rollout, point))

    def report(self, rollout: str, point: str) -> HookReport | None:
        """What the point's hooks said; None while they have not all settled."""
        task = self._calls.get((rollout, point))
        if task is None or not task.done() or task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return task.result()
        # Its words may have the hook's URL, and with that a secret.
        kind = type(error).__name__
        _log.error("hooks of rollout %s at %s failed: %s", rollout, point, kind)
        return HookReport(point, HookOutcome.UNREACHABLE, kind)

    async def forget(self, rollout: str) -> None:
        """Let go of a rollout's calls."""
        for key in [key for key in self._calls if key[0] == rollout]:
            task = self._calls.pop(key)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End all calls."""
        for rollout in {key[0] for key in self._calls}:
            await self.forget(rollout)

    async def _all(self, rollout: Rollout, point: str) -> HookReport:
        calls = [self._one(rollout, point, hook) for hook in hooks_at(rollout.plan, point)]
        reports = await asyncio.gather(*calls)
        for outcome in (HookOutcome.REFUSED, HookOutcome.UNREACHABLE):
            said = [report.why for report in reports if report.outcome is outcome]
            if said:
                return HookReport(point, outcome, "; ".join(said))
        return HookReport(point, HookOutcome.PASSED)

    async def _one(self, rollout: Rollout, point: str, hook: Hook) -> HookReport:
        call, name = hook_call(rollout, point), hook_name(rollout.plan, hook)
        said = ""
        for attempt in range(hook.attempts):
            if attempt:
                await self._sleep(min(BACK_OFF_S_MAX, BACK_OFF_S * 2 ** (attempt - 1)))
            try:
                answer = await request(
                    hook.url,
                    body=msgspec.json.encode(call),
                    headers={"x-fairlead-delivery": call.delivery},
                    timeout_s=hook.timeout_s,
                )
            except HttpFailed as error:
                said = str(error)
                continue
            if 200 <= answer.status < 300:
                return HookReport(point, HookOutcome.PASSED)
            said = f"answered {answer.status}{_words(answer.body)}"
            if 400 <= answer.status < 500:
                return HookReport(point, HookOutcome.REFUSED, f"{name} {said}")
        why = f"{name}, {hook.attempts} attempts: {said}"
        return HookReport(point, HookOutcome.UNREACHABLE, why)


def hook_call(rollout: Rollout, point: str) -> HookCall:
    """What is told at this point."""
    want = desired(rollout)
    return HookCall(
        delivery=f"{rollout.id}/{point.replace(' ', '-')}",
        point=point,
        service=rollout.service,
        rollout=rollout.id,
        release=rollout.release,
        name=rollout.name,
        champion=rollout.champion,
        state=rollout.state.value,
        share=want.share if want.canary is not None else 0.0,
        reason=rollout.reason,
        ending="" if rollout.ending is None else rollout.ending.value,
        verdict=None if rollout.verdict is None else rollout.verdict.outcome,
    )


def _words(body: bytes) -> str:
    """What an answer says, on one short line."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = body[:1000].decode(errors="replace")
    if isinstance(found, dict):
        found = found.get("reason", found.get("message", found))
    text = found if isinstance(found, str) else json.dumps(found)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {line[:SAID_CHARS_MAX]}" if line else ""
