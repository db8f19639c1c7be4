"""Who is told of which alerts, and when: routes, groups, and what was told already.

A route has a receiver and says which alerts go there. Alerts of a route with the same values of its
`group_by` are one group, and one message. As in Alertmanager a new group waits for `wait_s`, in
which others may join it; a group in which something has changed is told again after `interval_s`,
and one in which nothing has after `repeat_s`. What was told is remembered as facts (fingerprints
and the time), so that the same question asked twice, or after a crash, gives the same answer; it is
noted when the message has arrived, so that a crash in between tells it twice and never not at all.

Who was told of an alert knows of it until its end was told, also while it is silenced or inhibited,
and in which severity: that it is graver now is news, as a new alert is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import RANK, Severity
from fairlead.monitoring.conditions import Labels
from fairlead.monitoring.inhibition import DEFAULTS, Inhibition, inhibited
from fairlead.monitoring.matching import Matcher, all_match
from fairlead.monitoring.silences import Silence, silenced_by

GROUP_BY_DEFAULT = ("service", "monitor")


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which alerts a receiver is told of.

    Attributes:
        receiver: Its name.
        severities: Severities that go there; empty for all.
        matchers: Further conditions, all of which must hold.
        resolved: Whether it is told of ends, too.
        quotes: Whether it is given what alerts quote of prompts and answers.
    """

    receiver: str
    severities: tuple[Severity, ...] = ()
    matchers: tuple[Matcher, ...] = ()
    group_by: tuple[str, ...] = GROUP_BY_DEFAULT
    wait_s: float = 30.0
    interval_s: float = 300.0
    repeat_s: float = 4 * 3_600.0
    resolved: bool = True
    quotes: bool = False

    def takes(self, alert: Alert) -> bool:
        """Whether this alert goes there."""
        fits = not self.severities or alert.severity in self.severities
        return fits and all_match(self.matchers, {**alert.of, "severity": alert.severity.value})


class Known(NamedTuple):
    """An alert as a receiver was told of it.

    Attributes:
        since: Unix time since which it fires.
    """

    fingerprint: str
    since: float
    severity: Severity


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a receiver knows of a group.

    Attributes:
        at: Unix time in seconds at which it was told last.
        firing: Alerts of whose end it was not told.
    """

    at: float
    firing: tuple[Known, ...]

    def of(self, fingerprint: str) -> Known | None:
        """What it knows of this alert."""
        return next((one for one in self.firing if one.fingerprint == fingerprint), None)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be sent now.

    Attributes:
        key: Names receiver and group; messages of the same group have the same one.
        labels: The values that the group has in common.
        firing, resolved: Its alerts, the gravest first.
        last_told: Unix time at which the receiver was told of the group before; 0 for never.
        known: What the receiver knows, too, and this does not say: alerts that are not told of now.
        known_before: All that it knew before.
    """

    key: str
    receiver: str
    labels: Labels
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    at: float
    last_told: float = 0.0
    known: tuple[Known, ...] = ()
    known_before: tuple[Known, ...] = ()

    @property
    def severity(self) -> Severity:
        """Of its gravest alert."""
        alerts = self.firing or self.resolved
        return min((alert.severity for alert in alerts), key=RANK.__getitem__)

    @property
    def told(self) -> Told:
        """To be kept when it has arrived."""
        return Told(self.at, tuple(sorted((*_firing(self.firing), *self.known))))

    def told_of(self, arrived: Collection[str]) -> Told:
        """The same where only these have arrived, by fingerprint: the others are due still."""
        said = {alert.fingerprint for alert in (*self.firing, *self.resolved)}.intersection(arrived)
        known = (one for one in self.known_before if one.fingerprint not in said)
        fresh = _firing(alert for alert in self.firing if alert.fingerprint in said)
        return Told(self.last_told, tuple(sorted((*fresh, *known))))

    @property
    def delivery(self) -> str:
        """Id of what it says: the same whenever that is sent again, also after a crash."""
        said = (self.key, self.last_told, _firing(self.firing), _firing(self.resolved))
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]


def audible(alerts: Iterable[Alert], silences: Sequence[Silence], now: float) -> list[Alert]:
    """Those that fire and are not silenced, and all that are resolved.

    The end of an alert is told to those who know of it, whatever was silenced in between.
    """
    return [
        alert
        for alert in alerts
        if alert.state is AlertState.RESOLVED
        or (alert.is_firing and silenced_by(alert, silences, now) is None)
    ]


def messages(
    routes: Sequence[Route],
    heard: Iterable[Alert],
    told: Mapping[str, Told],
    now: float,
    rules: Sequence[Inhibition] = DEFAULTS,
) -> list[Message]:
    """What is due now.

    Args:
        heard: The audible alerts.
        told: What was told last, by key.
        rules: Which alerts say all of others. Only what a receiver is told of itself spares it the
            others: an alert that does not go there explains nothing to it.
    """
    every = tuple(heard)
    found = []
    for route in routes:
        groups: dict[Labels, list[Alert]] = {}
        firing = [alert for alert in every if alert.is_firing]
        explained = inhibited(firing, [one for one in firing if route.takes(one)], rules)
        for alert in every:
            if alert.fingerprint in explained:
                continue
            common = _common(route, alert)
            # Who knows of an alert is told of its end, also where its severity has changed.
            if route.takes(alert) or _knows(told.get(_key(route, common)), alert):
                groups.setdefault(common, []).append(alert)
        for common, members in sorted(groups.items()):
            message = _message(route, common, members, told, now)
            if message is not None:
                found.append(message)
    return found


def _common(route: Route, alert: Alert) -> Labels:
    of = alert.of
    return tuple((name, of[name]) for name in route.group_by if name in of)


def _key(route: Route, common: Labels) -> str:
    return f"{route.receiver}/{','.join(f'{name}={value}' for name, value in common)}"


def _knows(told: Told | None, alert: Alert) -> bool:
    return told is not None and told.of(alert.fingerprint) is not None


def _message(
    route: Route,
    common: Labels,
    members: Sequence[Alert],
    told: Mapping[str, Told],
    now: float,
) -> Message | None:
    key = _key(route, common)
    before = told.get(key)
    firing = [alert for alert in members if alert.is_firing]
    resolved = [alert for alert in members if not alert.is_firing and _knows(before, alert)]
    message = Message(
        key=key,
        receiver=route.receiver,
        labels=common,
        firing=_sayable(route, _gravest(firing)),
        resolved=_sayable(route, _gravest(resolved)),
        at=now,
        last_told=0.0 if before is None else before.at,
        known=_unsaid(before, members),
        known_before=() if before is None else before.firing,
    )
    if not _is_due(route, message, before, now):
        return None
    if not firing and not (route.resolved and resolved):
        return None
    return message if route.resolved else msgspec.structs.replace(message, resolved=())


def _sayable(route: Route, alerts: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """As this receiver is told of them."""
    if route.quotes:
        return alerts
    return tuple(
        msgspec.structs.replace(alert, quotes=()) if alert.quotes else alert for alert in alerts
    )


def _is_due(route: Route, message: Message, before: Told | None, now: float) -> bool:
    if before is None or not before.firing:
        return (
            bool(message.firing)
            and now - min(alert.entered_at for alert in message.firing) >= route.wait_s
        )
    is_new = any(_is_news(alert, before) for alert in message.firing)
    if is_new or (message.resolved and (route.resolved or message.firing)):
        return now - before.at >= (route.interval_s if message.firing else 0.0)
    return bool(message.firing) and now - before.at >= route.repeat_s


def _is_news(alert: Alert, told: Told) -> bool:
    known = told.of(alert.fingerprint)
    return (
        known is None
        or known.since != alert.first_seen
        or RANK[alert.severity] < RANK[known.severity]
    )


def _unsaid(told: Told | None, members: Sequence[Alert]) -> tuple[Known, ...]:
    """What is known of alerts that a message of these members is not about."""
    said = {alert.fingerprint for alert in members}
    return () if told is None else tuple(k for k in told.firing if k.fingerprint not in said)


def _firing(alerts: Iterable[Alert]) -> tuple[Known, ...]:
    return tuple(
        sorted(Known(alert.fingerprint, alert.first_seen, alert.severity) for alert in alerts)
    )


def _gravest(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    order = sorted(alerts, key=lambda one: (RANK[one.severity], one.first_seen, one.fingerprint))
    return tuple(order)
