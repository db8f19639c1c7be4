"""What is done about an alert, by declared policy: a pure decision, with its reason.

Rules
- A policy names one action and the alerts it is for. `decide` looks at one firing alert and one
  policy; whatever it says is an audit entry, also when nothing is to be done.
- Once for each episode of an alert: the same alert, still firing, asks for nothing a second time.
- Then come the limits: not again within `cooldown_s` of the last time that this kind of action was
  done to this service, by whichever policy, and not more than `per_day_max` times within 24 hours.
  Dry runs count for both among themselves, so that a dry run shows what would have happened and
  keeps nothing real from being done.
- Going back helps against what came with a release, and nothing else. So it is not done while a
  rollout is under way, unless the alert names the release that serves; nor when that had served
  well for longer than `within_s` before the alert; nor when that one came by going back itself,
  less than `BACK_S` ago: the windows of an alert still hold what was before.
- What is decided has an absolute target (a release, a number of replicas), so that doing it twice
  does no more than once; what is to be done until when is said in `carrying_out`.
- An action that has nothing to act on is impossible, and says why. That is no failure of the alert,
  which people are told of anyway.
- An alert that a monitor is blind leads to no action: what nobody sees is no reason to change it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fairlead.domain.release import shortened
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.matching import Matcher, all_match
from fairlead.monitoring.monitors.moments import to_second
from fairlead.monitoring.plain import brief

MONITOR = "actions"
DAY_S = 86_400.0
BACK_S = DAY_S
"""Longer than the longest window of a page, 18 hours with a period of 90 days."""

ALERTS_MAX = 50
"""Alerts that one policy looks at in one look, the first ones first."""

HISTORY_S = 7 * DAY_S
"""Audit entries older than that are of no use to a decision."""


class ActionKind(enum.StrEnum):
    """What can be done."""

    ROLL_BACK = "roll_back"
    PAUSE_ROLLOUT = "pause_rollout"
    FALLBACK = "fallback"
    SCALE = "scale"
    RERUN_GATE = "rerun_gate"
    PROPOSE_RETRAINING = "propose_retraining"
    TIGHTEN_GUARDRAIL = "tighten_guardrail"
    ADD_CASES = "add_cases"


class ActionVerdict(enum.StrEnum):
    """What becomes of a policy on an alert."""

    ACT = "act"
    DRY_RUN = "dry_run"
    NOT_MEANT = "not_meant"
    DONE = "done"
    COOLING = "cooling"
    DAY_LIMIT = "day_limit"
    IMPOSSIBLE = "impossible"


ACTED = (ActionVerdict.ACT, ActionVerdict.DRY_RUN)


class ActionPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One declared reaction.

    Attributes:
        monitors: Values of the label `monitor` that it is for.
        severities: Severities that it is for.
        matchers: Further conditions on the labels.
        replicas_more: For `scale`: how many more replicas.
        guardrail: For `tighten_guardrail`: which one; empty for all that only flag.
        within_s: For `roll_back`: for how long at most the champion had served before the alert.
        cases_max, minimum: For `add_cases`: how many, and the least mean score of them.
    """

    kind: ActionKind
    monitors: tuple[str, ...]
    severities: tuple[Severity, ...] = (Severity.PAGE,)
    matchers: tuple[Matcher, ...] = ()
    cooldown_s: float = 3_600.0
    per_day_max: int = 3
    dry_run: bool = False
    replicas_more: int = 1
    within_s: float = 6 * 3_600.0
    guardrail: str = ""
    cases_max: int = 20
    minimum: float = 0.8

    @property
    def id(self) -> str:
        """Names the policy within its service, as long as it says the same."""
        what = f"{self.kind}={self.guardrail}" if self.guardrail else self.kind
        return f"{what}:{','.join(sorted(set(self.monitors)))}"


class Circumstances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What there is of the service to act on, as observed now.

    Attributes:
        champion: Digest of the release that serves; None for none.
        champion_since: Unix time since which it does.
        last_good: Digest of the release before it that was promoted and not rolled back.
        rollout: Id of the rollout under way; None for none.
        rollout_is_paused: Whether it is paused already.
        fallbacks: Services that could answer instead.
        replicas, replicas_max: How many of the champion are declared, and how many there is room
            for.
        gates: How many gates the release has.
        keeps_prompts: Whether prompts of its requests are kept.
        guardrails: Names of the guardrails of the champion that only flag, as they hold now.
    """

    champion: str | None = None
    champion_since: float = 0.0
    last_good: str | None = None
    rollout: str | None = None
    rollout_is_paused: bool = False
    fallbacks: tuple[str, ...] = ()
    on_fallback: bool = False
    replicas: int = 0
    replicas_max: int = 0
    gates: int = 0
    keeps_prompts: bool = False
    guardrails: tuple[str, ...] = ()


class ActionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decision, as the audit keeps it.

    Attributes:
        policy: The policy's id.
        episode: Unix time at which the alert was first seen: with its fingerprint the episode.
        target: What is acted on: a release, a rollout, a service or a number of replicas.
        settled_at: Unix time at which it was carried out or given up; None while it is neither.
        outcome: What came of it.
    """

    at: float
    service: str
    policy: str
    kind: ActionKind
    verdict: ActionVerdict
    alert: str
    episode: float
    target: str
    reason: str
    settled_at: float | None = None
    outcome: str = ""

    @property
    def key(self) -> tuple[str, str, str, float, float]:
        """Tells it from all others."""
        return (self.service, self.policy, self.alert, self.episode, self.at)

    @property
    def words(self) -> str:
        """The decision as one line."""
        return self._said(self.reason)

    @property
    def story(self) -> str:
        """The same for who has read the alert: without what that says."""
        return self._said(self.reason.partition(": ")[0])

    def _said(self, why: str) -> str:
        verdict = "" if self.verdict is ActionVerdict.ACT else f" ({self.verdict})"
        target = f" {shortened(self.target)}" if self.target else ""
        return f"{self.kind}{target}{verdict}: {why}"


class _Nothing(Exception):
    """There is nothing to act on; the message says why."""


def decide_all(
    alerts: Iterable[Alert],
    policies: Sequence[ActionPolicy],
    history: Sequence[ActionEntry],
    circumstances: Circumstances,
    now: float,
) -> tuple[ActionEntry, ...]:
    """New audit entries of one service, in order; what one does counts for the next.

    Policies need ids of their own (`check_policies`); two with one id take turns in the audit.
    A verdict that says the same as the last one on the same alert and policy is not entered again.
    """
    known = list(history)
    firing = [alert for alert in alerts if alert.is_firing]
    for policy in policies:
        meant = [alert for alert in firing if _is_meant(alert, policy)]
        meant.sort(key=lambda one: (one.first_seen, one.fingerprint))
        for alert in meant[:ALERTS_MAX]:
            entry = decide(alert, policy, known, circumstances, now)
            if entry.verdict is not ActionVerdict.DONE and not _is_repeated(entry, known):
                known.append(entry)
    return tuple(known[len(history) :])


def decide(
    alert: Alert,
    policy: ActionPolicy,
    history: Sequence[ActionEntry],
    circumstances: Circumstances,
    now: float,
) -> ActionEntry:
    """What this policy does about this alert, and why.

    Args:
        history: Audit entries, the oldest first; those of other services and kinds do not count.
    """
    verdict, target, reason = _verdict(alert, policy, history, circumstances, now)
    return ActionEntry(
        at=now,
        service=alert.of.get("service", ""),
        policy=policy.id,
        kind=policy.kind,
        verdict=verdict,
        alert=alert.fingerprint,
        episode=alert.first_seen,
        target=target,
        reason=reason,
    )


def _verdict(
    alert: Alert,
    policy: ActionPolicy,
    history: Sequence[ActionEntry],
    circumstances: Circumstances,
    now: float,
) -> tuple[ActionVerdict, str, str]:
    if not _is_meant(alert, policy):
        return ActionVerdict.NOT_MEANT, "", "the policy is not for this alert"
    acts = list(_acts(policy, alert, history))
    if any((e.alert, e.episode) == (alert.fingerprint, alert.first_seen) for e in acts):
        return ActionVerdict.DONE, "", "it was done for this alert already"
    last = max((entry.at for entry in acts), default=-math.inf)
    if now - last < policy.cooldown_s:
        # Its end stays the same at every look, and so do the words.
        end = to_second(last + policy.cooldown_s)
        return ActionVerdict.COOLING, "", f"cooling down until {end}"
    recent = [entry for entry in acts if now - entry.at < DAY_S]
    if len(recent) >= policy.per_day_max:
        times = f"{len(recent)} times within a day"
        return ActionVerdict.DAY_LIMIT, "", f"done {times} already, and {policy.per_day_max} is all"
    try:
        target, reason = _TARGETS[policy.kind](alert, policy, circumstances)
        if policy.kind is ActionKind.ROLL_BACK:
            backs = _acts(msgspec.structs.replace(policy, dry_run=False), alert, history)
            _check_new(circumstances.champion or "", backs, now)
    except _Nothing as error:
        return ActionVerdict.IMPOSSIBLE, "", str(error)
    return _done(policy), target, f"{reason}: {brief(alert.summary)}"


def _is_meant(alert: Alert, policy: ActionPolicy) -> bool:
    monitor = alert.of.get("monitor", "")
    return (
        alert.is_firing
        and monitor != BLIND
        and monitor in policy.monitors
        and alert.severity in policy.severities
        and all_match(policy.matchers, alert.of)
    )


def _acts(
    policy: ActionPolicy, alert: Alert, history: Sequence[ActionEntry]
) -> Iterator[ActionEntry]:
    """What was done by policies like this one: really, or as a dry run."""
    service, done = alert.of.get("service", ""), _done(policy)
    return (
        entry
        for entry in history
        if entry.kind is policy.kind and entry.service == service and entry.verdict is done
    )


def _done(policy: ActionPolicy) -> ActionVerdict:
    return ActionVerdict.DRY_RUN if policy.dry_run else ActionVerdict.ACT


def _is_repeated(entry: ActionEntry, history: Sequence[ActionEntry]) -> bool:
    def about(one: ActionEntry) -> tuple[str, str, str, float]:
        return (one.service, one.policy, one.alert, one.episode)

    last = [known for known in history if about(known) == about(entry)]
    return bool(last) and (last[-1].verdict, last[-1].reason) == (entry.verdict, entry.reason)


def _check_new(champion: str, backs: Iterable[ActionEntry], now: float) -> None:
    """Raises _Nothing for a champion that serves because of a rollback of lately."""
    if any(entry.target == champion and now - entry.at < BACK_S for entry in backs):
        raise _Nothing("the release that serves was gone back to less than a day ago")


def _roll_back(alert: Alert, policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.champion is None or seen.last_good is None:
        raise _Nothing("there is no earlier release to go back to")
    if seen.last_good == seen.champion:
        raise _Nothing("the last good release serves already")
    if seen.champion_since > alert.first_seen:
        raise _Nothing("the release that serves came after the alert began")
    release = alert.of.get("release", "")
    if release and not seen.champion.removeprefix("sha256:").startswith(
        release.removeprefix("sha256:")
    ):
        raise _Nothing("the alert is about a release that does not serve")
    if seen.rollout is not None and not release:
        raise _Nothing("a rollout is under way, and the alert does not say which release it is of")
    if alert.first_seen - seen.champion_since > policy.within_s:
        hours = f"{policy.within_s / 3_600:g} hours"
        raise _Nothing(f"the release that serves had served for more than {hours} before the alert")
    return seen.last_good, "back to the last good release"


def _pause(_alert: Alert, _policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.rollout is None:
        raise _Nothing("there is no rollout under way")
    if seen.rollout_is_paused:
        raise _Nothing("the rollout is paused already")
    return seen.rollout, "the rollout waits"


def _fallback(_alert: Alert, _policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if not seen.fallbacks:
        raise _Nothing("no fallback is declared that could answer")
    if seen.on_fallback:
        raise _Nothing("the fallback answers already")
    return seen.fallbacks[0], "traffic to the fallback"


def _scale(_alert: Alert, policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.rollout is not None:
        raise _Nothing("a rollout is under way, and brings replicas of its own")
    wanted = min(seen.replicas + policy.replicas_more, seen.replicas_max)
    if wanted <= seen.replicas:
        raise _Nothing(f"there is no room for more than {seen.replicas} replicas")
    return str(wanted), f"from {seen.replicas} to {wanted} replicas"


def _rerun(_alert: Alert, _policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.champion is None or seen.gates == 0:
        raise _Nothing("the release that serves has no gates")
    return seen.champion, "its gates are run again"


def _add_cases(_alert: Alert, _policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.champion is None:
        raise _Nothing("no release serves")
    if not seen.keeps_prompts:
        raise _Nothing("no prompts are kept: declare `capture` with `prompts`, and ship that")
    return seen.champion, "what is asked now becomes cases"


def _retrain(_alert: Alert, _policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    if seen.champion is None:
        raise _Nothing("no release serves")
    return seen.champion, "a new training is proposed"


def _tighten(_alert: Alert, policy: ActionPolicy, seen: Circumstances) -> tuple[str, str]:
    wanted = [name for name in seen.guardrails if policy.guardrail in ("", name)]
    if not wanted:
        which = f"{policy.guardrail} " if policy.guardrail else ""
        raise _Nothing(f"the release that serves has no guardrail {which}that only flags")
    return ",".join(wanted), f"guardrail {', '.join(wanted)} blocks"


_TARGETS = {
    ActionKind.ROLL_BACK: _roll_back,
    ActionKind.PAUSE_ROLLOUT: _pause,
    ActionKind.FALLBACK: _fallback,
    ActionKind.SCALE: _scale,
    ActionKind.RERUN_GATE: _rerun,
    ActionKind.PROPOSE_RETRAINING: _retrain,
    ActionKind.TIGHTEN_GUARDRAIL: _tighten,
    ActionKind.ADD_CASES: _add_cases,
}
