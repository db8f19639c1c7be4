"""Alerts, and how they follow what monitors find. The rules are in `alert_states`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from fairlead.domain.errors import FairleadError
from fairlead.monitoring.alert_states import TRANSITIONS, AlertState
from fairlead.monitoring.baseline import Baseline
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Cause, Change, causes_of, inferred, nearest, needed_by
from fairlead.monitoring.conditions import (
    GREATEST,
    TEXT_CHARS_MAX,
    Condition,
    Figure,
    Labels,
    Looked,
    check_condition,
)
from fairlead.monitoring.course import Course, grown

FLAP_S = 3_600.0
KEEP_S_MAX = 3_600.0
FORGET_S = 3_600.0
GONE_S = 86_400.0
ALERTS_MAX = 10_000
HISTORY_MAX = 20
QUOTED_S = 300.0
"""Quotes of an alert whose monitor has not looked for so long are dropped: it does not know whether
what they are from is kept still."""


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transition that an alert took."""

    at: float
    to: AlertState
    why: str


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is wrong, from when it was first seen on.

    Attributes:
        fingerprint: Its id: a hash of the labels.
        first_seen, last_seen: Unix times of its condition in this episode.
        entered_at: Unix time since which it is in its state.
        looked_at: Unix time at which its monitor has last looked.
        away_since: Unix time since which its condition is away, while it still fires.
        keep_s: Seconds for which it has to be away, more with each return.
        returns: Unix times at which it came back soon after it had been resolved.
        causes: What changed near its beginning, the nearest first.
        history: Its last transitions.
        course: How the first figure of its evidence went in this episode.
        quotes: As of its condition; none once that is away.
        baseline: As of its condition.
    """

    fingerprint: str
    labels: Labels
    severity: Severity
    state: AlertState
    summary: str
    evidence: tuple[Figure, ...]
    runbook: str
    first_seen: float
    last_seen: float
    entered_at: float
    looked_at: float
    keep_s: float
    away_since: float | None = None
    returns: tuple[float, ...] = ()
    causes: tuple[Cause, ...] = ()
    history: tuple[Turn, ...] = ()
    course: Course = ()
    quotes: tuple[str, ...] = ()
    baseline: Baseline | None = None

    @property
    def of(self) -> dict[str, str]:
        """The labels by name."""
        return dict(self.labels)

    @property
    def seen_by(self) -> Looked:
        """The monitor whose looks end it, and of which service."""
        of = self.of
        return of.get("monitor", ""), of.get("service", "")

    @property
    def is_firing(self) -> bool:
        """Whether somebody should know of it now."""
        return self.state is AlertState.FIRING


def observe(
    alerts: Mapping[str, Alert],
    conditions: Iterable[Condition],
    looked: Iterable[Looked],
    now: float,
    changes: Iterable[Change] = (),
) -> dict[str, Alert]:
    """The alerts after the monitors have looked, by fingerprint.

    Args:
        conditions: All that hold now. Of two about the same thing the last one counts.
        looked: Monitors that have looked, and at which service; alerts of others stay as they are.
        changes: What has changed lately, for the causes of what begins now. What is found out late,
            by looking, joins those of what began before.

    Of more than `ALERTS_MAX` alerts those that fire are kept first, and then the latest. Raises
    InvalidInput for a condition that makes no sense.
    """
    found: dict[str, Condition] = {}
    for condition in conditions:
        check_condition(condition)
        found[condition.fingerprint] = condition
    known, after = frozenset(looked), dict[str, Alert]()
    changes = tuple(changes)
    late = tuple(change for change in changes if change.is_found_late)
    for key in sorted({*alerts, *found}):
        alert = _next(alerts.get(key), found.get(key), known, now)
        if alert is not None:
            is_new = key not in alerts or _about(alert) != _about(alerts[key])
            also = (*late, *needed_by(alert.labels, changes))
            after[key] = _with_causes(alert, changes) if is_new else _with_late(alert, also)
    if len(after) > ALERTS_MAX:
        order = sorted(after.values(), key=lambda one: (not one.is_firing, -one.last_seen))
        kept = {alert.fingerprint for alert in order[:ALERTS_MAX]}
        after = {key: alert for key, alert in after.items() if key in kept}
    return after


def _next(
    alert: Alert | None, condition: Condition | None, looked: frozenset[Looked], now: float
) -> Alert | None:
    if condition is not None:
        if alert is None or _is_past(alert, now):
            return _fired_if_due(_begin(condition, now), condition, now)
        return _holding(_told(alert, condition, now), condition, now)
    assert alert is not None
    if alert.seen_by not in looked:
        return _unwatched(alert, now)
    return _away(alert, now)


def _is_past(alert: Alert, now: float) -> bool:
    """Whether it was resolved so long ago that a return is another alert."""
    return alert.state is AlertState.RESOLVED and now - alert.entered_at >= FORGET_S


def _evidence(condition: Condition) -> tuple[Figure, ...]:
    """What can be kept and sent, as JSON has neither: infinite is the greatest number there is, and
    a figure that is no number is none."""
    return tuple(
        msgspec.structs.replace(
            figure,
            value=_finite(figure.value),
            limit=None if figure.limit is None or math.isnan(figure.limit)
            else _finite(figure.limit),
        )
        for figure in condition.evidence
        if not math.isnan(figure.value)
    )  # fmt: skip


def _finite(value: float) -> float:
    return max(-GREATEST, min(GREATEST, value))


def _course(before: Alert | None, condition: Condition, now: float) -> Course:
    """With the first figure as it is now; another figure begins a course of its own."""
    if not condition.evidence:
        return ()
    first = condition.evidence[0]
    is_same = before is not None and [one.name for one in before.evidence[:1]] == [first.name]
    return grown(before.course if before is not None and is_same else (), now, first.value)


def _begin(condition: Condition, now: float) -> Alert:
    return Alert(
        fingerprint=condition.fingerprint,
        labels=tuple(sorted(condition.labels)),
        severity=condition.severity,
        state=AlertState.PENDING,
        summary=condition.summary,
        evidence=_evidence(condition),
        runbook=condition.runbook,
        first_seen=now,
        last_seen=now,
        entered_at=now,
        looked_at=now,
        keep_s=condition.keep_s,
        course=_course(None, condition, now),
        quotes=condition.quotes,
        baseline=condition.baseline,
    )


def _told(alert: Alert, condition: Condition, now: float) -> Alert:
    return msgspec.structs.replace(
        alert,
        severity=condition.severity,
        summary=condition.summary,
        evidence=_evidence(condition),
        runbook=condition.runbook,
        last_seen=max(now, alert.last_seen),
        looked_at=max(now, alert.looked_at),
        away_since=None,
        course=_course(alert, condition, now),
        quotes=condition.quotes,
        baseline=condition.baseline,
    )


def _holding(alert: Alert, condition: Condition, now: float) -> Alert:
    if alert.state is AlertState.RESOLVED:
        return _back(alert, condition, now)
    return _fired_if_due(alert, condition, now)


def _fired_if_due(alert: Alert, condition: Condition, now: float) -> Alert:
    if alert.state is AlertState.PENDING and now - alert.first_seen >= condition.pending_s:
        return _go(alert, AlertState.FIRING, now, condition.summary)
    return alert


def _back(alert: Alert, condition: Condition, now: float) -> Alert:
    """It was resolved, and its condition is there again."""
    returns = (*(at for at in alert.returns if now - at < FLAP_S), now)[-HISTORY_MAX:]
    keep_s = min(KEEP_S_MAX, max(condition.keep_s, 60.0) * 2.0 ** len(returns))
    again = msgspec.structs.replace(
        alert,
        first_seen=now,
        returns=returns,
        keep_s=max(condition.keep_s, keep_s),
        course=_course(None, condition, now),
    )
    times = f"{len(returns)} time{'s' if len(returns) > 1 else ''} within an hour"
    return _go(again, AlertState.FIRING, now, f"back ({times})")


def _unwatched(alert: Alert, now: float) -> Alert | None:
    if alert.state is AlertState.RESOLVED:
        return None if _is_past(alert, now) else alert
    if now - alert.looked_at >= QUOTED_S and alert.quotes:
        alert = msgspec.structs.replace(alert, quotes=())
    if now - alert.looked_at < GONE_S:
        return alert
    if alert.state is AlertState.PENDING:
        return None
    return _go(alert, AlertState.RESOLVED, now, "its monitor has not looked for a day")


def _away(alert: Alert, now: float) -> Alert | None:
    if alert.state is AlertState.PENDING:
        return None
    if alert.state is AlertState.RESOLVED:
        return None if _is_past(alert, now) else alert
    since = now if alert.away_since is None else alert.away_since
    seen = msgspec.structs.replace(
        alert, away_since=since, looked_at=max(now, alert.looked_at), quotes=()
    )
    if now - since < alert.keep_s:
        return seen
    return _go(seen, AlertState.RESOLVED, now, f"away for {alert.keep_s:g} s")


def _go(alert: Alert, to: AlertState, now: float, why: str) -> Alert:
    if to not in TRANSITIONS[alert.state]:
        past = "; ".join(f"{turn.at:.0f} {turn.to}: {turn.why}" for turn in alert.history)
        raise FairleadError(
            f"alert {alert.fingerprint} cannot go from {alert.state} to {to} ({why}); {past}"
        )
    turn = Turn(now, to, why[:TEXT_CHARS_MAX])
    return msgspec.structs.replace(
        alert, state=to, entered_at=now, history=(*alert.history, turn)[-HISTORY_MAX:]
    )


def _with_causes(alert: Alert, changes: tuple[Change, ...]) -> Alert:
    """With what is known by now; what was known before is not forgotten."""
    before = (cause.change for cause in alert.causes if not cause.change.is_inferred)
    known = dict.fromkeys((*before, *changes))
    causes = causes_of(alert.labels, alert.first_seen, known, _learnt_since(alert))
    if alert.baseline is not None:
        causes = nearest((*causes, *inferred(alert.labels, alert.first_seen, alert.baseline)))
    return msgspec.structs.replace(alert, causes=causes)


def _about(alert: Alert) -> tuple[float, Baseline | None]:
    """What its causes go by: where it is other, they are looked for anew."""
    return alert.first_seen, alert.baseline


def _learnt_since(alert: Alert) -> float | None:
    return None if alert.baseline is None else alert.baseline.since_before(alert.first_seen)


def _with_late(alert: Alert, changes: tuple[Change, ...]) -> Alert:
    """With those of the changes that are near, though it began before they were found."""
    known = {cause.change for cause in alert.causes}
    fresh = [change for change in changes if change not in known]
    late = causes_of(alert.labels, alert.first_seen, fresh, _learnt_since(alert))
    causes = nearest((*alert.causes, *late))
    return alert if causes == alert.causes else msgspec.structs.replace(alert, causes=causes)
