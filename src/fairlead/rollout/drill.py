"""A fault drill: a rollout of a release that is bad on purpose, to see whether it is caught. Pure.

A drill is judged like any other rollout, by the service's own plan, and can end in one way only:
with the champion serving everyone. What would have promoted another release ends it as missed.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput
from fairlead.domain.fault import KINDS, Fault, FaultKind
from fairlead.domain.wording import count_of
from fairlead.rollout.declared import FEEDBACK
from fairlead.rollout.endings import ADVICE, DRILL_ADVICE, Ending
from fairlead.rollout.pairs import sources_of_pairs
from fairlead.rollout.plan import Plan, ShadowRule, Step, is_hook_url
from fairlead.rollout.states import State
from fairlead.rollout.telling import leading_of

if TYPE_CHECKING:
    from fairlead.rollout.model import Rollout

HARM_MAX = 1_000
SHARE_MAX = 0.5
SHADOW_TIMEOUT_S = 30.0
"""How long an answer may take in shadow, where the service declares no shadow of its own."""
SHADOW_REQUESTS = 200
"""Pairs after which a drill in shadow that nothing speaks against has been missed."""
CAUGHT_BY = frozenset({Ending.WORSE, Ending.HARM_BUDGET, Ending.SHADOW_FAILED})
SEEN_BY: dict[str, set[str]] = {
    "slow": {"ttft_ms", "duration_ms"},
    "error": {"errors"},
    "format": {"format", "json", "guardrail_hits"},
    "refusal": {"refusal", "format", "json", "guardrail_hits"},
    "wrong": {"guardrail_hits"},
    "toxic": {"format", "json", "guardrail_hits"},
}
"""The sources of metrics in which a fault can show by itself: no refusal and no insult is JSON, and
a guardrail looks at whatever is answered."""
MISSED_BY = frozenset(
    {
        Ending.DRILL_MISSED,
        Ending.DRILL_SPENT,
        Ending.INCONCLUSIVE,
        Ending.NO_FEEDBACK,
        Ending.NO_DATA,
    }
)
"""What a release as bad would have come to as well. Without traffic, or a judge model that answers,
nothing was tested."""


class Drill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a rollout is a drill.

    Attributes:
        of: Digest of the release whose answers are made bad: the champion.
        harm: Requests that the bad release may be assigned at most; the gateway's workers divide
            them among each other and give it no more.
        scheduled: Nobody asked for it: its service declares it.
    """

    of: str
    fault: Fault
    harm: int
    scheduled: bool = False

    @property
    def release(self) -> str:
        """The digest of the bad release."""
        return self.fault.digest_of(self.of)

    @property
    def name(self) -> str:
        """How it is called where releases have names."""
        return f"drill-{self.fault.kind}"


class Met(msgspec.Struct, frozen=True):
    """Who met a drill, as far as it is recorded.

    Attributes:
        requests: Requests that the bad release answered.
        users: Sessions, users or keys that these came from.
        last_at: When the last of them began; Unix time in seconds.
    """

    requests: int = 0
    users: int = 0
    last_at: float = 0.0


class Result(enum.StrEnum):
    """What became of a drill; one that `ended` for another reason, or unmet, says nothing."""

    RUNNING = "running"
    CAUGHT = "caught"
    MISSED = "missed"
    ENDED = "ended"


def result_of(rollout: Rollout) -> Result:
    """What became of it; on its way back it is known already."""
    if rollout.ending is None:
        return Result.RUNNING
    if rollout.ending in CAUGHT_BY:
        return Result.CAUGHT
    is_missed = rollout.ending in MISSED_BY and not is_untested(rollout)
    return Result.MISSED if is_missed else Result.ENDED


def is_untested(rollout: Rollout) -> bool:
    """Whether it came to its end before anybody had met it."""
    if rollout.ending is not Ending.INCONCLUSIVE or rollout.plan.shadow is not None:
        return rollout.ending is Ending.NO_TRAFFIC
    return rollout.met.requests == 0 and rollout.judge.canary.units == 0


def advice_of(rollout: Rollout) -> str:
    """What to do about the end of a rollout, which may be a drill; empty where nothing is."""
    if rollout.ending is None:
        return ""
    if rollout.drill is None:
        advice = ADVICE[rollout.ending]
    else:
        ending = Ending.NO_TRAFFIC if is_untested(rollout) else rollout.ending
        advice = DRILL_ADVICE.get(ending, "")
    return advice.replace("ID", rollout.id)


def drill_plan(plan: Plan, share: float, *, shadow: bool) -> Plan:
    """The service's plan with one share, and without all that would hold a drill up or outlive it.

    What is judged, and by which errors, stays as it is. Prometheus is not asked: the bad release
    runs on the champion's replicas, of which it could not tell the two apart.

    Raises InvalidInput when the share makes no sense.
    """
    if not 0.0 < share <= (1.0 if shadow else SHARE_MAX):
        raise InvalidInput(
            f"share: {share:g} is not above 0 and at most {1.0 if shadow else SHARE_MAX:g}"
        )
    timeout_s = _shadow_timeout_s(plan)
    deadline_s = max(plan.deadline_s, plan.settle_s + 1.0)
    return msgspec.structs.replace(
        plan,
        steps=() if shadow else (Step(share),),
        shadow=ShadowRule(share, SHADOW_REQUESTS, timeout_s=timeout_s) if shadow else None,
        deadline_s=deadline_s,
        champion_replicas=1,
        canary_replicas=1,
        hooks=(),
        approve_promotion=False,
        warm_s=0.0,
        holdback=0.0,
        ramp=None,
        revert=False,
        finish_s=0.0,
        chooses_steps=False,
        prometheus=None,
        suites=(),
    )


def measures(plan: Plan, fault: Fault, *, shadow: bool) -> bool:
    """Whether the plan measures anything that this fault changes.

    In shadow that is failures, lateness, and what pairs are judged by besides. That a wrong or
    toxic answer is noticed takes feedback (of clients or a judge model) or guardrails on answers.
    """
    if fault.kind == "error":
        return True
    if shadow:
        is_late = fault.kind == "slow" and fault.delay_ms >= 1e3 * _shadow_timeout_s(plan)
        return is_late or bool(sources_of_pairs(plan) & SEEN_BY[fault.kind])
    hears = plan.feedback is not None or any(m.source == FEEDBACK for m in plan.metrics)
    return shown_by_records(plan, fault) or (hears and fault.kind != "slow")


def shown_by_records(plan: Plan, fault: Fault) -> bool:
    """Whether the gateway's own records show it, without anybody's opinion."""
    sources = {metric.source for metric in plan.metrics}
    return fault.kind == "error" or bool(sources & SEEN_BY[fault.kind])


def _shadow_timeout_s(plan: Plan) -> float:
    return SHADOW_TIMEOUT_S if plan.shadow is None else plan.shadow.timeout_s


def spent(rollout: Rollout) -> str | None:
    """Why a drill has nothing more to wait for; None while it has.

    All that it may harm has been harmed, and all that this could say has been said.
    """
    drill, met = rollout.drill, rollout.met
    if drill is None or met.requests < drill.harm or rollout.judge.cursor[0] < met.last_at:
        return None
    requests, users = count_of(met.requests, "request"), count_of(met.users, "user")
    return (
        f"missed: {requests} of {users} met it, the harm budget is {drill.harm:,}, and there is no "
        "verdict"
    )


def caught_by(rollout: Rollout) -> str:
    """The metric with most of the evidence by which it was caught; empty if it was not."""
    if result_of(rollout) is not Result.CAUGHT:
        return ""
    if rollout.ending is Ending.SHADOW_FAILED:
        return rollout.shadowed.leading
    numbers = {} if rollout.verdict is None else rollout.verdict.numbers
    return leading_of(numbers)


def seconds_to_end(rollout: Rollout) -> float | None:
    """From the first request that could meet it to the decision; None while there is none."""
    began, decided = rollout.traffic_since, None
    for move in rollout.history:
        if move.to is State.SHADOWING and began is None:
            began = move.at
        if move.to in (State.ROLLING_BACK, State.FAILED) and decided is None:
            decided = move.at
    return None if began is None or decided is None else max(0.0, decided - began)


DAY_S = 86_400.0
EVERY_DAYS_MAX = 366
WEBHOOKS_MAX = 10


class DrillRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a service is drilled by itself. Raises InvalidInput when it makes no sense.

    Attributes:
        every_days: Days from one drill to the next.
        at_minute: Minute of the (UTC) day at which it begins.
        faults: In turn, one each time.
        share: Of the units, or in shadow of the requests.
        webhooks: Told of a drill that was missed.
    """

    faults: tuple[FaultKind, ...]
    every_days: int = 7
    at_minute: int = 180
    harm: int = 20
    share: float = 0.05
    shadow: bool = False
    delay_ms: float = 2_000.0
    webhooks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if not self.faults or len(self.faults) > len(KINDS):
            raise InvalidInput(f"drill.faults: 1 to {len(KINDS)} of them")
        check_between("drill.every_days", self.every_days, 1, EVERY_DAYS_MAX)
        check_between("drill.at_minute", self.at_minute, 0, 24 * 60 - 1)
        check_between("drill.harm", self.harm, 1, HARM_MAX)
        check_between("drill.share", self.share, 0.001, 1.0 if self.shadow else SHARE_MAX)
        Fault(self.faults[0], delay_ms=self.delay_ms)
        if len(self.webhooks) > WEBHOOKS_MAX or not all(map(is_hook_url, self.webhooks)):
            raise InvalidInput(f"drill.webhooks: at most {WEBHOOKS_MAX} http(s) URLs")

    def number_at(self, now: float) -> int:
        """Number of the last drill that was due by then, counted from 1970."""
        return math.floor((now - 60.0 * self.at_minute) / (DAY_S * self.every_days))

    def due_at(self, number: int) -> float:
        """When the drill of this number is due; Unix time in seconds."""
        return number * DAY_S * self.every_days + 60.0 * self.at_minute

    def fault(self, number: int) -> Fault:
        """What the drill of this number does."""
        return Fault(self.faults[number % len(self.faults)], delay_ms=self.delay_ms)
