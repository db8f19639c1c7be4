"""How a release is to be moved to live traffic, and what it is judged by."""

from __future__ import annotations

import enum
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.bounds import check_between
from fairlead.domain.errors import InvalidInput
from fairlead.domain.strata import Strata
from fairlead.rollout.declared import DeclaredMetric, check_declared, check_feedback
from fairlead.rollout.declared import FeedbackRule as FeedbackRule
from fairlead.rollout.prometheus import Prometheus, check_prometheus
from fairlead.rollout.suites import SuiteMetric, check_suites

STEPS_MAX = 20
UNITS_MAX = 1_000_000
REPLICAS_MAX = 1_000
SETTLE_S_MAX = 86_400.0
DEADLINE_S_MAX = 90 * 86_400.0
FINISH_S_MAX = 86_400.0
WARM_UP_S_MAX = 86_400.0
OUTCOMES = ("failed", "unconfirmed")
"""The outcomes of a unit that every rollout is judged by; the second with feedback only."""

HOOKS_MAX = 20
HOOK_TIMEOUT_S_MAX = 300.0
URL_MAX = 2_000


class Strategy(enum.StrEnum):
    """How a release gets its traffic."""

    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    AB = "ab"
    IMMEDIATE = "immediate"


class Point(enum.StrEnum):
    """When a hook is called."""

    BEFORE = "before"
    STEP = "step"
    PROMOTE = "promote"
    AFTER = "after"


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook.

    Attributes:
        at: The points at which it is called.
        timeout_s: How long one answer may take.
        attempts: How often it is tried until it answers.
    """

    url: str
    at: tuple[Point, ...] = (Point.BEFORE, Point.STEP, Point.PROMOTE, Point.AFTER)
    timeout_s: float = 10.0
    attempts: int = 5

    @property
    def host(self) -> str:
        """Scheme and host of its URL: all of it that is shown, since the rest can be a secret."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One share of the traffic, and the least that must be seen at it.

    Attributes:
        share: Probability in (0, 1) with which a unit goes to the canary. All traffic is moved by
            the promotion, not by a step: at share 1 there is no champion to compare with.
        units: Least number of canary units settled in this step.
        seconds: Least time at this step.
        approval: A person has to approve it before it begins.
    """

    share: float
    units: int = 1
    seconds: float = 0.0
    approval: bool = False


class Ramp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The steps are shares among which the rollout chooses, so that its harm stays in a budget.

    Attributes:
        requests: How many more requests may fail for the rollout than without it; 0 to go by
            `share`.
        share: The same as a share of the requests that the service gets until the deadline.
    """

    requests: float = 0.0
    share: float = 0.0


class ShadowRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copies of the champion's requests that the release must stand before it answers anyone.

    Attributes:
        share: Probability in (0, 1] with which a request is copied.
        requests: Units (sessions, users, keys) with a live request and its copy after which it
            goes on, if they are no evidence that the release is worse.
        seconds: Least time with copies; both can be shorter when it is shown not to be worse.
        timeout_s: A copy is ended and has failed after so long, and a live request that took
            longer counts alike. So long after it was sent a pair is final.
        failures_at_most: Of earlier builds' plans; it decides nothing.
    """

    share: float
    requests: int = 50
    seconds: float = 0.0
    timeout_s: float = 30.0
    failures_at_most: float | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rollout's plan. Raises InvalidInput when it does not make sense.

    Attributes:
        shadow: Copies of requests first, whose answers nobody gets; None to begin with the steps.
        steps: Shares of the traffic, each larger than the one before. Without steps there is no
            canary: the release is promoted once its replicas are ready.
        settle_s: Seconds from a unit's first request after which its outcome is final.
        feedback: Feedback that counts; None to judge by server errors alone.
        tolerance: Failure rate by which the canary may be worse before it is rolled back.
        margin: Failure rate by which it must be shown not to be worse to be promoted.
        alpha: Highest probability to roll back a canary that is worse by no more than `tolerance`.
        beta: Highest probability to promote a canary that is worse by `margin` or more.
        deadline_s: Seconds from the first canary traffic, pauses not counted, after which a rollout
            without evidence is rolled back as inconclusive. The shadow has as long for itself.
        expected_failure_rate: The champion's failure rate as far as known; it steers the bets, and
            a wrong one costs speed, not validity.
        expected_units: How many observations that rate is worth.
        champion_replicas: Replicas of the release when it serves all traffic.
        canary_replicas: Replicas of the release while it is evaluated and judged.
        strategy: Its name for people; what happens follows from the other fields.
        hooks: Webhooks that are told, and may refuse.
        approve_promotion: A person has to approve the move of all traffic.
        approval_s: Seconds until a checkpoint that nobody approves ends the rollout.
        ready_s: Seconds until replicas that are not ready end it.
        gates_s: Seconds until gates without a verdict end it.
        gateway_s: Seconds until gateway workers that do not take a split over end it.
        warm_s: Seconds for which the old release's replicas stay after all traffic has moved, and
            the judge may still take it back.
        holdback: Probability with which a unit stays with the old release in that time, so that
            there is something to compare with.
        chooses_steps: Nobody has named the steps: others are chosen when the rollout begins, from
            replicas, traffic and deadline (`choosing`).
        failures_at_most: Failure rate that the release must not exceed once it is champion; None
            for the upper bound of what it was accepted with, and the margin.
        revert: The service goes back by itself when it does.
        finish_s: Seconds for which conversations may finish on the release that they are on when
            it is left, by a rollback or a promotion; 0 to move them at once.
        ramp: The steps are taken by its budget of harm, up and down; None to take one after the
            other.
        metrics: What else it is judged by.
        warm_up_s: Units that are enrolled so soon after the first one of a phase say nothing by
            their amounts, on both arms: fresh replicas have cold caches. Failures count at once.
        prometheus: Queries that it has to stand besides its own records; None for none.
        suites: Suites that are run again while it gets its traffic.
        strata: How requests are told apart by their risk; None to judge them as one.
    """

    steps: tuple[Step, ...] = (Step(0.1, 50), Step(0.5, 100))
    settle_s: float = 10.0
    feedback: FeedbackRule | None = None
    tolerance: float = 0.0
    margin: float = 0.05
    alpha: float = 0.01
    beta: float = 0.05
    deadline_s: float = 3600.0
    expected_failure_rate: float = 0.05
    expected_units: float = 100.0
    champion_replicas: int = 1
    canary_replicas: int = 1
    shadow: ShadowRule | None = None
    strategy: Strategy = Strategy.CANARY
    hooks: tuple[Hook, ...] = ()
    approve_promotion: bool = False
    approval_s: float = 86_400.0
    ready_s: float = 3_600.0
    gates_s: float = 86_400.0
    gateway_s: float = 300.0
    warm_s: float = 0.0
    holdback: float = 0.0
    ramp: Ramp | None = None
    failures_at_most: float | None = None
    revert: bool = False
    finish_s: float = 0.0
    chooses_steps: bool = False
    metrics: tuple[DeclaredMetric, ...] = ()
    warm_up_s: float = 0.0
    prometheus: Prometheus | None = None
    suites: tuple[SuiteMetric, ...] = ()
    strata: Strata | None = None

    @property
    def requires_feedback(self) -> bool:
        """Whether a request without feedback counts as failed."""
        return self.feedback is not None and self.feedback.required

    @property
    def samples_feedback(self) -> bool:
        """Whether feedback is given on a sample, by a judge model."""
        return self.feedback is not None and self.feedback.sampled

    @property
    def awaits_judge(self) -> bool:
        """Whether a verdict has to wait for what a judge model says."""
        return self.samples_feedback or any(metric.sampled for metric in self.metrics)

    @property
    def alpha_parts(self) -> int:
        """Into how many parts `alpha` is divided: judges, the shadow, counts, suites."""
        has_counts = bool(self.prometheus and self.prometheus.counts)
        parts = (self.awaits_judge, self.shadow is not None, has_counts, bool(self.suites))
        return 1 + sum(parts)

    @property
    def judge_alpha(self) -> float:
        """The part of `alpha` that is the judge's, and the early judge's as well."""
        return self.alpha / self.alpha_parts

    @property
    def shadow_alpha(self) -> float:
        """The part of `alpha` that is the shadow's."""
        return self.alpha / self.alpha_parts

    @property
    def unsampled(self) -> Plan:
        """The same without all that a judge model says."""
        if not self.awaits_judge:
            return self
        kept = [metric for metric in self.metrics if not metric.sampled]
        feedback = None if self.samples_feedback else self.feedback
        return msgspec.structs.replace(self, feedback=feedback, metrics=tuple(kept))

    @property
    def early(self) -> Plan | None:
        """What the early judge judges by: what needs no judge model, with its part of `alpha`.

        None where there is no early judge, since nothing waits for a judge model.
        """
        if not self.awaits_judge:
            return None
        return msgspec.structs.replace(
            self.unsampled, alpha=self.judge_alpha, prometheus=None, shadow=None, suites=()
        )

    def __post_init__(self) -> None:
        self._check_steps()
        check_between("settle_s", self.settle_s, 0.0, SETTLE_S_MAX)
        check_between("tolerance", self.tolerance, 0.0, 0.4)
        check_between("margin", self.margin, 0.0005, 0.5)
        if self.margin <= self.tolerance:
            raise InvalidInput(
                f"margin: {self.margin:g} is not above the tolerance, {self.tolerance:g}",
                hint="else the same release could be good enough to promote and to roll back",
            )
        check_between("alpha", self.alpha, 1e-9, 0.5)
        check_between("beta", self.beta, 1e-9, 0.5)
        check_between("expected_failure_rate", self.expected_failure_rate, 0.0, 1.0)
        check_between("expected_units", self.expected_units, 1.0, 1e9)
        check_between("champion_replicas", self.champion_replicas, 1, REPLICAS_MAX)
        check_between("canary_replicas", self.canary_replicas, 1, REPLICAS_MAX)
        least = sum(step.seconds for step in self.steps) + self.settle_s
        check_between("deadline_s", self.deadline_s, 0.0, DEADLINE_S_MAX)
        if self.steps and self.deadline_s <= least:
            raise InvalidInput(
                f"deadline_s: {self.deadline_s:g} s is not enough for the steps, which take at "
                f"least {least:g} s",
                hint="raise deadline_s, or shorten the steps or settle_s",
            )
        if self.shadow is not None:
            _check_shadow(self.shadow, self.deadline_s)
        for name in ("approval_s", "ready_s", "gates_s", "gateway_s"):
            check_between(name, getattr(self, name), 1.0, DEADLINE_S_MAX)
        check_between("warm_s", self.warm_s, 0.0, DEADLINE_S_MAX)
        check_between("finish_s", self.finish_s, 0.0, FINISH_S_MAX)
        check_between("holdback", self.holdback, 0.0, 0.5)
        if self.holdback and not self.warm_s:
            raise InvalidInput(
                "holdback: without warm_s there is no time in which it would hold units back"
            )
        if self.failures_at_most is not None:
            check_between("failures_at_most", self.failures_at_most, 0.0001, 0.5)
        if self.ramp is not None:
            _check_ramp(self.ramp, self.steps)
        self._check_hooks()
        if self.feedback is not None:
            check_feedback("feedback", self.feedback)
        check_declared(self.metrics, OUTCOMES)
        for metric in self.metrics:
            metric.tests(self.tolerance)  # raises where both tolerances are more than its margin
        check_between("warm_up_s", self.warm_up_s, 0.0, WARM_UP_S_MAX)
        if self.prometheus is not None:
            check_prometheus(self.prometheus)
        check_suites(self.suites, {*OUTCOMES, *(metric.name for metric in self.metrics)})

    def _check_hooks(self) -> None:
        if len(self.hooks) > HOOKS_MAX:
            raise InvalidInput(f"hooks: {len(self.hooks)} of them; at most {HOOKS_MAX}")
        for number, hook in enumerate(self.hooks):
            where = f"hooks[{number}]"
            if not is_hook_url(hook.url):
                raise InvalidInput(
                    f"{where}.url: must be an http or https address with a host and without a "
                    f"user in it, of at most {URL_MAX:,} characters"
                )
            if not hook.at:
                raise InvalidInput(f"{where}.at: names no point at which it would be called")
            check_between(f"{where}.timeout_s", hook.timeout_s, 0.1, HOOK_TIMEOUT_S_MAX)
            check_between(f"{where}.attempts", hook.attempts, 1, 20)

    def _check_steps(self) -> None:
        if len(self.steps) > STEPS_MAX:
            raise InvalidInput(f"steps: {len(self.steps)} of them; at most {STEPS_MAX}")
        before = 0.0
        for number, step in enumerate(self.steps):
            where = f"steps[{number}]"
            if not 0.0 < step.share < 1.0:
                raise InvalidInput(
                    f"{where}.share: {step.share:g} is not above 0 and below 1",
                    hint="leave a step of 100 % out: the promotion itself moves all traffic",
                )
            if step.share <= before:
                raise InvalidInput(
                    f"{where}.share: {step.share:g} is not larger than {before:g} before it",
                    hint="order the steps by their share",
                )
            check_between(f"{where}.units", step.units, 1, UNITS_MAX)
            check_between(f"{where}.seconds", step.seconds, 0.0, DEADLINE_S_MAX)
            before = step.share


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.3g}%"


def is_hook_url(url: str) -> bool:
    """Whether a hook can be called by this URL, and named by its host."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_plain = parts.scheme in ("http", "https") and "@" not in parts.netloc
    return is_plain and has_host and len(url) <= URL_MAX


def _check_ramp(ramp: Ramp, steps: tuple[Step, ...]) -> None:
    if not steps:
        raise InvalidInput("ramp: there are no steps that it could take")
    check_between("ramp.requests", ramp.requests, 0.0, 1e9)
    check_between("ramp.share", ramp.share, 0.0, 1.0)
    if (ramp.requests > 0.0) == (ramp.share > 0.0):
        raise InvalidInput("ramp: needs a budget above 0, either in requests or as a share")


def _check_shadow(shadow: ShadowRule, deadline_s: float) -> None:
    check_between("shadow.share", shadow.share, 0.0, 1.0, above=True)
    check_between("shadow.requests", shadow.requests, 1, UNITS_MAX)
    check_between("shadow.timeout_s", shadow.timeout_s, 0.001, SETTLE_S_MAX)
    check_between("shadow.seconds", shadow.seconds, 0.0, DEADLINE_S_MAX)
    if shadow.seconds >= deadline_s:
        raise InvalidInput(
            f"shadow.seconds: {shadow.seconds:g} is not below the deadline_s, {deadline_s:g}"
        )
