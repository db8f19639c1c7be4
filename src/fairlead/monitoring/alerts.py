"""Alerts, and how they follow what monitors find. The rules are in `alert_states`."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping

import msgspec

from fairlead.domain.errors import FairleadError, InvalidInput
from fairlead.domain.release import short
from fairlead.monitoring.alert_states import TRANSITIONS, AlertState
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Cause, Change, causes_of, nearest, needed_by
from fairlead.monitoring.course import Course, grown

FLAP_S = 3_600.0
KEEP_S_MAX = 3_600.0
FORGET_S = 3_600.0
GONE_S = 86_400.0
ALERTS_MAX = 10_000
HISTORY_MAX = 20
LABELS_MAX = 16
LABEL_CHARS_MAX = 256
TEXT_CHARS_MAX = 1_000
EVIDENCE_MAX = 20
QUOTES_MAX = 6
QUOTE_CHARS_MAX = 500
QUOTED_S = 300.0
"""Quotes of an alert whose monitor has not looked for so long are dropped: it does not know whether
what they are from is kept still."""
_GREATEST = sys.float_info.max

Labels = tuple[tuple[str, str], ...]
Looked = tuple[str, str]
"""A monitor and the service that it looks at, as in the labels; empty for no service."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of an alert's evidence, as a person reads it.

    Attributes:
        name: What it is, such as `burn rate over 1 h`.
        value: The number.
        unit: Behind it; empty for none.
        limit: What it is compared with, if it is.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def words(self) -> str:
        """`burn rate over 1 h: 20 (limit 14.4)`."""
        unit = f" {self.unit}" if self.unit else ""
        limit = "" if self.limit is None else f" (limit {readable(self.limit)}{unit})"
        return f"{self.name}: {readable(self.value)}{unit}{limit}"


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a monitor finds to be the case now.

    Attributes:
        labels: What it is about, by name: `monitor` and `service` always, others where they apply.
        pending_s: Seconds for which it has to hold before it is an alert.
        keep_s: Seconds for which it has to be away before the alert ends.
        runbook: Address of what to do; empty for none.
        quotes: What was asked or answered, where that tells what it is about. It is in no other
            field, and kept nowhere else than in the alert, while the condition holds.
    """

    labels: Labels
    severity: Severity
    summary: str
    evidence: tuple[Figure, ...] = ()
    pending_s: float = 0.0
    keep_s: float = 300.0
    runbook: str = ""
    quotes: tuple[str, ...] = ()

    @property
    def monitor(self) -> str:
        """The monitor that found it."""
        return dict(self.labels).get("monitor", "")

    @property
    def seen_by(self) -> Looked:
        """The monitor that found it, and of which service."""
        return self.monitor, dict(self.labels).get("service", "")

    @property
    def fingerprint(self) -> str:
        """Names what it is about, and so its alert."""
        return fingerprint(self.labels)


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


def readable(value: float) -> str:
    """Four digits, and the whole number from 1,000 on."""
    if abs(value) == _GREATEST:
        return "inf" if value > 0 else "-inf"
    return f"{value:,.0f}" if 1_000.0 <= abs(value) < 1e15 else f"{value:.4g}"


def labels_of(**labels: str) -> Labels:
    """Labels in the order that the fingerprint needs, those without a value left out.

    A release is named as in all metrics, by the first digits of its digest.
    """
    release = labels.get("release", "")
    if release.startswith("sha256:"):
        labels["release"] = short(release)
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def fingerprint(labels: Labels) -> str:
    """Sixteen hex digits that name the labels, whatever their order."""
    text = msgspec.json.encode(sorted(labels))
    return hashlib.sha256(text).hexdigest()[:16]


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
            is_new = key not in alerts or alert.first_seen != alerts[key].first_seen
            also = (*late, *needed_by(alert.labels, changes))
            after[key] = _with_causes(alert, changes) if is_new else _with_late(alert, also)
    if len(after) > ALERTS_MAX:
        order = sorted(after.values(), key=lambda one: (not one.is_firing, -one.last_seen))
        kept = {alert.fingerprint for alert in order[:ALERTS_MAX]}
        after = {key: alert for key, alert in after.items() if key in kept}
    return after


def check_condition(condition: Condition) -> None:
    """Raises InvalidInput unless it says what it is about, in bounds."""
    names = [name for name, _ in condition.labels]
    where = f"condition of monitor {condition.monitor!r}"
    if not condition.monitor or len(set(names)) != len(names) or len(names) > LABELS_MAX:
        raise InvalidInput(f"{where}: needs a label `monitor`, and each of {LABELS_MAX} once")
    if any(len(text) > LABEL_CHARS_MAX for pair in condition.labels for text in pair):
        raise InvalidInput(f"{where}: a label has more than {LABEL_CHARS_MAX} characters")
    if len(condition.summary) > TEXT_CHARS_MAX or len(condition.evidence) > EVIDENCE_MAX:
        raise InvalidInput(f"{where}: its summary or evidence is too long")
    if len(condition.quotes) > QUOTES_MAX or any(
        len(quote) > QUOTE_CHARS_MAX for quote in condition.quotes
    ):
        raise InvalidInput(f"{where}: it quotes too much")
    for seconds in (condition.pending_s, condition.keep_s):
        if not 0.0 <= seconds < math.inf:
            raise InvalidInput(f"{where}: {seconds} is no time to wait")


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
    return max(-_GREATEST, min(_GREATEST, value))


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
    known = dict.fromkeys((*(cause.change for cause in alert.causes), *changes))
    return msgspec.structs.replace(alert, causes=causes_of(alert.labels, alert.first_seen, known))


def _with_late(alert: Alert, changes: tuple[Change, ...]) -> Alert:
    """With those of the changes that are near, though it began before they were found."""
    known = {cause.change for cause in alert.causes}
    fresh = [change for change in changes if change not in known]
    causes = nearest((*alert.causes, *causes_of(alert.labels, alert.first_seen, fresh)))
    return alert if causes == alert.causes else msgspec.structs.replace(alert, causes=causes)
