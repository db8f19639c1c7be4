"""An alert message in the form that each kind of receiver takes. Pure.

Texts come from monitors, and so in part from outside: they are cut to what a receiver takes, and
written so that they are no markup there. Chats have no common way to say that: what they would make
something of is written with signs that look alike, or parted by a sign without width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from fairlead.domain.receivers import Email
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.course import sparkline
from fairlead.monitoring.plain import inert, one_line
from fairlead.monitoring.postmortem import span
from fairlead.monitoring.runbooks import annotation, said
from fairlead.monitoring.telling import Message

SCHEMA = 1
ALERTS_MAX = 50
"""Alerts that one message shows; of the others it says how many there are."""

TEXT_MAX = 3_000
SUMMARY_MAX = 1_000
COURSE_MIN = 3
"""Points of a course that a line of blocks is worth."""

NAME_CHARS = 8
"""Of a fingerprint: enough to name an alert."""

ENDS_AFTER_S = 900.0
"""An Alertmanager takes an alert to be over when it has not heard of it for so long. It has to be
longer than a delivery is tried, and is left alone after that: an Alertmanager that was away for
minutes would otherwise say that the alert is over, and page for it again."""

_PAGERDUTY = {Severity.PAGE: "critical", Severity.TICKET: "warning", Severity.INFO: "info"}
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ALIKE = str.maketrans({"*": "\u2217", "`": "\u02cb", "~": "\u223c", "|": "\u2223", "\\": "\u2216"})
_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""What begins or ends emphasis; within a name, such as `service_down`, it does not."""
_LINK = re.compile(r"\](?=[(\[:])")
Words = Callable[[str], str]
"""How words from outside are written."""


def title(message: Message, words: Words = one_line) -> str:
    """One line: `[page, 2 firing] bank: ...`."""
    alerts = message.firing or message.resolved
    state = f"{len(message.firing)} firing" if message.firing else "resolved"
    return f"[{message.severity}, {state}] {words(alerts[0].summary)}"[:SUMMARY_MAX]


def text(message: Message, words: Words = one_line) -> str:
    """The whole message for people, as plain text."""
    lines = [title(message, words)]
    for name, alerts in (("firing", message.firing), ("resolved", message.resolved)):
        for alert in alerts[:ALERTS_MAX]:
            lines += ["", f"{name}: {words(alert.summary)}", *_details(alert, words)]
        if len(alerts) > ALERTS_MAX:
            lines += ["", f"... and {len(alerts) - ALERTS_MAX} more are {name}"]
    body = "\n".join(lines)
    return body if len(body) <= TEXT_MAX else body[:TEXT_MAX] + "\n..."


def for_chats(words: str) -> str:
    """On one line that calls nobody, links and loads nothing, and has no markup of any chat."""
    line = _EDGE.sub("\u02cd", inert(one_line(words))).translate(_ALIKE)
    return _LINK.sub("]\u200b", line)


def webhook(message: Message) -> dict[str, Any]:
    """The JSON body of a webhook."""
    shown = [*message.firing, *message.resolved]
    return {
        "schema": SCHEMA,
        "delivery": message.delivery,
        "key": message.key,
        "receiver": message.receiver,
        "status": "firing" if message.firing else "resolved",
        "severity": message.severity.value,
        "title": title(message),
        "labels": dict(message.labels),
        "alerts": [_alert(alert) for alert in shown[:ALERTS_MAX]],
        "more": max(0, len(shown) - ALERTS_MAX),
    }


def slack(message: Message) -> dict[str, Any]:
    """What Slack's incoming webhooks take; Mattermost and Rocket.Chat read Markdown in it, too."""
    said = text(message, for_chats).translate(_SLACK)
    return {"text": said, "unfurl_links": False, "unfurl_media": False}


def pagerduty(message: Message, routing_key: str) -> list[dict[str, Any]]:
    """Events of the API v2, one for each alert, since each is resolved by its own key."""
    events = [_triggered(alert, routing_key) for alert in message.firing]
    return events + [
        {
            "routing_key": routing_key,
            "event_action": "resolve",
            "dedup_key": f"fairlead/{alert.fingerprint}",
        }
        for alert in message.resolved
    ]


def alertmanager(message: Message) -> list[dict[str, Any]]:
    """What Alertmanager's API v2 takes: labels, annotations, times."""
    return [
        {
            "labels": {"alertname": alert_name(alert), "severity": alert.severity, **alert.of},
            "annotations": _annotations(alert),
            "startsAt": _rfc3339(alert.first_seen),
            "endsAt": _rfc3339(message.at + ENDS_AFTER_S if alert.is_firing else alert.entered_at),
        }
        for alert in (*message.firing, *message.resolved)
    ]


def alert_name(alert: Alert) -> str:
    """`slo_burn` is `FairleadSloBurn`, as Prometheus' alerts are called."""
    words = alert.of.get("monitor", "").replace("-", "_").split("_")
    return "Fairlead" + "".join(word.capitalize() for word in words)


def mail(message: Message, receiver: Email) -> EmailMessage:
    """The mail, with an id that is the same whenever it is sent again."""
    made = EmailMessage()
    made["Subject"] = title(message)
    made["From"] = receiver.sender
    made["To"] = ", ".join(receiver.to)
    made["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
    made["Message-ID"] = f"<{message.delivery}@{receiver.sender.rpartition('@')[2]}>"
    # Mails of one group are one thread.
    made["References"] = f"<{word(message.key)}@{receiver.sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text(message) + "\n")
    return made


def _triggered(alert: Alert, routing_key: str) -> dict[str, Any]:
    of = alert.of
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": f"fairlead/{alert.fingerprint}",
        "client": "fairlead",
        "payload": {
            "summary": one_line(alert.summary)[:SUMMARY_MAX],
            "source": of.get("replica") or of.get("service") or "fairlead",
            "severity": _PAGERDUTY[alert.severity],
            "timestamp": _rfc3339(alert.first_seen),
            "component": of.get("service", ""),
            "class": of.get("monitor", ""),
            "custom_details": {**of, **_annotations(alert)},
        },
    }
    if alert.runbook.startswith(("http://", "https://")):
        event["links"] = [{"href": alert.runbook, "text": "runbook"}]
    return event


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "fingerprint": alert.fingerprint,
        "status": alert.state.value,
        "severity": alert.severity.value,
        "labels": alert.of,
        "summary": alert.summary,
        "evidence": [
            {"name": one.name, "value": one.value, "unit": one.unit, "limit": one.limit}
            for one in alert.evidence
        ],
        "quotes": list(alert.quotes),
        "causes": [cause.words for cause in alert.causes],
        "first_seen": alert.first_seen,
        "last_seen": alert.last_seen,
        "ended": None if alert.is_firing else alert.entered_at,
        "runbook": said(alert.runbook),
    }


def _annotations(alert: Alert) -> Mapping[str, str]:
    found = {
        "summary": one_line(alert.summary),
        "description": "; ".join(figure.words for figure in alert.evidence),
        "quotes": "; ".join(one_line(quote) for quote in alert.quotes),
        "causes": "; ".join(cause.words for cause in alert.causes),
        **annotation(alert.runbook),
    }
    return {name: words[:TEXT_MAX] for name, words in found.items() if words}


def _details(alert: Alert, words: Words) -> list[str]:
    lines = [f"  since {_rfc3339(alert.first_seen)}"]
    if not alert.is_firing:
        lasted = span(alert.entered_at - alert.first_seen)
        lines.append(f"  until {_rfc3339(alert.entered_at)}, after {lasted}")
    lines += [f"  {words(figure.words)}" for figure in alert.evidence]
    if alert.evidence and len(alert.course) >= COURSE_MIN:
        took = span(alert.course[-1][0] - alert.course[0][0])
        name = words(alert.evidence[0].name)
        lines.append(f"  {name}: {sparkline(alert.course)} over {took}")
    lines += [f"  about: {words(quote)}" for quote in alert.quotes]
    lines += [f"  changed near it: {words(cause.words)}" for cause in alert.causes]
    if alert.is_firing:
        lines.append(f"  more: fairlead alerts show {alert.fingerprint[:NAME_CHARS]}")
    return lines + ([f"  runbook: {said(alert.runbook)}"] if alert.runbook else [])


def _rfc3339(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def word(words: str) -> str:
    """Words as a header or an id can hold them."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in words)[:200]
